"""Capacity moves before weight: pods first, then requests, then the old pods may go."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.controllers.inferenceservice.world import World, isvc, make_world

from kedge.api.scheme import DEPLOYMENT
from kedge.cluster.base import Object
from kedge.controllers.inferenceservice import names
from kedge.controllers.inferenceservice.capacity import Sized, pods_for_everything, pods_needed

ONE, TWO = (f"iris-predictor-{n:05d}" for n in (1, 2))


@pytest.mark.parametrize(
    ("why", "current", "desired", "pods", "most", "needed"),
    [
        ("as many as the old one has", {"a": 100}, {"b": 100}, {"a": 10}, {}, {"b": 10}),
        ("its share of them", {"a": 100}, {"a": 80, "b": 20}, {"a": 10}, {}, {"b": 2}),
        ("rounded up", {"a": 100}, {"a": 99, "b": 1}, {"a": 10}, {}, {"b": 1}),
        ("pods left over do not count", {"a": 50, "b": 50}, {"b": 100}, {"a": 10, "b": 5}, {},
         {"b": 10}),
        ("nor do they grow step by step", {"a": 10, "b": 90}, {"b": 100}, {"a": 10, "b": 9}, {},
         {"b": 10}),
        ("one pod beside one", {"a": 90, "b": 10}, {"b": 100}, {"a": 1, "b": 1}, {}, {"b": 1}),
        ("two halves", {"a": 50, "b": 50}, {"b": 100}, {"a": 1, "b": 1}, {}, {"b": 2}),
        ("at zero", {"a": 100}, {"b": 100}, {"a": 0}, {}, {"b": 0}),
        ("not beyond its limit", {"a": 100}, {"b": 100}, {"a": 10}, {"b": 4}, {"b": 4}),
        ("less needs nothing", {"a": 50, "b": 50}, {"a": 100}, {"a": 2, "b": 2}, {}, {"a": 4}),
        ("the first one", {}, {"a": 100}, {}, {}, {"a": 0}),
    ],
)  # fmt: skip
def test_pods_needed(
    why: str,
    current: dict[str, int],
    desired: dict[str, int],
    pods: dict[str, int],
    most: dict[str, int],
    needed: dict[str, int],
) -> None:
    whole = pods_for_everything(current, pods)
    assert pods_needed(current, desired, whole, most) == needed


@pytest.mark.parametrize("pods", [1, 2, 3, 10, 50])
def test_a_rollout_in_steps_asks_for_the_whole_and_no_more(pods: int) -> None:
    """The old revision keeps all its pods all the while."""
    ready = {"a": pods, "b": 0}
    sized: dict[str, Sized] = {}
    for share in range(1, 101):
        current = {"a": 101 - share, "b": share - 1}
        whole = pods_for_everything(current, ready, sized)
        asked = pods_needed(current, {"a": 100 - share, "b": share}, whole, {})["b"]
        assert asked <= pods
        ready["b"] = max(ready["b"], asked)
        sized["b"] = Sized(whole, asked)
    assert ready["b"] == pods


async def busy(pods: int) -> World:
    world = await make_world()
    kind, obj = isvc(mode="Knative")
    obj["spec"]["predictor"]["minReplicas"] = 0
    await world.add((kind, obj))
    world.asked = {ONE: pods}
    await world.settle("iris")
    assert await world.replicas(ONE) == pods
    return world


async def step(world: World) -> tuple[dict[str, int], int]:
    """One turn of everybody: shares, and ready pods of the second revision."""
    await world.reconcile("iris")
    await world.run_autoscaler()
    await world.run_workloads()
    await world.run_gateway()
    found = await world.weights("iris-predictor")
    live = (await world.get(DEPLOYMENT, TWO)).get("status") or {}
    shares = {name.removesuffix("-private"): share for name, share in found.items() if share}
    return shares, int(live.get("readyReplicas") or 0)


async def told_to(world: World, name: str) -> dict[str, str]:
    found: dict[str, str] = (await world.get(DEPLOYMENT, name))["metadata"]["annotations"]
    return found


async def test_pods_come_before_requests_and_stay_for_a_while() -> None:
    world = await busy(4)
    await world.edit("iris", model={"storageUri": "file:///models/two"})
    seen = []
    for _ in range(12):
        shares, ready = await step(world)
        seen.append(ready)
        assert await world.replicas(ONE) == 4
        if TWO in shares:
            break
    assert seen[0] <= 1, "it proves itself with one pod"
    assert seen[-1] == 4, "and has as many as the old one when it takes over"
    await world.settle("iris")
    # Nothing asks for the old one; the new one keeps its pods until it is known what it needs.
    world.asked = {}
    await world.settle("iris")
    assert await world.replicas(ONE) == 0
    assert await world.replicas(TWO) == 4
    assert world.result is not None
    assert world.result.requeue_after == pytest.approx(61, abs=2)
    await world.clock.advance(62)
    await world.settle("iris")
    assert await world.replicas(TWO) == 0
    told = await told_to(world, TWO)
    assert names.FLOOR not in told
    assert names.FLOOR_UNTIL not in told


async def test_where_not_all_pods_fit_those_that_do_are_enough() -> None:
    world = await busy(4)

    def crowded(pod: Object) -> dict[str, Any] | None:
        number = int(pod["metadata"]["name"].rpartition("-")[2])
        if not pod["metadata"]["name"].startswith(TWO) or number <= 6:
            return None
        full = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/1 nodes are available"}  # fmt: skip
        return {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}, full]}

    world.broken = crowded
    await world.edit("iris", model={"storageUri": "file:///models/two"})
    await world.settle("iris", rounds=20)
    shares, ready = await step(world)
    assert shares == {TWO: 100}
    assert 0 < ready < 4


async def test_a_rollback_wakes_as_many_pods_as_it_needs_first() -> None:
    world = await busy(3)
    await world.edit("iris", model={"storageUri": "file:///models/two"})
    await world.settle("iris")
    world.asked = {TWO: 3}
    await world.settle("iris")
    assert await world.replicas(ONE) == 0
    await world.edit("iris", canaryTrafficPercent=0)
    await world.reconcile("iris")
    assert await world.weights("iris-predictor") == {f"{TWO}-private": 100}
    assert await world.replicas(ONE) == 3
    assert (await told_to(world, ONE))[names.REACHABILITY] == "reachable"
    await world.settle("iris")
    weights = await world.weights("iris-predictor")
    assert weights[f"{ONE}-private"] == 100


async def test_at_zero_nothing_is_started_for_a_rollback() -> None:
    world = await busy(0)
    await world.edit("iris", model={"storageUri": "file:///models/two"})
    await world.settle("iris")
    await world.edit("iris", canaryTrafficPercent=0)
    await world.settle("iris")
    assert (await world.weights("iris-predictor"))[f"{ONE}-private"] == 100
    assert await world.replicas(ONE) == 0
    assert (await world.condition("iris"))["status"] == "True"
