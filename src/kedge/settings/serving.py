"""The `inferenceservice-config` ConfigMap: how services are built, reached and stored.

Each key of the ConfigMap holds one JSON document; here each is one frozen Struct, and every field
is followed by what it means. KServe's own ConfigMap is understood as it is. Keys that Kedge adds
are marked "Kedge only". `_example` and unknown keys are ignored, as are options of parts that Kedge
does not have (Istio, Knative); a value of the wrong type or malformed JSON is an error that names
the key and the position.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, TypeVar

import msgspec

from kedge.lib.errors import TerminalError
from kedge.settings.installation import ADOPTION, GATEWAY

CONFIG_MAP_NAME = "inferenceservice-config"
DEFAULT_NAMESPACE = "kedge"
DEFAULT_DOMAIN_TEMPLATE = "{{ .Name }}-{{ .Namespace }}.{{ .IngressDomain }}"

BUILT_IN_ANNOTATION_DISALLOWED = (
    ADOPTION,
    "autoscaling.knative.dev/min-scale",
    "autoscaling.knative.dev/max-scale",
    "internal.serving.kserve.io/storage-initializer-sourceuri",
    "kubectl.kubernetes.io/last-applied-configuration",
    "modelFormat",
)
"""Annotations that never reach a child, whatever the ConfigMap says."""

BUILT_IN_LABEL_DISALLOWED = ("networking.knative.dev/visibility",)
"""Labels that never reach a revision's pods or a route, whatever the ConfigMap says."""


class ConfigError(TerminalError):
    """The ConfigMap cannot be understood; nothing can be built until it is mended."""

    reason = "InvalidConfig"


class DeploymentMode(StrEnum):
    """How a component becomes workloads."""

    STANDARD = "Standard"
    KNATIVE = "Knative"
    MODEL_MESH = "ModelMesh"

    @classmethod
    def parse(cls, text: str) -> DeploymentMode | None:
        """The mode that a text means, old names included; None when it means none."""
        return _MODES.get(text)


_MODES = {
    "Standard": DeploymentMode.STANDARD,
    "RawDeployment": DeploymentMode.STANDARD,
    "Knative": DeploymentMode.KNATIVE,
    "Serverless": DeploymentMode.KNATIVE,
    "ModelMesh": DeploymentMode.MODEL_MESH,
}


class _Section(msgspec.Struct, frozen=True, rename="camel"):
    """One JSON document of the ConfigMap, or a part of one."""


class ResourceDefaults(_Section, frozen=True):
    """Requests and limits filled in where a container names none; empty means none."""

    cpu_limit: str = ""
    """Cores, as a Kubernetes quantity."""
    memory_limit: str = ""
    """Bytes, as a Kubernetes quantity."""
    cpu_request: str = ""
    """Cores, as a Kubernetes quantity."""
    memory_request: str = ""
    """Bytes, as a Kubernetes quantity."""

    def limits(self) -> dict[str, str]:
        return _named(cpu=self.cpu_limit, memory=self.memory_limit)

    def requests(self) -> dict[str, str]:
        return _named(cpu=self.cpu_request, memory=self.memory_request)


def _named(**amounts: str) -> dict[str, str]:
    return {name: amount for name, amount in amounts.items() if amount}


class ArtExplainer(_Section, frozen=True):
    """The image of an `art` explainer."""

    image: str = "kserve/art-explainer"
    """Image without tag."""
    default_image_version: str = "latest"
    """Tag where `runtimeVersion` is unset."""


class Explainers(_Section, frozen=True):
    """Key `explainers`."""

    art: ArtExplainer = ArtExplainer()
    """The adversarial robustness explainer."""


class InferenceServiceOptions(_Section, frozen=True):
    """Key `inferenceService`."""

    resource: ResourceDefaults = ResourceDefaults()
    """Defaults for custom predictors, transformers and explainers. A `model` predictor takes its
    runtime's resources instead."""
    service_annotation_disallowed_list: tuple[str, ...] = ()
    """Annotations, besides the built-in ones, that do not reach children."""
    service_label_disallowed_list: tuple[str, ...] = ()
    """Labels, besides the built-in ones, that do not reach revision pods and routes."""

    @property
    def disallowed_annotations(self) -> frozenset[str]:
        return frozenset(BUILT_IN_ANNOTATION_DISALLOWED).union(
            self.service_annotation_disallowed_list
        )

    @property
    def disallowed_labels(self) -> frozenset[str]:
        return frozenset(BUILT_IN_LABEL_DISALLOWED).union(self.service_label_disallowed_list)


