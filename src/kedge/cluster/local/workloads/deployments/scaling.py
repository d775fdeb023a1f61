"""A change of size: of one ReplicaSet, or in proportion when a rolling update is under way."""

from __future__ import annotations

import math
from collections.abc import Iterable

from kedge.cluster.base import Object
from kedge.cluster.local.workloads.deployments.rolling import (
    bounds_of,
    counted,
    size_of,
    total_size,
    wanted,
)

DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"


def size_annotations(deployment: Object) -> dict[str, str]:
    """What a ReplicaSet notes about its Deployment's size, to see when that changes."""
    replicas = wanted(deployment)
    return {DESIRED: str(replicas), MAXIMUM: str(replicas + bounds_of(deployment).surge)}


def was_resized(deployment: Object, replica_sets: Iterable[Object]) -> bool:
    """Whether the Deployment's size changed since its ReplicaSets were last given theirs."""
    return any(
        size_of(one) > 0 and _noted(one, DESIRED) not in (None, wanted(deployment))
        for one in replica_sets
    )


def resize(deployment: Object, new: Object | None, old: list[Object]) -> dict[str, int]:
    """The sizes, by name, that ReplicaSets get because the Deployment's size changed."""
    active = [one for one in [*old, *([new] if new else [])] if size_of(one) > 0]
    replicas = wanted(deployment)
    if len(active) <= 1:
        latest = active[0] if active else new
        return {latest["metadata"]["name"]: replicas} if latest else {}
    if new is not None and _is_saturated(deployment, new):
        return {one["metadata"]["name"]: 0 for one in old if size_of(one) > 0}
    if (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
        return {}
    return _in_proportion(deployment, active)


def _is_saturated(deployment: Object, new: Object) -> bool:
    replicas = wanted(deployment)
    return (
        size_of(new) == replicas
        and _noted(new, DESIRED) == replicas
        and counted(new, "availableReplicas") == replicas
    )


def _in_proportion(deployment: Object, active: list[Object]) -> dict[str, int]:
    replicas = wanted(deployment)
    allowed = replicas + bounds_of(deployment).surge if replicas else 0
    to_add = allowed - total_size(active)
    ordered = _largest_first(active, newest_first=to_add > 0)
    sizes, added = {}, 0
    for one in ordered:
        share = _share(deployment, one, to_add, added) if to_add else 0
        sizes[one["metadata"]["name"]] = size_of(one) + share
        added += share
    if to_add:
        first = ordered[0]["metadata"]["name"]
        sizes[first] = max(0, sizes[first] + to_add - added)
    return sizes


def _largest_first(replica_sets: list[Object], *, newest_first: bool) -> list[Object]:
    by_age = sorted(
        replica_sets,
        key=lambda one: str(one["metadata"]["creationTimestamp"]),
        reverse=newest_first,
    )
    return sorted(by_age, key=size_of, reverse=True)


def _share(deployment: Object, replica_set: Object, to_add: int, added: int) -> int:
    allowed = to_add - added
    if not size_of(replica_set) or not allowed:
        return 0
    share = _fraction(deployment, replica_set)
    return min(share, allowed) if to_add > 0 else max(share, allowed)


def _fraction(deployment: Object, replica_set: Object) -> int:
    size, replicas = size_of(replica_set), wanted(deployment)
    if not replicas:
        return -size
    maximum = replicas + bounds_of(deployment).surge
    before = _noted(replica_set, MAXIMUM) or counted(deployment, "replicas")
    if not before:
        return 0
    return math.floor(size * maximum / before + 0.5) - size


def _noted(replica_set: Object, annotation: str) -> int | None:
    text = (replica_set["metadata"].get("annotations") or {}).get(annotation, "")
    return int(text) if text.isdigit() else None
