"""Names of everything that belongs to an InferenceService: objects, labels, annotations, hosts.

Other modules never put such a name together themselves.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

from kedge.settings.installation import ADOPTION as ADOPTION
from kedge.settings.installation import APPLIED_HASH as APPLIED_HASH
from kedge.settings.installation import AUTOSCALER_MANAGER as AUTOSCALER_MANAGER
from kedge.settings.installation import BESIDE as BESIDE
from kedge.settings.installation import ENDPOINTS_LABEL as ENDPOINTS_LABEL
from kedge.settings.installation import WAITING as WAITING

SERVING = "serving.kserve.io"
INTERNAL = "internal.serving.kserve.io"
KEDGE = "serving.kedge.dev"
KNATIVE = "serving.knative.dev"
AUTOSCALING = "autoscaling.knative.dev"

FINALIZER = "inferenceservice.finalizers"
GATEWAY_CONTROLLER = "kedge.dev/gateway"

# Annotations that users write.
DEPLOYMENT_MODE = f"{SERVING}/deploymentMode"
AUTOSCALER_CLASS = f"{SERVING}/autoscalerClass"
STOP = f"{SERVING}/stop"
DISABLE_AUTO_UPDATE = f"{SERVING}/disable-auto-update"
ENABLE_TAG_ROUTING = f"{SERVING}/enable-tag-routing"
SERVER_TYPE = f"{SERVING}/server-type"
KEDGE_SERVER = "kedge"
"""The server type of images that are built on kedge.server, besides Kedge's own."""
BATCHER_RESPONSE = f"{KEDGE}/batcher-response"
"""`kserve`: answers have the shape of KServe's batcher."""
SHADOW_PERCENT = f"{KEDGE}/shadow-percent"
"""How many of a hundred requests a candidate without a share gets a copy of."""
GKE_ACCELERATOR = f"{SERVING}/gke-accelerator"
GPU_RESOURCE_TYPES = f"{SERVING}/gpu-resource-types"
STORAGE_INITIALIZER_UID = f"{SERVING}/storage-initializer-uid"
STORAGE_READONLY = "storage.kserve.io/readonly"
ROLLOUT_DURATION = f"{KNATIVE}/rollout-duration"
EXECUTOR_BACKEND = "multinode/executor-backend"
ENABLE_METRIC_AGGREGATION = f"{SERVING}/enable-metric-aggregation"
ENABLE_PROMETHEUS_SCRAPING = f"{SERVING}/enable-prometheus-scraping"

# Labels and annotations that Kedge writes.
ISVC_LABEL = f"{SERVING}/inferenceservice"
COMPONENT_LABEL = "component"
APP_LABEL = "app"
GENERATION_LABEL = "isvc.generation"
NODE_ROLE_LABEL = "multinode/role"
REVISION_LABEL = f"{KNATIVE}/revision"
CONFIGURATION_LABEL = f"{KNATIVE}/configuration"
CONFIGURATION_GENERATION_LABEL = f"{KNATIVE}/configurationGeneration"
KNATIVE_SERVICE_LABEL = f"{KNATIVE}/service"
ROUTE_ROLE_LABEL = f"{KEDGE}/route"
TEMPLATE_HASH = f"{KEDGE}/template-hash"
"""Annotation on a pod template, its Deployment and its pods: which template they are of."""
INITIAL_REPLICAS = f"{KEDGE}/replicas"
"""Annotation on a Deployment: the count that the service asks for, when last written."""

AUTOSCALED = f"{KEDGE}/autoscaled"
"""Label on a Deployment: Kedge's autoscaler writes its count."""
SCALE_RANGE = f"{KEDGE}/scale-range"
"""Annotation on such a Deployment: `activation` where it moves between none and one only."""
SIGNALS_SERVICE = f"{KEDGE}/service"
"""Annotation on such a Deployment: the Service of its pods, by which requests are counted."""
REACHABILITY = f"{KEDGE}/reachability"
"""Annotation on such a Deployment: `unreachable` where no request is meant for it."""
PROVEN = f"{KEDGE}/proven"
"""Annotation on such a Deployment: `true` once a pod of it was ready."""
PROVEN_TEMPLATE = f"{KEDGE}/proven-template"
"""Annotation on such a Deployment: the template-hash of the pod that proved it."""
LAST_FAILURE = f"{KEDGE}/last-failure"
"""Annotation on such a Deployment: why its pods could not start last, until one is ready."""
FLOOR = f"{KEDGE}/floor"
"""Annotation on such a Deployment: the fewest pods for now, while it takes over requests."""
GRADUAL_ROLLOUT = f"{KEDGE}/rollout"
"""Annotation on a component's route: how far a gradual rollout is."""
MODEL_PINS = f"{KEDGE}/model-pins"
"""Annotation on a revision's pods: the volumes with its model, and the digest of what they held."""
NO_GC = f"{KNATIVE}/no-gc"
"""Annotation on a revision's Deployment: `true` keeps it."""
ROUTING_STATE_MODIFIED = f"{KNATIVE}/routingStateModified"
"""Annotation on a revision's Deployment: since when it has, or lacks, requests."""
SIZED = f"{KEDGE}/sized"
"""Annotation beside the floor: what it was reckoned from, `WHOLE/PODS`."""
FLOOR_UNTIL = f"{KEDGE}/floor-until"
"""Annotation beside the floor, once the requests are there: when it ends."""
CONTAINER_CONCURRENCY = f"{KEDGE}/container-concurrency"
"""Annotation on a Deployment and its Service: the most requests in one pod; 0 for no limit."""
ACTIVATION = f"{KEDGE}/activation"
"""Label on a Service: the gateway holds requests while it has no pod, and hands out slots."""
CANNOT_START = f"{KEDGE}/cannot-start"
"""Annotation on such a Service, while its pods cannot start: why."""
NO_ROOM = f"{KEDGE}/no-room"
"""Annotation on such a Service, while no node takes its pods: why. A node may come any time."""
READY_PROBE = f"{KEDGE}/ready-probe"
"""Annotation on such a Service: how the gateway asks a pod itself whether it is ready."""

