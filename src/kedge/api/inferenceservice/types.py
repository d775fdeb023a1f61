"""The InferenceService's shape: the complete spec of `serving.kserve.io/v1beta1`.

The status is in `status_types`. Field descriptions below are what `kubectl explain` shows.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from lightkube.models import apps_v1, autoscaling_v2, meta_v1

from kedge.api.inferenceservice.status_types import InferenceServiceStatus
from kedge.api.podspec import ContainerFields, PodSpecFields

NAME_PATTERN = "^[a-z]([-a-z0-9]*[a-z0-9])?$"

Quantity = int | float | str
"""A Kubernetes quantity; YAML may make it a number."""


class ModelFormat(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The framework that wrote a model's files.

    Attributes:
        name: framework, as a runtime's `supportedModelFormats` spells it: sklearn, xgboost,
            lightgbm, onnx, ...
        version: framework version, compared as text with the runtime's; any when unset.
    """

    name: str
    version: str | None = None


class StorageSpec(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A model in an object store, with credentials from a secret.

    Attributes:
        path: path of the model inside the store.
        key: entry of the storage secret that holds type, bucket and credentials.
        parameters: overrides of that entry: `type` (s3, hdfs, webhdfs), `bucket`, ...
        schemaPath: path of the model's schema file.
    """

    path: str | None = None
    key: str | None = None
    parameters: dict[str, str] | None = None
    schemaPath: str | None = None


class ConfidentialSpec(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Encrypted model files.

    Attributes:
        enabled: decrypt after download.
        resourceId: the key, `kbs:///repository/type/tag`.
    """

    enabled: bool
    resourceId: str | None = None


class StorageUri(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One of several places that model files come from.

    Attributes:
        uri: where the files are.
        mountPath: folder in the container where they appear.
    """

    uri: Annotated[str, msgspec.Meta(min_length=1)]
    mountPath: Annotated[str, msgspec.Meta(pattern="^/.*", max_length=255)] = "/mnt/models"


class FrameworkSpec(ContainerFields, kw_only=True, omit_defaults=True):
    """A model under its framework's name, the older form of `model`.

    Attributes:
        storageUri: where the model is: a path, `file://`, `pvc://claim/path`, `http(s)://`, `s3://`,
            `gs://`, `hf://`, `oci://`, ...
        storage: the model in an object store, with credentials from a secret; not with
            `storageUri`'s path.
        runtimeVersion: tag of the runtime's image.
        protocolVersion: protocol the model must answer: `v1`, `v2`, `grpc-v1` or `grpc-v2`; `v1`
            when unset.
        confidential: decrypt the model's files.
        name: not allowed here, the container is always `kserve-container`.
        image: image in place of the runtime's.
        args: arguments appended to the runtime's.
        command: entrypoint in place of the runtime's.
        env: environment, over the runtime's by name.
        resources: requests and limits, over the runtime's by name.
    """

    storageUri: str | None = None
    storage: StorageSpec | None = None
    runtimeVersion: str | None = None
    protocolVersion: str | None = None
    confidential: ConfidentialSpec | None = None


class ModelSpec(FrameworkSpec, kw_only=True, omit_defaults=True):
    """A model and where it is; a runtime that reads its format serves it. Any container field given
    here (args, env, resources, ...) is merged over the runtime's.

    Attributes:
        modelFormat: the framework that wrote the model's files.
        runtime: name of a ServingRuntime of the namespace or a ClusterServingRuntime; chosen by
            format and protocol when unset.
    """

    modelFormat: ModelFormat | None = None
    runtime: str | None = None


class LoggerStorageSpec(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An object store that payloads are written to.

    Attributes:
        path: folder inside the store.
        parameters: overrides of the secret's entry.
        key: entry of the storage secret.
        serviceAccountName: account whose credentials are used.
    """

    path: str | None = None
    parameters: dict[str, str] | None = None
    key: str | None = None
    serviceAccountName: str | None = None


class LoggerSpec(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Sends requests and responses elsewhere.

    Attributes:
        url: where to; the configured sink when unset.
        mode: what to send: `all`, `request` or `response`.
        metadataHeaders: request headers to send along.
        metadataAnnotations: annotations of the service to send along.
        storage: write to an object store instead.
        marshallerUrl: service that turns payloads into files.
        batchSize: payloads per message.
        batchInterval: longest wait for a full batch, such as `10s`.
    """

    url: str | None = None
    mode: Literal["all", "request", "response"] | None = None
    metadataHeaders: list[str] | None = None
    metadataAnnotations: list[str] | None = None
    storage: LoggerStorageSpec | None = None
    marshallerUrl: str | None = None
    batchSize: int | None = None
    batchInterval: str | None = None


class Batcher(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Joins requests before the model sees them.

    Attributes:
        maxBatchSize: most instances in one batch.
        maxLatency: longest wait for a full batch, in milliseconds.
        timeout: not used.
    """

    maxBatchSize: int | None = None
    maxLatency: int | None = None
    timeout: int | None = None


class MetricTarget(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The value that scaling aims at.

    Attributes:
        type: which of the others counts: `Utilization`, `Value` or `AverageValue`.
        value: total over all pods.
        averageValue: value per pod.
        averageUtilization: percentage of the pods' requests.
    """

    type: Literal["Utilization", "Value", "AverageValue"] | None = None
    value: Quantity | None = None
    averageValue: Quantity | None = None
    averageUtilization: int | None = None


class ResourceMetricSource(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Scales on the pods' own CPU or memory.

    Attributes:
        name: `cpu` or `memory`.
        target: the value to aim at.
    """

    name: Literal["cpu", "memory"] | None = None
    target: MetricTarget | None = None


class ExternalMetrics(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A query of a metrics server.

    Attributes:
        backend: `prometheus` or `graphite`.
        serverAddress: the server's URL.
        query: the query.
        namespace: namespace to query, for multi-tenant servers.
    """

    backend: Literal["prometheus", "graphite"] | None = None
    serverAddress: str | None = None
    query: str | None = None
    namespace: str | None = None


class AuthenticationRef(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A KEDA TriggerAuthentication.

    Attributes:
        name: its name.
    """

    name: str


class ExternalAuthentication(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How to authenticate with a metrics server.

    Attributes:
        authenticationRef: the TriggerAuthentication that holds the credentials.
        authModes: KEDA's authentication modes, comma-separated.
    """

    authenticationRef: AuthenticationRef
    authModes: str | None = None


class ExternalMetricSource(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Scales on a metrics server's answer; needs KEDA.

    Attributes:
        metric: the query.
        authenticationRef: credentials for it.
        target: the value to aim at.
    """

    metric: ExternalMetrics | None = None
    authenticationRef: ExternalAuthentication | None = None
    target: MetricTarget | None = None


class PodMetrics(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Metrics that the pods expose, collected by OpenTelemetry.

    Attributes:
        backend: `opentelemetry`.
        serverAddress: scaler's address; the configured one when unset.
        metricNames: metrics to collect.
        query: the query over them.
        operationOverTime: `last_one`, `avg`, `max`, `min`, `rate` or `count`.
    """

    backend: Literal["opentelemetry"] | None = None
    serverAddress: str | None = None
    metricNames: list[str] | None = None
    query: str | None = None
    operationOverTime: str | None = None


class PodMetricSource(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Scales on metrics that the pods expose; needs KEDA and OpenTelemetry.

    Attributes:
        metric: the query.
        target: the value to aim at.
    """

    metric: PodMetrics | None = None
    target: MetricTarget | None = None


class MetricsSpec(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One metric to scale on.

    Attributes:
        type: which of the others counts: `Resource`, `External` or `PodMetric`.
        resource: CPU or memory.
        external: a metrics server's answer.
        podmetric: metrics that the pods expose.
    """

    type: Literal["Resource", "External", "PodMetric"] | None = None
    resource: ResourceMetricSource | None = None
    external: ExternalMetricSource | None = None
    podmetric: PodMetricSource | None = None


class AutoScalingSpec(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Scaling on several metrics.

    Attributes:
        metrics: the metrics; the one that asks for most pods wins.
        behavior: how fast to scale; its stabilisation windows are used with KEDA.
    """

    metrics: list[MetricsSpec] | None = None
    behavior: autoscaling_v2.HorizontalPodAutoscalerBehavior | None = None


class ComponentSpec(PodSpecFields, kw_only=True, omit_defaults=True):
    """What predictor, transformer and explainer have in common, over a pod spec.

    Attributes:
        minReplicas: fewest pods; 0 scales to zero; 1 when unset.
        maxReplicas: most pods; 0 is no limit.
        scaleTarget: value of `scaleMetric` per pod that scaling aims at.
        scaleMetric: `concurrency` or `rps` in Knative mode, `cpu` or `memory` in Standard mode.
        scaleMetricType: stored for compatibility, not used.
        autoScaling: scaling on several metrics, in Standard mode.
        containerConcurrency: most requests at once in one pod; 0 is no limit.
        timeout: seconds a request may take.
        canaryTrafficPercent: share of the requests that the latest revision gets, in Knative mode.
        logger: sends requests and responses elsewhere.
        batcher: joins requests before the model sees them.
        labels: labels of the component's objects and pods.
        annotations: annotations of the component's objects and pods.
        deploymentStrategy: how pods are replaced, in Standard mode.
        storageUris: several places that files come from; not with a single URI.
    """

    minReplicas: int | None = None
    maxReplicas: int | None = None
    scaleTarget: int | None = None
    scaleMetric: Literal["cpu", "memory", "concurrency", "rps"] | None = None
    scaleMetricType: Literal["Utilization", "Value", "AverageValue"] | None = None
    autoScaling: AutoScalingSpec | None = None
    containerConcurrency: int | None = None
    timeout: int | None = None
    canaryTrafficPercent: int | None = None
    logger: LoggerSpec | None = None
    batcher: Batcher | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    deploymentStrategy: apps_v1.DeploymentStrategy | None = None
    storageUris: Annotated[list[StorageUri], msgspec.Meta(min_length=1)] | None = None


class WorkerSpec(PodSpecFields, kw_only=True, omit_defaults=True):
    """Pods on further nodes that serve one model together with the predictor's.

    Attributes:
        pipelineParallelSize: nodes the model's layers are spread over.
        tensorParallelSize: GPUs each layer is spread over.
    """

    pipelineParallelSize: int | None = None
    tensorParallelSize: int | None = None


class PredictorSpec(ComponentSpec, kw_only=True, omit_defaults=True):
    """The model server: a `model`, or a container named `kserve-container`.

    Attributes:
        name: variant name; children are then `{service}-{name}-predictor`.
        model: a model and where it is.
        sklearn: a scikit-learn model, the older form of `model`.
        xgboost: an XGBoost model, the older form of `model`.
        tensorflow: a TensorFlow model, the older form of `model`.
        pytorch: a PyTorch model, the older form of `model`.
        triton: a Triton model repository, the older form of `model`.
        onnx: an ONNX model, the older form of `model`.
        huggingface: a Hugging Face model, the older form of `model`.
        pmml: a PMML model, the older form of `model`.
        lightgbm: a LightGBM model, the older form of `model`.
        paddle: a Paddle model, the older form of `model`.
        storageContainerName: ClusterStorageContainer that brings the model; chosen by URI when
            unset.
        workerSpec: serve over several nodes.
    """

    name: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)] | None = None
    model: ModelSpec | None = None
    sklearn: FrameworkSpec | None = None
    xgboost: FrameworkSpec | None = None
    tensorflow: FrameworkSpec | None = None
    pytorch: FrameworkSpec | None = None
    triton: FrameworkSpec | None = None
    onnx: FrameworkSpec | None = None
    huggingface: FrameworkSpec | None = None
    pmml: FrameworkSpec | None = None
    lightgbm: FrameworkSpec | None = None
    paddle: FrameworkSpec | None = None
    storageContainerName: str | None = None
    workerSpec: WorkerSpec | None = None


class TransformerSpec(ComponentSpec, kw_only=True, omit_defaults=True):
    """A container that changes requests before the predictor and answers after it."""


class ArtExplainerSpec(ContainerFields, kw_only=True, omit_defaults=True):
    """The adversarial robustness explainer.

    Attributes:
        type: kind of attack: `SquareAttack`.
        storageUri: where the explainer's files are.
        runtimeVersion: tag of the explainer's image.
        config: more arguments, as names and values.
        storage: files in an object store, with credentials from a secret.
        name: not allowed here.
    """

    type: str | None = None
    storageUri: str | None = None
    runtimeVersion: str | None = None
    config: dict[str, str] | None = None
    storage: StorageSpec | None = None


class ExplainerSpec(ComponentSpec, kw_only=True, omit_defaults=True):
    """A container that says why the model answered as it did; it gets the `:explain` requests.

    Attributes:
        art: the adversarial robustness explainer.
    """

    art: ArtExplainerSpec | None = None


class CanarySpec(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A variant beside the stable predictor, in Standard mode.

    Attributes:
        predictor: what differs from the stable predictor; `name` is required.
        trafficPercent: share of the requests it gets while ready.
    """

    predictor: PredictorSpec
    trafficPercent: Annotated[int, msgspec.Meta(ge=0, le=100)]


class InferenceServiceSpec(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What to serve.

    Attributes:
        predictor: the model server.
        transformer: changes requests before the predictor and answers after it.
        explainer: says why the model answered as it did.
        canary: variants beside the stable predictor, in Standard mode.
    """

    predictor: PredictorSpec
    transformer: TransformerSpec | None = None
    explainer: ExplainerSpec | None = None
    canary: list[CanarySpec] | None = None


class InferenceService(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Serves one machine-learning model: a predictor, and before or beside it a transformer and an
    explainer.

    Attributes:
        apiVersion: `serving.kserve.io/v1beta1`.
        kind: `InferenceService`.
        metadata: standard object metadata.
        spec: what to serve.
        status: what is served now; written by Kedge.
    """

    apiVersion: str | None = None
    kind: str | None = None
    metadata: meta_v1.ObjectMeta | None = None
    spec: InferenceServiceSpec
    status: InferenceServiceStatus | None = None