class MultiNode(_Section, frozen=True):
    """Key `multiNode`."""

    custom_gpu_resource_types: tuple[str, ...] = msgspec.field(
        default=(), name="customGPUResourceTypeList"
    )
    """Extended resources that count as GPUs besides the well-known ones."""


class OpenTelemetryCollector(_Section, frozen=True):
    """Key `opentelemetryCollector`."""

    scrape_interval: str = ""
    """How often the collector reads a pod's metrics (`5s`)."""
    metric_receiver_endpoint: str = ""
    """Where the collector sends to, `host:port`."""
    metric_scaler_endpoint: str = ""
    """Where KEDA asks, `host:port`."""
    resource: ResourceDefaults = ResourceDefaults()
    """The collector's own requests and limits."""


class Autoscaler(_Section, frozen=True):
    """Key `autoscaler`; used for KEDA objects only."""

    scale_up_stabilization_window_seconds: str = ""
    """Seconds; empty writes no behavior."""
    scale_down_stabilization_window_seconds: str = ""
    """Seconds; empty writes no behavior."""


class StorageInitializer(_Section, frozen=True):
    """Key `storageInitializer`: the init container that brings model files."""

    image: str = "kedge/storage-initializer:latest"
    """Image of the init container."""
    cpu_request: str = "100m"
    """Cores the init container asks for."""
    cpu_limit: str = "1"
    """Most cores the init container may use."""
    memory_request: str = "100Mi"
    """Memory the init container asks for."""
    memory_limit: str = "1Gi"
    """Most memory the init container may use."""
    ca_bundle_config_map_name: str = ""
    """ConfigMap with extra certificate authorities under `cabundle.crt`; empty for none."""
    ca_bundle_volume_mount_path: str = "/etc/ssl/custom-certs"
    """Folder where the init container finds them."""
    enable_modelcar: bool = False
    """Serve bare `oci://` models by a sidecar."""
    enable_oci_model_support: bool = False
    """The same under its newer name."""
    oci_model_mode: Literal["", "modelcar", "native", "fetch"] = ""
    """How a bare `oci://` model is brought; empty follows the two switches above."""
    oci_insecure_registry: bool = False
    """Fetch from registries without TLS."""
    cpu_modelcar: str = "10m"
    """Request and limit of the modelcar sidecar."""
    memory_modelcar: str = "15Mi"
    """Request and limit of the modelcar sidecar."""
    uid_modelcar: int | None = None
    """User id of the modelcar and the server beside it; None leaves the images' own."""
    local_paths: Literal["inPlace", "initContainer"] = "initContainer"
    """Kedge only. `inPlace`: `file://` and plain paths are mounted read-only where they are (one
    machine); `initContainer`: they are copied like any other URI."""


class GcsCredentials(_Section, frozen=True):
    """Google Cloud Storage."""

    gcs_credential_file_name: str = "gcloud-application-credentials.json"
    """The secret key that holds the credentials file."""


class S3Credentials(_Section, frozen=True):
    """S3; an annotation on the secret or account wins over each of these."""

    access_key_id_name: str = msgspec.field(default="awsAccessKeyID", name="s3AccessKeyIDName")
    """The secret key that holds the access key id."""
    secret_access_key_name: str = msgspec.field(
        default="awsSecretAccessKey", name="s3SecretAccessKeyName"
    )
    """The secret key that holds the secret access key."""
    endpoint: str = msgspec.field(default="", name="s3Endpoint")
    """`host[:port]` or URL of the object store; empty is AWS."""
    use_https: str = msgspec.field(default="", name="s3UseHttps")
    """`0` for plain HTTP."""
    region: str = msgspec.field(default="", name="s3Region")
    """Region name."""
    verify_ssl: str = msgspec.field(default="", name="s3VerifySSL")
    """`0` accepts any certificate."""
    use_virtual_bucket: str = msgspec.field(default="", name="s3UseVirtualBucket")
    """`1` puts the bucket into the host name."""
    use_accelerate: str = msgspec.field(default="", name="s3UseAccelerate")
    """`1` uses transfer acceleration."""
    use_anonymous_credential: str = msgspec.field(default="", name="s3UseAnonymousCredential")
    """`true` signs no request."""
    ca_bundle_config_map: str = msgspec.field(default="", name="s3CABundleConfigMap")
    """ConfigMap with the store's certificate authority."""
    ca_bundle: str = msgspec.field(default="", name="s3CABundle")
    """Path of the certificate authority in the container."""


