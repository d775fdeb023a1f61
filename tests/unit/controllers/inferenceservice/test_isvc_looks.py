"""What a look at a service reads, what it need not work out again, and what it is not worth."""

from __future__ import annotations

import copy
from typing import Any

from tests.unit.controllers.inferenceservice.world import isvc, make_world

from kedge.api.scheme import CLUSTER_SERVING_RUNTIME, HTTP_ROUTE, INFERENCE_SERVICE, SERVICE
from kedge.cluster.base import Object
from kedge.controllers.inferenceservice.applier import Applier
from kedge.controllers.inferenceservice.observe import signs_of


def pod(node: str = "", ready: str = "", **metadata: Any) -> Object:
    conditions = [{"type": "Ready", "status": ready, "lastTransitionTime": "now"}] if ready else []
    return {
        "metadata": {"name": "p", "uid": "u", **metadata},
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": "Pending", "conditions": conditions},
    }


def test_a_pod_counts_from_its_node_to_its_end() -> None:
    assert signs_of(pod()) is None
    assert signs_of(pod("here", "True", deletionTimestamp="now")) is None
    assert signs_of(pod("here")) != signs_of(pod("here", "False")) != signs_of(pod("here", "True"))
    later = pod("here", "True")
    later["status"]["conditions"][0]["lastTransitionTime"] = "later"
    later["status"]["podIP"] = "127.1.0.1"
    assert signs_of(later) == signs_of(pod("here", "True"))


async def test_a_service_is_taken_apart_again_when_something_changed_that_it_is_made_of() -> None:
    world = await make_world()
    await world.add(isvc(mode="Knative"))
    planner = world.reconciler.planner

    async def plan() -> Any:
        await world.cache.load(world.cluster)
        stored = await world.get(INFERENCE_SERVICE, "iris")
        return (await planner.plan(stored, world.config))[0]

    await world.reconcile("iris")
    first = await plan()
    await world.settle("iris")
    again = await plan()
    assert again.components is first.components
    assert again.isvc["status"] != first.isvc["status"], "what is there of it is as of now"
    await world.edit("iris", minReplicas=3)
    assert (await plan()).components is not first.components
    before = await plan()
    runtime = (await world.cluster.list(CLUSTER_SERVING_RUNTIME)).items[0]
    runtime["spec"]["disabled"] = True
    await world.cluster.replace(CLUSTER_SERVING_RUNTIME, runtime)
    assert (await plan()).components is not before.components


async def test_what_was_found_as_wanted_is_not_compared_again_and_what_changed_is() -> None:
    world = await make_world()
    await world.add(isvc(mode="Knative"))
    await world.settle("iris")
    await world.cache.load(world.cluster)
    stored = await world.get(INFERENCE_SERVICE, "iris")
    _, known = await world.reconciler.planner.plan(stored, world.config)
    applier = Applier(world.cluster, world.cache, stored)
    applier.known = known
    for kind, name in ((SERVICE, "iris-predictor"), (HTTP_ROUTE, "iris-path")):
        found = known[kind.kind, name]
        live = await applier.apply(kind, found.wanted)
        assert live is known[kind.kind, name].live
        changed = copy.deepcopy(found.wanted)
        changed["metadata"]["labels"]["more"] = "of-it"
        assert "more" in (await applier.apply(kind, changed))["metadata"]["labels"]
