"""The part of every object that the server writes: identity, times, generation."""

from __future__ import annotations

import uuid
from typing import Any

from kedge.api.scheme import (
    CONFIG_MAP,
    ENDPOINTS,
    EVENT,
    HORIZONTAL_POD_AUTOSCALER,
    LEASE,
    NAMESPACE,
    NODE,
    PERSISTENT_VOLUME_CLAIM,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    Kind,
)
from kedge.cluster.base import Object
from kedge.cluster.errors import BadRequest

# Kinds whose generation Kubernetes does not count.
_NO_GENERATION = frozenset({
    CONFIG_MAP, ENDPOINTS, EVENT, HORIZONTAL_POD_AUTOSCALER, LEASE, NAMESPACE, NODE,
    PERSISTENT_VOLUME_CLAIM, SECRET, SERVICE, SERVICE_ACCOUNT,
})  # fmt: skip
_STRINGS = ("name", "generateName", "namespace", "resourceVersion", "uid")
_TYPES: dict[str, tuple[type, str]] = {
    **dict.fromkeys(_STRINGS, (str, "a string")),
    **dict.fromkeys(("labels", "annotations"), (dict, "an object")),
    **dict.fromkeys(("finalizers", "managedFields", "ownerReferences"), (list, "a list")),
}  # fmt: skip
_KEPT = (
    "name", "namespace", "uid", "creationTimestamp", "generation", "deletionTimestamp",
    "deletionGracePeriodSeconds",
)  # fmt: skip
_NEVER_STORED = ("selfLink", "clusterName")


def check_metadata(obj: Object) -> None:
    """Drop what is null and raise `BadRequest` where a field that we rely on has a wrong type."""
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        raise BadRequest("metadata: expected an object. Fix: Write a name under metadata.")
    for field in [field for field, value in metadata.items() if value is None]:
        del metadata[field]
    for field, (wanted, shown) in _TYPES.items():
        if not isinstance(metadata.get(field, wanted()), wanted):
            raise BadRequest(f"metadata.{field}: expected {shown}. Fix: Write {shown}.")


def start_life(kind: Kind, obj: Object, now: str) -> None:
    """Give a new object its identity; whatever the client claimed of it is dropped."""
    metadata = obj["metadata"]
    for field in ("deletionTimestamp", "deletionGracePeriodSeconds", "generation", *_NEVER_STORED):
        metadata.pop(field, None)
    metadata["uid"] = str(uuid.uuid4())
    metadata["creationTimestamp"] = now
    if kind not in _NO_GENERATION:
        metadata["generation"] = 1
    if kind.status and kind is not NODE:
        obj.pop("status", None)


def keep_identity(kind: Kind, obj: Object, old: Object) -> None:
    """Take over from `old` what no client may change."""
    metadata, before = obj["metadata"], old["metadata"]
    for field in _KEPT:
        if field in before:
            metadata[field] = before[field]
        else:
            metadata.pop(field, None)
    for field in _NEVER_STORED:
        metadata.pop(field, None)


def count_generation(kind: Kind, obj: Object, old: Object) -> None:
    """One more when something other than metadata and status changed."""
    if kind not in _NO_GENERATION and desired(obj) != desired(old):
        obj["metadata"]["generation"] = int(old["metadata"].get("generation", 0)) + 1


def desired(obj: Object) -> dict[str, Any]:
    """What the object asks for: all but metadata and status."""
    return {key: value for key, value in obj.items() if key not in ("metadata", "status")}


def is_same(obj: Object, old: Object) -> bool:
    """Whether storing `obj` in place of `old` would change nothing that matters."""
    return _comparable(obj) == _comparable(old)


def _comparable(obj: Object) -> Object:
    metadata = dict(obj["metadata"])
    metadata.pop("resourceVersion", None)
    entries = metadata.pop("managedFields", None) or []
    metadata["managedFields"] = [
        {key: value for key, value in entry.items() if key != "time"}
        for entry in entries
        if isinstance(entry, dict)
    ]
    return {**obj, "metadata": metadata}