class Credentials(_Section, frozen=True):
    """Key `credentials`."""

    storage_spec_secret_name: str = "storage-config"
    """The secret that `storage.key` names an entry of."""
    storage_secret_name_annotation: str = ""
    """The annotation by which a service names another secret; empty switches that off."""
    gcs: GcsCredentials = GcsCredentials()
    """Google Cloud Storage."""
    s3: S3Credentials = S3Credentials()
    """S3."""


class Ingress(_Section, frozen=True):
    """Key `ingress`: hosts, URLs and routes."""

    enable_gateway_api: bool = True
    """What leads to Kedge's gateway where another way in is in front of it: HTTPRoutes, or Ingress
    objects. Kedge's own gateway has HTTPRoutes in any case."""
    kserve_ingress_gateway: str = "kedge/kedge-gateway"
    """The Gateway, `namespace/name`, by which requests come in. Of another name than
    `kedge-gateway` it is another implementation's, and is given HTTPRoutes to Kedge's."""
    ingress_gateway: str = ""
    """Istio's gateway; not used."""
    ingress_domain: str = "example.com"
    """Domain of external hosts."""
    additional_ingress_domains: tuple[str, ...] = ()
    """More domains under which every service is reachable."""
    ingress_class_name: str = ""
    """Class of Ingress objects to Kedge's gateway; written where `enableGatewayApi` is false."""
    domain_template: str = DEFAULT_DOMAIN_TEMPLATE
    """Go template of an external host: Name, Namespace, IngressDomain, Annotations, Labels."""
    url_scheme: str = "http"
    """Scheme of `status.url`."""
    path_template: str = ""
    """Go template of a path under `ingressDomain` where a service is reachable too; empty for
    none."""
    disable_ingress_creation: bool = False
    """Write no routes to the outside."""
    disable_http_route_timeout: bool = msgspec.field(default=False, name="disableHTTPRouteTimeout")
    """Write no time-out into routes."""
    external_port: int = 0
    """Kedge only. Port in `status.url`; 0 leaves it out."""
    path_base_url: str = ""
    """Kedge only. Where the gateway answers `/serving/{ns}/{isvc}/...`; when set, that form is
    `status.address.url` (one machine, where not every resolver knows `*.localhost`)."""


class Logger(_Section, frozen=True):
    """Key `logger`: the payload logging sidecar."""

    image: str = "kserve/agent:latest"
    """Image of the sidecar."""
    cpu_request: str = "100m"
    """Cores asked for."""
    cpu_limit: str = "1"
    """Most cores."""
    memory_request: str = "100Mi"
    """Memory asked for."""
    memory_limit: str = "1Gi"
    """Most memory."""
    default_url: str = ""
    """Where payloads go when `logger.url` is unset."""
    ca_bundle: str = ""
    """ConfigMap with the sink's certificate authority."""
    ca_cert_file: str = ""
    """Key of the certificate in that ConfigMap."""
    tls_skip_verify: bool = False
    """Accept any certificate of the sink."""
    marshaller_url: str = ""
    """Service that turns payloads into files."""
    batch_size: int = 1
    """Payloads per message."""
    batch_interval: str = "0"
    """Longest wait for a full batch, as a Go duration."""


class Batcher(_Section, frozen=True):
    """Key `batcher`: joining requests in a sidecar."""

    image: str = "kserve/agent:latest"
    """Image of the sidecar."""
    cpu_request: str = "1"
    """Cores asked for."""
    cpu_limit: str = "1"
    """Most cores."""
    memory_request: str = "1Gi"
    """Memory asked for."""
    memory_limit: str = "1Gi"
    """Most memory."""
    max_batch_size: str = "32"
    """Most instances in one batch."""
    max_latency: str = "5000"
    """Longest wait for a full batch, in milliseconds."""


