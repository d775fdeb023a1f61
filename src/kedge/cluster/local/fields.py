"""Which fields of each kind a field selector can ask for, as on Kubernetes."""

from __future__ import annotations

from kedge.api.scheme import (
    EVENT,
    NAMESPACE,
    NODE,
    POD,
    REPLICA_SET,
    SECRET,
    SERVICE,
    Kind,
)
from kedge.cluster.base import Object

_FIELDS: dict[Kind, tuple[str, ...]] = {
    POD: (
        "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
        "spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName",
    ),
    EVENT: (
        "involvedObject.kind", "involvedObject.namespace", "involvedObject.name",
        "involvedObject.uid", "involvedObject.apiVersion", "involvedObject.resourceVersion",
        "involvedObject.fieldPath", "reason", "reportingComponent", "source", "type",
    ),
    NAMESPACE: ("status.phase",),
    NODE: ("spec.unschedulable",),
    REPLICA_SET: ("status.replicas",),
    SECRET: ("type",),
    SERVICE: ("spec.clusterIP", "spec.type"),
}  # fmt: skip


def selectable_fields(kind: Kind) -> tuple[str, ...]:
    """Besides `metadata.name` and `metadata.namespace`, which every kind has."""
    return _FIELDS.get(kind, ())


def fields_of(kind: Kind, obj: Object) -> dict[str, str]:
    """The values of an object's selectable fields."""
    return {path: _text(obj, path) for path in _FIELDS.get(kind, ())}


def _text(obj: Object, path: str) -> str:
    if path == "source":
        return str((obj.get("source") or {}).get("component", ""))
    value: object = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return {"spec.unschedulable": "false", "spec.hostNetwork": "false"}.get(path, "")
    return str(value)