KEEPALIVE = f"{KEDGE}/keepalive-seconds"
"""Annotation on a Service: how long its server keeps idle connections, in seconds."""

COMPARE_MIRRORS = f"{KEDGE}/compare-mirrors"
"""Annotation on an HTTPRoute: `true` has answers to mirrored requests compared with the others."""

ANSWERING = f"{KEDGE}/Answering"
"""Condition on an HTTPRoute's parent: a request sent now meets a ready pod."""

LONGEST_NAME = 63
"""Of a Service, and of a label's value."""

SERVER_CONTAINER = "kserve-container"
TRANSFORMER_CONTAINER = "transformer-container"
WORKER_CONTAINER = "worker-container"
STORAGE_INITIALIZER = "storage-initializer"
MODEL_PATH = "/mnt/models"
KEDGE_SERVICE_HEADER = "kedge-service"

_TEMPLATE_EXCLUDED = frozenset(
    {
        STOP,
        DISABLE_AUTO_UPDATE,
        ENABLE_TAG_ROUTING,
        DEPLOYMENT_MODE,
        AUTOSCALER_CLASS,
        ROLLOUT_DURATION,
        SHADOW_PERCENT,
    }
)


class ComponentKind(StrEnum):
    """The parts a service can have, in the order in which they are reconciled."""

    PREDICTOR = "predictor"
    TRANSFORMER = "transformer"
    EXPLAINER = "explainer"

    @property
    def title(self) -> str:  # type: ignore[override]  # a word, not str.title()
        return self.value.capitalize()


def steers_control_plane(annotation: str) -> bool:
    """Whether an annotation only steers Kedge and so must not restart pods when it changes."""
    return annotation in _TEMPLATE_EXCLUDED or annotation.startswith(f"{AUTOSCALING}/")


def component_name(isvc: str, kind: ComponentKind, variant: str = "") -> str:
    """`iris-predictor`; with a variant name (`predictor.name`) `iris-blue-predictor`."""
    return f"{isvc}-{variant}-{kind}" if variant else f"{isvc}-{kind}"


def app_label(component: str) -> str:
    return f"isvc.{component}"


def private_service(name: str) -> str:
    """The Service that selects pods, where the one named like the component does not."""
    return _fitting(name, "-private")


def revision(component: str, number: int) -> str:
    return _fitting(component, f"-{number:05d}")


def _fitting(stem: str, ending: str) -> str:
    """A name of at most 63 characters; a stem too long is cut and gets a digest of its whole."""
    if len(stem) + len(ending) <= LONGEST_NAME:
        return stem + ending
    mark = f"-{hashlib.sha256(stem.encode()).hexdigest()[:8]}"
    return stem[: LONGEST_NAME - len(ending) - len(mark)].rstrip("-") + mark + ending


def revision_number(name: str) -> int:
    """The number in a revision's name; 0 when it has none."""
    digits = name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0


def path_route(isvc: str) -> str:
    return f"{isvc}-path"


def tag_route(component: str, tag: str) -> str:
    return f"{tag}-{component}"


def path_prefix(namespace: str, isvc: str) -> str:
    """Where the gateway answers for a service without looking at the host."""
    return f"/serving/{namespace}/{isvc}/"


def worker(component: str) -> str:
    return f"{component}-worker"


def head_service(isvc: str, variant: str, generation: int) -> str:
    return f"{isvc}-{variant}-head-{generation}" if variant else f"{isvc}-head-{generation}"


def workers_service(isvc: str, variant: str, generation: int) -> str:
    return f"{isvc}-{variant}-workers-{generation}" if variant else f"{isvc}-workers-{generation}"


def model_config_map(isvc: str) -> str:
    return f"modelconfig-{isvc}-0"


def service_hosts(service: str, namespace: str, cluster_domain: str) -> list[str]:
    """The names by which a Service is known inside the cluster, short ones first."""
    return [
        f"{service}.{namespace}",
        f"{service}.{namespace}.svc",
        f"{service}.{namespace}.svc.{cluster_domain}",
    ]
