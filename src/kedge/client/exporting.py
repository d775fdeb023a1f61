"""What people applied, as it would be applied elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kedge.api.scheme import (
    CLUSTER_SERVING_RUNTIME,
    CLUSTER_STORAGE_CONTAINER,
    CONFIG_MAP,
    INFERENCE_SERVICE,
    NAMESPACE,
    PERSISTENT_VOLUME_CLAIM,
    SECRET,
    SERVICE_ACCOUNT,
    SERVING_RUNTIME,
    Kind,
)
from kedge.client.control import ControlClient
from kedge.cluster.base import FIELD_MANAGER

Object = dict[str, Any]

ORDER: tuple[Kind, ...] = (
    NAMESPACE, CLUSTER_STORAGE_CONTAINER, CLUSTER_SERVING_RUNTIME, SERVING_RUNTIME, SECRET,
    CONFIG_MAP, SERVICE_ACCOUNT, PERSISTENT_VOLUME_CLAIM, INFERENCE_SERVICE,
)  # fmt: skip
"""What is exported, in an order in which it can be applied."""

_SYSTEM_NAMESPACES = frozenset(
    {"default", "kedge", "kube-system", "kube-public", "kube-node-lease"}
)
_ADDED = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink")
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


async def exported(
    client: ControlClient,
    namespace: str | None = None,
    *,
    names: list[str],
    secrets: bool = False,
    everywhere: bool = False,
) -> list[Object]:
    """The objects that people applied; with `names` these InferenceServices only."""
    if names:
        found = [await client.get(INFERENCE_SERVICE, name, namespace) for name in names]
        return [stripped(obj) for obj in found]
    objects: list[Object] = []
    for kind in ORDER:
        if kind is SECRET and not secrets:
            continue
        listed = await client.list(kind, namespace, everywhere=everywhere)
        objects += [stripped(obj) for obj in listed.items if is_applied(obj)]
    return objects


def is_applied(obj: Object) -> bool:
    """Whether a person made it, rather than Kedge or a controller."""
    metadata = obj["metadata"]
    if obj["kind"] == NAMESPACE.kind:
        return metadata["name"] not in _SYSTEM_NAMESPACES
    if metadata.get("namespace") == "kedge" or metadata.get("ownerReferences"):
        return False
    if obj["kind"] == CONFIG_MAP.kind and metadata["name"] == "kube-root-ca.crt":
        return False
    if obj["kind"] == SERVICE_ACCOUNT.kind and metadata["name"] == "default":
        return bool(obj.get("secrets"))
    managers = {entry.get("manager") for entry in metadata.get("managedFields") or []}
    return managers != {FIELD_MANAGER}


def stripped(obj: Object) -> Object:
    """Without what the API or a controller added."""
    metadata = {key: value for key, value in obj["metadata"].items() if key not in _ADDED}
    metadata.pop("ownerReferences", None)
    metadata.pop("finalizers", None)
    annotations = {
        key: value
        for key, value in (metadata.pop("annotations", None) or {}).items()
        if key != _LAST_APPLIED
    }
    if annotations:
        metadata["annotations"] = annotations
    rest = {k: v for k, v in obj.items() if k not in ("apiVersion", "kind", "metadata", "status")}
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "metadata": metadata,
        **rest,
    }


def local_uris(objects: list[Object]) -> Iterator[tuple[str, str]]:
    """(service, URI) of every model that lies on the exporting machine's own disk."""
    for obj in objects:
        if obj["kind"] == INFERENCE_SERVICE.kind:
            for value in _strings(obj["spec"], "storageUri"):
                if value.startswith(("file://", "/")):
                    yield obj["metadata"]["name"], value


def _strings(value: Any, key: str) -> Iterator[str]:
    """Every string under a key, however deep."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key and isinstance(inner, str):
                yield inner
            else:
                yield from _strings(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, key)