class Agent(_Section, frozen=True):
    """Key `agent`: the sidecar that pulls models of a multi-model predictor."""

    image: str = "kserve/agent:latest"
    """Image of the sidecar."""
    cpu_request: str = "100m"
    """Cores asked for."""
    cpu_limit: str = "1"
    """Most cores."""
    memory_request: str = "100Mi"
    """Memory asked for."""
    memory_limit: str = "1Gi"
    """Most memory."""


class RouterHeaders(_Section, frozen=True):
    """Which request headers an InferenceGraph passes on."""

    propagate: tuple[str, ...] = ()
    """Header names."""


class Router(_Section, frozen=True):
    """Key `router`: the InferenceGraph process."""

    image: str = "kserve/router:latest"
    """Image of the router."""
    cpu_request: str = "100m"
    """Cores asked for."""
    cpu_limit: str = "1"
    """Most cores."""
    memory_request: str = "100Mi"
    """Memory asked for."""
    memory_limit: str = "1Gi"
    """Most memory."""
    image_pull_policy: str = "IfNotPresent"
    """When the image is pulled."""
    image_pull_secrets: tuple[str, ...] = ()
    """Names of secrets to pull with."""
    headers: RouterHeaders = RouterHeaders()
    """Headers to pass on."""


class RolloutDefaults(_Section, frozen=True):
    """How a Deployment replaces its pods."""

    max_surge: str = "25%"
    """Most pods above the wanted count, a number or a percentage."""
    max_unavailable: str = "25%"
    """Most pods below the wanted count, a number or a percentage."""


class RolloutStrategy(_Section, frozen=True):
    """Rolling updates of Deployments in Standard mode."""

    default_rollout: RolloutDefaults | None = None
    """Used where a component has no `deploymentStrategy`; None is 25 % and 25 %."""


class Deploy(_Section, frozen=True):
    """Key `deploy`."""

    default_deployment_mode: Literal[
        "Knative", "Serverless", "Standard", "RawDeployment", "ModelMesh"
    ] = "Knative"
    """Mode of a service without the annotation `serving.kserve.io/deploymentMode`."""
    deployment_rollout_strategy: RolloutStrategy = RolloutStrategy()
    """Rolling updates."""
    pre_stop_sleep_seconds: int = 5
    """Kedge only. Seconds for which a pod that is to end goes on serving, so that every gateway has
    heard of it before; 0 for none (one machine, or Kubernetes before 1.30, where it has none)."""

    @property
    def mode(self) -> DeploymentMode:
        return _MODES[self.default_deployment_mode]


class ServiceOptions(_Section, frozen=True):
    """Key `service`."""

    service_cluster_ip_none: bool = msgspec.field(default=False, name="serviceClusterIPNone")
    """Write headless Services in Standard mode."""


class MetricsAggregator(_Section, frozen=True):
    """Key `metricsAggregator`; the values are the strings `"true"` and `"false"`."""

    enable_metric_aggregation: str = "false"
    """Join the server's metrics with the queue proxy's."""
    enable_prometheus_scraping: str = "false"
    """Annotate pods for Prometheus."""


class LocalModel(_Section, frozen=True):
    """Key `localModel`: models cached on nodes."""

    enabled: bool = False
    """Match storage URIs against the caches."""
    job_namespace: str = "kserve-localmodel-jobs"
    """Where download jobs run."""
    default_job_image: str = ""
    """Image of download jobs."""
    fs_group: int = 1000
    """File group of downloaded files."""
    job_ttl_seconds_after_finished: int = msgspec.field(
        default=3600, name="jobTTLSecondsAfterFinished"
    )
    """How long a finished job is kept."""
    reconciliation_seconds: int = msgspec.field(default=60, name="reconcilationFrequencyInSecs")
    """How often nodes are looked at; the key is spelt as KServe spells it."""
    disable_volume_management: bool = False
    """Leave persistent volumes to the administrator."""


class Security(_Section, frozen=True):
    """Key `security`."""

    auto_mount_service_account_token: bool = False
    """Whether pods get their account's token where a component does not say. As in KServe, an
    absent key means no."""


