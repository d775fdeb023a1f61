"""When an object that is to be deleted really goes: grace periods and finalizers."""

from __future__ import annotations

from datetime import datetime, timedelta

from kedge.api.scheme import POD, Kind
from kedge.cluster.base import Object
from kedge.cluster.errors import Conflict
from kedge.cluster.local.requests import DeleteOptions
from kedge.lib.clock import format_time

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
_PROPAGATION_FINALIZER = {"Foreground": FOREGROUND, "Orphan": ORPHAN}
_POD_ENDED = ("Succeeded", "Failed")


def check_preconditions(kind: Kind, obj: Object, options: DeleteOptions) -> None:
    """Raise `Conflict` unless `obj` is the very object that was meant."""
    metadata = obj["metadata"]
    for field, wanted in (("UID", options.uid), ("ResourceVersion", options.resource_version)):
        found = metadata["uid"] if field == "UID" else metadata["resourceVersion"]
        if wanted is not None and wanted != found:
            raise Conflict(
                f'Operation cannot be fulfilled on {kind} "{metadata["name"]}": Precondition'
                f" failed: {field} in precondition: {wanted}, {field} in object meta: {found}",
                details={"name": metadata["name"], "group": kind.group, "kind": kind.plural},
            )


def mark_deleted(kind: Kind, obj: Object, options: DeleteOptions, now: datetime) -> None:
    """Note in the metadata that, when and how the object is to go; again with a shorter grace."""
    metadata = obj["metadata"]
    grace = _grace(kind, obj, options)
    if options.propagation is not None:
        _set_propagation(metadata, options.propagation)
    if "deletionTimestamp" in metadata:
        before = metadata.get("deletionGracePeriodSeconds") or 0
        if grace >= before:
            return
    elif "generation" in metadata:
        metadata["generation"] += 1
    metadata["deletionTimestamp"] = format_time(now + timedelta(seconds=grace))
    metadata["deletionGracePeriodSeconds"] = grace


def may_go(obj: Object) -> bool:
    """Whether nothing holds a deleted object any more."""
    metadata = obj["metadata"]
    if "deletionTimestamp" not in metadata or metadata.get("finalizers"):
        return False
    if obj.get("kind") == "Namespace" and (obj.get("spec") or {}).get("finalizers"):
        return False
    return not metadata.get("deletionGracePeriodSeconds")


def _grace(kind: Kind, obj: Object, options: DeleteOptions) -> int:
    """Seconds; nothing but a pod that may still run needs any."""
    if kind is not POD:
        return 0
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if not spec.get("nodeName") or status.get("phase") in _POD_ENDED:
        return 0
    asked = options.grace_seconds
    if asked is None:
        asked = spec.get("terminationGracePeriodSeconds", 30)
    return max(int(asked), 0)


def _set_propagation(metadata: Object, propagation: str) -> None:
    wanted = _PROPAGATION_FINALIZER.get(propagation)
    finalizers = [
        name
        for name in metadata.get("finalizers") or ()
        if name not in _PROPAGATION_FINALIZER.values()
    ]
    if wanted is not None:
        finalizers.append(wanted)
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)
