"""The arithmetic of a rolling update: never too many pods, never too few that answer."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from kedge.cluster.base import Object


class Bounds(NamedTuple):
    """What a rolling update may do, in pods.

    Attributes:
        surge: more than asked for.
        unavailable: fewer available than asked for.
    """

    surge: int
    unavailable: int


def bounds_of(deployment: Object) -> Bounds:
    """The two limits in pods; shares of surge round up, shares of unavailable round down."""
    strategy = deployment["spec"].get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return Bounds(0, 0)
    replicas = wanted(deployment)
    rolling = strategy.get("rollingUpdate") or {}
    surge = _resolve(rolling.get("maxSurge", "25%"), replicas, up=True)
    unavailable = _resolve(rolling.get("maxUnavailable", "25%"), replicas, up=False)
    if not surge and not unavailable:
        unavailable = 1
    return Bounds(surge, min(unavailable, replicas))


def _resolve(value: int | str, total: int, *, up: bool) -> int:
    if isinstance(value, str) and value.endswith("%"):
        share = total * int(value[:-1]) / 100
        return math.ceil(share) if up else math.floor(share)
    return int(value)


def wanted(deployment: Object) -> int:
    return int(deployment["spec"].get("replicas", 1))


def size_of(replica_set: Object) -> int:
    """How many pods a ReplicaSet is asked for."""
    return int(replica_set["spec"].get("replicas", 1))


def total_size(replica_sets: Iterable[Object]) -> int:
    return sum(map(size_of, replica_sets))


def counted(replica_set: Object | None, field: str) -> int:
    """A count in a ReplicaSet's status."""
    return int(((replica_set or {}).get("status") or {}).get(field, 0))


def total_counted(replica_sets: Iterable[Object], field: str) -> int:
    return sum(counted(one, field) for one in replica_sets)


def oldest_first(replica_sets: Iterable[Object]) -> list[Object]:
    return sorted(
        replica_sets,
        key=lambda one: (one["metadata"]["creationTimestamp"], one["metadata"]["name"]),
    )


def new_size(deployment: Object, current: int, all_sets: Iterable[Object]) -> int:
    """How many pods the new ReplicaSet, of `current` pods now, may have at this moment."""
    replicas = wanted(deployment)
    if (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
        return replicas
    room = replicas + bounds_of(deployment).surge - total_size(all_sets)
    if current >= replicas:
        return replicas
    return current if room <= 0 else current + min(room, replicas - current)


def shrink_old(deployment: Object, new: Object | None, old: list[Object]) -> dict[str, int]:
    """New sizes, by name, of old ReplicaSets that may give up pods now.

    Pods that do not answer go first, whatever they belong to; then the oldest, as long as enough
    pods are available.
    """
    least = wanted(deployment) - bounds_of(deployment).unavailable
    every = [*old, new] if new else old
    new_unavailable = (size_of(new) - counted(new, "availableReplicas")) if new else 0
    spare = total_size(every) - least - new_unavailable
    if spare <= 0:
        return {}
    sizes = {one["metadata"]["name"]: size_of(one) for one in old}
    _drop_unavailable(old, sizes, spare)
    _drop_available(old, sizes, total_counted(every, "availableReplicas") - least)
    return {
        one["metadata"]["name"]: sizes[one["metadata"]["name"]]
        for one in old
        if sizes[one["metadata"]["name"]] != size_of(one)
    }


def _drop_unavailable(old: list[Object], sizes: dict[str, int], spare: int) -> None:
    for one in oldest_first(old):
        name = one["metadata"]["name"]
        drop = max(0, min(spare, sizes[name] - counted(one, "availableReplicas")))
        sizes[name] -= drop
        spare -= drop


def _drop_available(old: list[Object], sizes: dict[str, int], spare: int) -> None:
    for one in oldest_first(old):
        name = one["metadata"]["name"]
        drop = max(0, min(spare, sizes[name]))
        sizes[name] -= drop
        spare -= drop
