"""What a pod's status says, and which pod to give up first."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from kedge.cluster.base import Object

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASE_RANK = {"Pending": 0, "Unknown": 1, "Running": 2}


def is_terminating(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def has_ended(pod: Object) -> bool:
    """Its containers have stopped and will not be started again."""
    return phase_of(pod) in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    return not is_terminating(pod) and not has_ended(pod)


def phase_of(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase", "Pending"))


def condition_of(obj: Object, type: str) -> dict[str, Any] | None:
    """The condition of one type in the status of any object."""
    for condition in (obj.get("status") or {}).get("conditions") or ():
        if condition.get("type") == type:
            found: dict[str, Any] = condition
            return found
    return None


def is_ready(pod: Object) -> bool:
    condition = condition_of(pod, "Ready")
    return condition is not None and condition["status"] == "True"


def seconds_until_available(pod: Object, min_ready: int, now: datetime) -> float | None:
    """0 when the pod has been ready for `min_ready` seconds; None when it is not ready."""
    condition = condition_of(pod, "Ready")
    if condition is None or condition["status"] != "True":
        return None
    if not min_ready:
        return 0.0
    since = parse_time(condition.get("lastTransitionTime"))
    return max(0.0, min_ready - (now - since).total_seconds()) if since else float(min_ready)


def parse_time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def make_pod(owner: Object, template: Object, reference: dict[str, Any]) -> Object:
    """The pod that `owner` makes from its template; the server gives it a name."""
    metadata = template.get("metadata") or {}
    copied = {
        field: metadata[field]
        for field in ("labels", "annotations", "finalizers")
        if metadata.get(field)
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **copied,
            "generateName": f"{owner['metadata']['name']}-",
            "namespace": owner["metadata"]["namespace"],
            "ownerReferences": [reference],
        },
        "spec": template.get("spec") or {},
    }


def rank_for_deletion(pods: Iterable[Object]) -> list[Object]:
    """The pods, those first that are missed least."""
    return sorted(pods, key=_worth)


def _worth(pod: Object) -> tuple[object, ...]:
    ready = condition_of(pod, "Ready")
    ready_since = str((ready or {}).get("lastTransitionTime") or "") if is_ready(pod) else ""
    return (
        bool((pod.get("spec") or {}).get("nodeName")),
        _PHASE_RANK.get(phase_of(pod), 2),
        is_ready(pod),
        _deletion_cost(pod),
        _Latest(ready_since),
        -_restarts(pod),
        _Latest(pod["metadata"].get("creationTimestamp") or ""),
    )


class _Latest(str):
    """Text that sorts backwards: the latest time first."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)


def _deletion_cost(pod: Object) -> int:
    text = (pod["metadata"].get("annotations") or {}).get(DELETION_COST, "0")
    try:
        return int(text)
    except ValueError:
        return 0


def _restarts(pod: Object) -> int:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return max((int(status.get("restartCount", 0)) for status in statuses), default=0)
