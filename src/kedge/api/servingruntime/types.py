"""The shape of ServingRuntime and ClusterServingRuntime, which differ only in their scope."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from lightkube.models import core_v1, meta_v1

from kedge.api.podspec import ContainerFields


class SupportedModelFormat(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A framework whose files the runtime reads.

    Attributes:
        name: the framework.
        version: its version, compared as text.
        autoSelect: whether a service that names no runtime may get this one.
        priority: among runtimes that qualify, the highest wins.
    """

    name: str
    version: str | None = None
    autoSelect: bool | None = None
    priority: Annotated[int, msgspec.Meta(ge=1)] | None = None


class RuntimePodSpec(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The pod that a runtime starts from.

    Attributes:
        containers: the containers; the one named `kserve-container` is the model server.
        volumes: volumes of the pod.
        nodeSelector: labels of the nodes it may run on.
        affinity: preferences for nodes and neighbours.
        tolerations: node taints it tolerates.
        imagePullSecrets: secrets to pull images with.
        schedulerName: scheduler that places the pod.
        resourceClaims: claims of devices.
        hostIPC: goes into the pod; KServe shows it and does not use it.
        labels: labels of the component's objects and pods, the weakest of all sources.
        annotations: annotations of the component's objects and pods, the weakest of all sources.
    """

    containers: list[ContainerFields]
    volumes: list[core_v1.Volume] | None = None
    nodeSelector: dict[str, str] | None = None
    affinity: core_v1.Affinity | None = None
    tolerations: list[core_v1.Toleration] | None = None
    imagePullSecrets: list[core_v1.LocalObjectReference] | None = None
    schedulerName: str | None = None
    resourceClaims: list[core_v1.PodResourceClaim] | None = None
    hostIPC: bool | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class RuntimeWorkerSpec(RuntimePodSpec, kw_only=True, omit_defaults=True):
    """The pod on further nodes; its container is `worker-container`.

    Attributes:
        pipelineParallelSize: nodes the model's layers are spread over.
        tensorParallelSize: GPUs each layer is spread over.
    """

    pipelineParallelSize: int | None = None
    tensorParallelSize: int | None = None


class StorageHelper(msgspec.Struct, kw_only=True, omit_defaults=True):
    """ModelMesh's storage helper; not used.

    Attributes:
        disabled: do without it.
    """

    disabled: bool | None = None


class BuiltInAdapter(msgspec.Struct, kw_only=True, omit_defaults=True):
    """ModelMesh's adapter to a server; not used.

    Attributes:
        serverType: the server's kind.
        runtimeManagementPort: the server's management port.
        memBufferBytes: memory kept free.
        modelLoadingTimeoutMillis: longest time to load a model.
        env: environment of the adapter.
    """

    serverType: Literal["triton", "mlserver", "ovms", "torchserve", ""] | None = None
    runtimeManagementPort: int | None = None
    memBufferBytes: int | None = None
    modelLoadingTimeoutMillis: int | None = None
    env: list[core_v1.EnvVar] | None = None


class ServingRuntimeSpec(RuntimePodSpec, kw_only=True, omit_defaults=True):
    """How a model format is served.

    Attributes:
        supportedModelFormats: frameworks whose files it reads.
        protocolVersions: protocols it answers: v1, v2, grpc-v1, grpc-v2; any when empty.
        multiModel: made for ModelMesh; such a runtime is never chosen automatically.
        disabled: not to be used.
        workerSpec: pods on further nodes.
        grpcEndpoint: ModelMesh only, not used.
        grpcDataEndpoint: ModelMesh only, not used.
        httpDataEndpoint: ModelMesh only, not used.
        replicas: ModelMesh only, not used.
        storageHelper: ModelMesh only, not used.
        builtInAdapter: ModelMesh only, not used.
    """

    supportedModelFormats: list[SupportedModelFormat] | None = None
    protocolVersions: list[str] | None = None
    multiModel: bool | None = None
    disabled: bool | None = None
    workerSpec: RuntimeWorkerSpec | None = None
    grpcEndpoint: str | None = None
    grpcDataEndpoint: str | None = None
    httpDataEndpoint: str | None = None
    replicas: Annotated[int, msgspec.Meta(ge=0, le=65535)] | None = None
    storageHelper: StorageHelper | None = None
    builtInAdapter: BuiltInAdapter | None = None


class ServingRuntime(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How a model format is served in one namespace.

    Attributes:
        apiVersion: `serving.kserve.io/v1alpha1`.
        kind: `ServingRuntime`.
        metadata: standard object metadata; annotation `serving.kserve.io/server-type` names the
            server's kind.
        spec: the runtime.
        status: always empty.
    """

    apiVersion: str | None = None
    kind: str | None = None
    metadata: meta_v1.ObjectMeta | None = None
    spec: ServingRuntimeSpec
    status: dict[str, str] | None = None


class ClusterServingRuntime(ServingRuntime, kw_only=True, omit_defaults=True):
    """How a model format is served in every namespace.

    Attributes:
        kind: `ClusterServingRuntime`.
    """
