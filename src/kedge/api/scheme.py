"""Every kind that Kedge reads or writes, and how the API addresses it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

SERVING_GROUP = "serving.kserve.io"
LEGACY_SERVING_GROUP = "serving.kubeflow.org"
GATEWAY_GROUP = "gateway.networking.k8s.io"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object.

    Attributes:
        group: API group; empty for the core group.
        type_path: `module:Class` of its msgspec Struct, imported on first use (`Kind.type`).
        status: has a status sub-resource.
        scale: has a scale sub-resource (`spec.replicas`, `status.replicas`).
    """

    group: str
    version: str
    kind: str
    plural: str
    type_path: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    status: bool = False
    scale: bool = False

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def type(self) -> Any:
        module, _, name = self.type_path.partition(":")
        return getattr(import_module(module), name)

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """The URL path of the collection, or of one object."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name is not None:
            parts.append(name)
        return "/".join(parts)

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


_API = "kedge.api"
_CORE = "lightkube.models.core_v1"
_APPS = "lightkube.models.apps_v1"

INFERENCE_SERVICE = Kind(
    SERVING_GROUP, "v1beta1", "InferenceService", "inferenceservices",
    f"{_API}.inferenceservice.types:InferenceService", short_names=("isvc",), status=True,
)  # fmt: skip
SERVING_RUNTIME = Kind(
    SERVING_GROUP, "v1alpha1", "ServingRuntime", "servingruntimes",
    f"{_API}.servingruntime.types:ServingRuntime",
)  # fmt: skip
CLUSTER_SERVING_RUNTIME = Kind(
    SERVING_GROUP, "v1alpha1", "ClusterServingRuntime", "clusterservingruntimes",
    f"{_API}.servingruntime.types:ClusterServingRuntime", namespaced=False,
)  # fmt: skip
CLUSTER_STORAGE_CONTAINER = Kind(
    SERVING_GROUP, "v1alpha1", "ClusterStorageContainer", "clusterstoragecontainers",
    f"{_API}.clusterstoragecontainer.types:ClusterStorageContainer", namespaced=False,
)  # fmt: skip

NAMESPACE = Kind(
    "", "v1", "Namespace", "namespaces", f"{_CORE}:Namespace",
    namespaced=False, short_names=("ns",), status=True,
)  # fmt: skip
NODE = Kind(
    "", "v1", "Node", "nodes", f"{_CORE}:Node",
    namespaced=False, short_names=("no",), status=True,
)  # fmt: skip
POD = Kind(
    "", "v1", "Pod", "pods", f"{_CORE}:Pod",
    short_names=("po",), categories=("all",), status=True,
)  # fmt: skip
SERVICE = Kind(
    "", "v1", "Service", "services", f"{_CORE}:Service",
    short_names=("svc",), categories=("all",), status=True,
)  # fmt: skip
ENDPOINTS = Kind("", "v1", "Endpoints", "endpoints", f"{_CORE}:Endpoints", short_names=("ep",))
SECRET = Kind("", "v1", "Secret", "secrets", f"{_CORE}:Secret")
CONFIG_MAP = Kind(
    "", "v1", "ConfigMap", "configmaps", f"{_CORE}:ConfigMap", short_names=("cm",)
)  # fmt: skip
SERVICE_ACCOUNT = Kind(
    "", "v1", "ServiceAccount", "serviceaccounts", f"{_CORE}:ServiceAccount", short_names=("sa",)
)
PERSISTENT_VOLUME_CLAIM = Kind(
    "", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", f"{_CORE}:PersistentVolumeClaim",
    short_names=("pvc",), status=True,
)  # fmt: skip
EVENT = Kind("", "v1", "Event", "events", f"{_CORE}:Event", short_names=("ev",))
ENDPOINT_SLICE = Kind(
    "discovery.k8s.io", "v1", "EndpointSlice", "endpointslices",
    "lightkube.models.discovery_v1:EndpointSlice",
)  # fmt: skip
DEPLOYMENT = Kind(
    "apps", "v1", "Deployment", "deployments", f"{_APPS}:Deployment",
    short_names=("deploy",), categories=("all",), status=True, scale=True,
)  # fmt: skip
REPLICA_SET = Kind(
    "apps", "v1", "ReplicaSet", "replicasets", f"{_APPS}:ReplicaSet",
    short_names=("rs",), categories=("all",), status=True, scale=True,
)  # fmt: skip
HORIZONTAL_POD_AUTOSCALER = Kind(
    "autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers",
    "lightkube.models.autoscaling_v2:HorizontalPodAutoscaler",
    short_names=("hpa",), categories=("all",), status=True,
)  # fmt: skip
LEASE = Kind(
    "coordination.k8s.io", "v1", "Lease", "leases", "lightkube.models.coordination_v1:Lease"
)
HTTP_ROUTE = Kind(
    GATEWAY_GROUP, "v1", "HTTPRoute", "httproutes",
    f"{_API}.gateway.types:HTTPRoute", status=True,
)  # fmt: skip
GATEWAY_CLASS = Kind(
    GATEWAY_GROUP, "v1", "GatewayClass", "gatewayclasses",
    f"{_API}.gateway.types:GatewayClass", namespaced=False, short_names=("gc",), status=True,
)  # fmt: skip
GATEWAY = Kind(
    GATEWAY_GROUP, "v1", "Gateway", "gateways",
    f"{_API}.gateway.types:Gateway", short_names=("gtw",), status=True,
)  # fmt: skip

PERSISTENT_VOLUME = Kind(
    "", "v1", "PersistentVolume", "persistentvolumes", f"{_CORE}:PersistentVolume",
    namespaced=False, status=True,
)  # fmt: skip
"""Only on Kubernetes: on one machine a claim is a folder."""
INGRESS = Kind(
    "networking.k8s.io", "v1", "Ingress", "ingresses",
    "lightkube.models.networking_v1:Ingress", short_names=("ing",), status=True,
)  # fmt: skip
"""Only on Kubernetes."""
VALIDATING_WEBHOOK_CONFIGURATION = Kind(
    "admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    "lightkube.models.admissionregistration_v1:ValidatingWebhookConfiguration", namespaced=False,
)  # fmt: skip
"""Only on Kubernetes: one machine's own API needs no telling."""

KINDS: tuple[Kind, ...] = (
    NAMESPACE, NODE, POD, SERVICE, ENDPOINTS, SECRET, CONFIG_MAP, SERVICE_ACCOUNT,
    PERSISTENT_VOLUME_CLAIM, EVENT, ENDPOINT_SLICE, DEPLOYMENT, REPLICA_SET,
    HORIZONTAL_POD_AUTOSCALER, LEASE, HTTP_ROUTE, GATEWAY_CLASS, GATEWAY, INFERENCE_SERVICE,
    SERVING_RUNTIME, CLUSTER_SERVING_RUNTIME, CLUSTER_STORAGE_CONTAINER,
)  # fmt: skip

_BY_GROUP_KIND = {(kind.group, kind.kind): kind for kind in KINDS}


def kind_of(obj: dict[str, Any]) -> Kind | None:
    """The kind that an object's `apiVersion` and `kind` name, or None when it is not served.

    The legacy group `serving.kubeflow.org` names today's kinds.
    """
    group, _, version = str(obj.get("apiVersion", "")).rpartition("/")
    if group == LEGACY_SERVING_GROUP:
        group = SERVING_GROUP
    found = _BY_GROUP_KIND.get((group, str(obj.get("kind", ""))))
    return found if found is not None and found.version == version else None