class ServingConfig(msgspec.Struct, frozen=True, rename="camel"):
    """All of `inferenceservice-config`.

    Attributes:
        home: the namespace of the ConfigMap, where Kedge's own objects are.
    """

    explainers: Explainers = Explainers()
    """Images of built-in explainers."""
    inference_service: InferenceServiceOptions = InferenceServiceOptions()
    """Default resources, and what does not reach children."""
    multi_node: MultiNode = MultiNode()
    """Serving over several nodes."""
    opentelemetry_collector: OpenTelemetryCollector = OpenTelemetryCollector()
    """Metrics for KEDA."""
    autoscaler: Autoscaler = Autoscaler()
    """KEDA's behavior."""
    storage_initializer: StorageInitializer = StorageInitializer()
    """Bringing model files."""
    credentials: Credentials = Credentials()
    """Credentials of object stores."""
    ingress: Ingress = Ingress()
    """Hosts, URLs and routes."""
    logger: Logger = Logger()
    """Payload logging."""
    batcher: Batcher = Batcher()
    """Request batching."""
    agent: Agent = Agent()
    """Multi-model puller."""
    router: Router = Router()
    """Inference graphs."""
    deploy: Deploy = Deploy()
    """Deployment mode and rollout."""
    service: ServiceOptions = ServiceOptions()
    """Kubernetes Services."""
    metrics_aggregator: MetricsAggregator = MetricsAggregator()
    """Pod metrics."""
    local_model: LocalModel = LocalModel()
    """Node-local model caches."""
    security: Security = Security()
    """Pod security."""
    home: str = DEFAULT_NAMESPACE

    @classmethod
    def sections(cls) -> list[msgspec.structs.FieldInfo]:
        """The keys of the ConfigMap."""
        return [field for field in msgspec.structs.fields(cls) if field.name != "home"]

    @property
    def own_gateway(self) -> str:
        """Kedge's Gateway, `namespace/name`, that routes name as their parent."""
        named = self.ingress.kserve_ingress_gateway
        return named if named.partition("/")[2] == GATEWAY else f"{self.home}/{GATEWAY}"

    @property
    def outer_gateway(self) -> str:
        """Another implementation's Gateway in front of ours; empty for none."""
        named = self.ingress.kserve_ingress_gateway
        return named if self.ingress.enable_gateway_api and named != self.own_gateway else ""

    @property
    def outer_ingress_class(self) -> str:
        """Class of Ingress objects in front of our gateway; empty for none."""
        ingress = self.ingress
        return "" if ingress.enable_gateway_api else ingress.ingress_class_name

    @classmethod
    def default(cls) -> ServingConfig:
        """What holds where there is no ConfigMap: the one that `kedge install` ships."""
        small = ResourceDefaults(
            cpu_limit="1", memory_limit="2Gi", cpu_request="100m", memory_request="128Mi"
        )
        return cls(
            inference_service=InferenceServiceOptions(resource=small),
            credentials=Credentials(
                storage_secret_name_annotation="serving.kserve.io/storageSecretName",
                s3=S3Credentials(
                    access_key_id_name="AWS_ACCESS_KEY_ID",
                    secret_access_key_name="AWS_SECRET_ACCESS_KEY",
                ),
            ),
            security=Security(auto_mount_service_account_token=True),
        )

    @classmethod
    def from_config_map(cls, obj: Mapping[str, Any]) -> ServingConfig:
        """The ConfigMap's settings; `ConfigError` names the key and the place of a mistake."""
        data = obj.get("data") or {}
        sections = {
            field.name: _parse(field.encode_name, str(data[field.encode_name]), field.type)
            for field in cls.sections()
            if field.encode_name in data
        }
        home = (obj.get("metadata") or {}).get("namespace") or DEFAULT_NAMESPACE
        return cls(**sections, home=home)


_T = TypeVar("_T")


def _parse(key: str, text: str, type_: type[_T]) -> _T:
    where = f"ConfigMap {CONFIG_MAP_NAME}, key `{key}`"
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{where}: malformed JSON at line {error.lineno}, column {error.colno}: {error.msg}.",
            fix=f"Correct the JSON of `{key}` at that place.",
        ) from error
    try:
        return msgspec.convert(document, type_)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$")
        place = f"`{key}{path}" if path else f"`{key}`"
        raise ConfigError(f"{where}: {place}: {problem}.", fix=_mend(place)) from error


def _mend(place: str) -> str:
    if "defaultDeploymentMode" in place:
        return f"Set {place} to `Knative` or `Standard`."
    return f"Give {place} a value of that type, or remove it for the default."
