"""What of KServe is in a cluster; nothing is changed here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kedge.api.inferenceservice.defaults import DEPLOYMENT_MODE
from kedge.api.scheme import (
    CLUSTER_SERVING_RUNTIME,
    CLUSTER_STORAGE_CONTAINER,
    CONFIG_MAP,
    DEPLOYMENT,
    HORIZONTAL_POD_AUTOSCALER,
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    LEGACY_SERVING_GROUP,
    SERVICE,
    SERVING_GROUP,
    SERVING_RUNTIME,
    Kind,
)
from kedge.cluster.base import Object
from kedge.cluster.errors import NotFound
from kedge.install.kinds import CUSTOM_RESOURCE_DEFINITION, VALIDATING_WEBHOOK
from kedge.install.manifests import shipped
from kedge.install.migration.kinds import (
    INGRESS,
    KNATIVE_SERVICE,
    LEGACY_SERVICE,
    MUTATING_WEBHOOK,
    SCALED_OBJECT,
    STATEFUL_SET,
    UNSUPPORTED,
    VIRTUAL_SERVICE,
)
from kedge.install.probing import is_ours
from kedge.install.target import Target, patiently
from kedge.lib.clock import SYSTEM_CLOCK
from kedge.settings.installation import ADOPTION, APPLIED_HASH
from kedge.settings.serving import CONFIG_MAP_NAME

CONTROLLERS = ("kserve-controller-manager", "kfserving-controller-manager")
"""Values of the label `control-plane` of what reconciles InferenceServices."""
FRONT = "serving.kedge.dev/front"
"""Label on a way in that was KServe's and now leads to Kedge's gateway."""
_WEBHOOK_SERVERS = ("kserve-webhook-server-service", "kfserving-webhook-server-service")
_CHILDREN: tuple[Kind, ...] = (
    KNATIVE_SERVICE, VIRTUAL_SERVICE, INGRESS, HTTP_ROUTE, SERVICE, DEPLOYMENT,
    HORIZONTAL_POD_AUTOSCALER, SCALED_OBJECT,
)  # fmt: skip


@dataclass(frozen=True)
class Child:
    """An object that KServe made of a service."""

    kind: Kind
    obj: Object

    @property
    def name(self) -> str:
        return str(self.obj["metadata"]["name"])

    def __str__(self) -> str:
        kind = "Knative Service" if self.kind is KNATIVE_SERVICE else self.kind.kind
        return f"{kind} {self.name}"


@dataclass(frozen=True)
class Served:
    """One InferenceService, of today's group or of KFServing's, and what KServe made of it."""

    isvc: Object
    children: tuple[Child, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def name(self) -> str:
        return str(self.isvc["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.isvc["metadata"]["namespace"])

    @property
    def is_legacy(self) -> bool:
        return str(self.isvc["apiVersion"]).startswith(LEGACY_SERVING_GROUP)

    @property
    def adoption(self) -> str:
        """How far it is: empty, `waiting` or `beside`."""
        return str((self.isvc["metadata"].get("annotations") or {}).get(ADOPTION, ""))

    @property
    def is_adopted(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.children or self.adoption or self.is_legacy)

    @property
    def ready(self) -> str:
        """True, False or Unknown, as the last controller saw it."""
        conditions = (self.isvc.get("status") or {}).get("conditions") or ()
        return next((str(c["status"]) for c in conditions if c["type"] == "Ready"), "Unknown")

    @property
    def url(self) -> str:
        return str((self.isvc.get("status") or {}).get("url") or "")

    @property
    def mode(self) -> str:
        """As recorded or annotated; empty for the cluster's default."""
        annotations = self.isvc["metadata"].get("annotations") or {}
        recorded = (self.isvc.get("status") or {}).get("deploymentMode")
        return str(recorded or annotations.get(DEPLOYMENT_MODE) or "")


@dataclass
class Found:
    """KServe in a cluster.

    Attributes:
        controllers: Deployments and StatefulSets that reconcile InferenceServices.
        webhooks: configurations that ask these.
        conversions: definitions whose objects these convert.
        config: KServe's `inferenceservice-config`.
        services: every InferenceService, those of KFServing's group too.
        storage: ClusterStorageContainers that an installation of Kedge has of its own.
        unsupported: kind and reason, and the names of the objects.
    """

    controllers: list[tuple[Kind, Object]] = field(default_factory=list)
    webhooks: list[tuple[Kind, Object]] = field(default_factory=list)
    conversions: list[Object] = field(default_factory=list)
    config: Object | None = None
    services: list[Served] = field(default_factory=list)
    runtimes: list[Object] = field(default_factory=list)
    cluster_runtimes: list[Object] = field(default_factory=list)
    storage: list[Object] = field(default_factory=list)
    unsupported: list[tuple[Kind, str, list[str]]] = field(default_factory=list)

    @property
    def homes(self) -> list[str]:
        """The namespaces of KServe's own objects."""
        return list(dict.fromkeys(str(obj["metadata"]["namespace"]) for _, obj in self.controllers))

    @property
    def running(self) -> list[tuple[Kind, Object]]:
        return [one for one in self.controllers if one[1]["spec"].get("replicas", 1)]


