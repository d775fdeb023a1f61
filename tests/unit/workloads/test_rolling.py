"""The arithmetic of rolling updates and of changes of size."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.cluster.base import Object
from kedge.cluster.local.workloads.deployments.rolling import (
    Bounds,
    bounds_of,
    new_size,
    shrink_old,
)
from kedge.cluster.local.workloads.deployments.scaling import (
    DESIRED,
    MAXIMUM,
    resize,
    was_resized,
)


def deployment(replicas: int = 10, surge: Any = "25%", unavailable: Any = "25%") -> Object:
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
    return {"metadata": {"name": "d"}, "spec": {"replicas": replicas, "strategy": strategy}}


def replica_set(name: str, size: int, available: int | None = None, **notes: int) -> Object:
    annotations = {
        {"desired": DESIRED, "maximum": MAXIMUM}[key]: str(n) for key, n in notes.items()
    }
    metadata = {"name": name, "creationTimestamp": name, "annotations": annotations}
    available = size if available is None else available
    return {
        "metadata": metadata,
        "spec": {"replicas": size},
        "status": {"availableReplicas": available},
    }


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (10, "25%", "25%", (3, 2)),
        (1, "25%", "25%", (1, 0)),
        (4, 2, 1, (2, 1)),
        (10, 0, 0, (0, 1)),
        (10, "0%", "5%", (0, 1)),
        (2, 1, 5, (1, 2)),
        (0, "25%", "25%", (0, 0)),
        (3, "100%", 0, (3, 0)),
    ],
)
def test_bounds(replicas: int, surge: Any, unavailable: Any, expected: tuple[int, int]) -> None:
    assert bounds_of(deployment(replicas, surge, unavailable)) == Bounds(*expected)


def test_recreate_has_no_bounds() -> None:
    recreate = deployment()
    recreate["spec"]["strategy"] = {"type": "Recreate"}
    assert bounds_of(recreate) == Bounds(0, 0)
    assert new_size(recreate, 0, [replica_set("1", 10)]) == 10


@pytest.mark.parametrize(
    ("surge", "current", "old", "expected"),
    [
        (2, 0, 10, 2),
        (0, 0, 10, 0),
        (2, 2, 10, 2),
        (2, 0, 0, 10),
        (2, 5, 3, 9),
        (2, 12, 0, 10),
    ],
)
def test_the_new_set_grows_into_the_room_there_is(
    surge: int, current: int, old: int, expected: int
) -> None:
    sets = [replica_set("1", old), replica_set("2", current)]
    assert new_size(deployment(10, surge, 0), current, sets) == expected


@pytest.mark.parametrize(
    ("case", "new", "old", "expected"),
    [
        ("nothing to spare", ("9", 0, 0), [("1", 10, 10)], {"1": 8}),
        ("the new one does not answer", ("9", 2, 0), [("1", 8, 8)], {}),
        ("the new one answers", ("9", 2, 2), [("1", 10, 10)], {"1": 6}),
        ("dead old pods go first", ("9", 2, 2), [("1", 5, 5), ("2", 5, 1)], {"2": 1}),
        ("the oldest next", ("9", 5, 5), [("1", 3, 3), ("2", 4, 4)], {"1": 0, "2": 3}),
    ],
)
def test_old_sets_shrink_as_far_as_enough_pods_answer(
    case: str,
    new: tuple[str, int, int],
    old: list[tuple[str, int, int]],
    expected: dict[str, int],
) -> None:
    sizes = shrink_old(deployment(10, 2, 2), replica_set(*new), [replica_set(*one) for one in old])
    assert sizes == expected, case


def test_a_change_of_size_is_seen_by_what_active_sets_noted() -> None:
    sets = [replica_set("1", 0, desired=5), replica_set("2", 10, desired=10)]
    assert not was_resized(deployment(10), sets)
    assert was_resized(deployment(11), sets)


@pytest.mark.parametrize(
    ("replicas", "expected"),
    [
        (20, {"1": 13, "2": 9}),
        (5, {"1": 4, "2": 3}),
        (0, {"1": 0, "2": 0}),
    ],
)
def test_sets_in_the_middle_of_a_rollout_share_a_change(
    replicas: int, expected: dict[str, int]
) -> None:
    old = replica_set("1", 7, 7, desired=10, maximum=12)
    new = replica_set("2", 5, 0, desired=10, maximum=12)
    sizes = resize(deployment(replicas, 2, 2), new, [old])
    assert sum(sizes.values()) == (replicas + 2 if replicas else 0)
    assert sizes == expected


def test_a_single_set_takes_the_whole_change() -> None:
    assert resize(deployment(7), replica_set("2", 3), [replica_set("1", 0)]) == {"2": 7}
    assert resize(deployment(7), None, [replica_set("1", 3)]) == {"1": 7}


def test_a_complete_new_set_leaves_nothing_to_old_ones() -> None:
    new = replica_set("2", 5, 5, desired=5)
    assert resize(deployment(5), new, [replica_set("1", 2)]) == {"1": 0}