async def find(cluster: Target, home: str) -> Found:
    """Look at the whole cluster.

    Args:
        home: Kedge's own namespace, whose configuration is not KServe's.
    """
    found = Found()
    for kind in (DEPLOYMENT, STATEFUL_SET):
        for value in CONTROLLERS:
            for obj in await listed(cluster, kind, labels=f"control-plane={value}"):
                found.controllers.append((kind, obj))
    for kind in (MUTATING_WEBHOOK, VALIDATING_WEBHOOK):
        for obj in await listed(cluster, kind):
            if _asks_kserve(obj):
                found.webhooks.append((kind, obj))
    for obj in await listed(cluster, CUSTOM_RESOURCE_DEFINITION):
        if obj["spec"]["group"] == SERVING_GROUP and _converts(obj):
            found.conversions.append(obj)
    found.config = await _find_config(cluster, found.homes, home)
    found.runtimes = await listed(cluster, SERVING_RUNTIME)
    found.cluster_runtimes = await listed(cluster, CLUSTER_SERVING_RUNTIME)
    shared = {obj["metadata"]["name"] for obj in shipped("storagecontainers")}
    for obj in await listed(cluster, CLUSTER_STORAGE_CONTAINER):
        if obj["metadata"]["name"] in shared and not is_ours(obj):
            found.storage.append(obj)
    for kind, reason in UNSUPPORTED:
        names = [_key(obj) for obj in await listed(cluster, kind)]
        if names:
            found.unsupported.append((kind, reason, names))
    found.services = await find_services(cluster)
    return found


async def find_services(cluster: Target) -> list[Served]:
    """Every InferenceService with what KServe made of it."""
    owned = await _children(cluster)
    return [
        Served(isvc, tuple(owned.get(str(isvc["metadata"]["uid"]), ())))
        for kind in (LEGACY_SERVICE, INFERENCE_SERVICE)
        for isvc in await listed(cluster, kind)
    ]


async def listed(
    cluster: Target, kind: Kind, namespace: str | None = None, *, labels: str | None = None
) -> list[Object]:
    """All objects of a kind; none where the cluster does not know it."""
    try:
        found = await patiently(lambda: cluster.list(kind, namespace, labels=labels), SYSTEM_CLOCK)
    except NotFound:
        return []
    return found.items


def is_kserves(obj: Object) -> bool:
    """Whether Kedge has neither made an object nor kept it as a way in."""
    metadata = obj["metadata"]
    made = APPLIED_HASH in (metadata.get("annotations") or {})
    return not made and FRONT not in (metadata.get("labels") or {})


def owner_of(obj: Object) -> dict[str, Any]:
    """The controller reference; empty where there is none."""
    references = obj["metadata"].get("ownerReferences") or ()
    return next((dict(one) for one in references if one.get("controller")), {})


async def find_children(cluster: Target, isvc: Object) -> list[Child]:
    """What KServe made of one service and is still there."""
    metadata = isvc["metadata"]
    return (await _children(cluster, metadata["namespace"])).get(str(metadata["uid"]), [])


async def _children(cluster: Target, namespace: str | None = None) -> dict[str, list[Child]]:
    """Objects of KServe by the uid of the service they are of."""
    owned: dict[str, list[Child]] = {}
    for kind in _CHILDREN:
        for obj in await listed(cluster, kind, namespace):
            owner = owner_of(obj)
            if owner.get("kind") == INFERENCE_SERVICE.kind and is_kserves(obj):
                owned.setdefault(str(owner["uid"]), []).append(Child(kind, obj))
    return owned


async def _find_config(cluster: Target, homes: list[str], home: str) -> Object | None:
    """Of KServe's own namespace, else the only one that is not Kedge's."""
    field_ = f"metadata.name={CONFIG_MAP_NAME}"
    found = [
        obj
        for obj in (await cluster.list(CONFIG_MAP, fields=field_)).items
        if obj["metadata"]["namespace"] != home
    ]
    found.sort(key=lambda obj: obj["metadata"]["namespace"] not in homes)
    return found[0] if found else None


def _asks_kserve(configuration: Object) -> bool:
    return any(
        ((one.get("clientConfig") or {}).get("service") or {}).get("name") in _WEBHOOK_SERVERS
        for one in configuration.get("webhooks") or ()
    )


def _converts(definition: Object) -> bool:
    conversion = definition["spec"].get("conversion") or {}
    config = (conversion.get("webhook") or {}).get("clientConfig") or {}
    asked = (config.get("service") or {}).get("name")
    return conversion.get("strategy") == "Webhook" and asked in _WEBHOOK_SERVERS


def _key(obj: Object) -> str:
    metadata = obj["metadata"]
    space = metadata.get("namespace")
    return f"{space}/{metadata['name']}" if space else str(metadata["name"])
