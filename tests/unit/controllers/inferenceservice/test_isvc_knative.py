"""Knative mode: revisions, their shares, and that requests move only where they are answered."""

from __future__ import annotations

from typing import Any

from tests.unit.controllers.inferenceservice.world import NS, World, crashed, isvc, make_world

from kedge.api.scheme import CONFIG_MAP, DEPLOYMENT, HTTP_ROUTE, INFERENCE_SERVICE, SERVICE
from kedge.cluster.base import Object
from kedge.controllers.inferenceservice.reconcile import Reconciler

ONE, TWO, THREE = (f"iris-predictor-{n:05d}" for n in (1, 2, 3))


async def served(**predictor: Any) -> World:
    world = await make_world()
    kind, obj = isvc(mode="Knative")
    obj["spec"]["predictor"].update(predictor)
    await world.add((kind, obj))
    await world.settle("iris")
    return world


async def change(world: World, storage: str, **spec: Any) -> None:
    await world.edit("iris", model={"storageUri": f"file:///models/{storage}"}, **spec)


async def shares(world: World) -> dict[str, int]:
    """The shares in the component's route, by revision, zeros left out."""
    found = await world.weights("iris-predictor")
    return {name.removesuffix("-private"): weight for name, weight in found.items() if weight}


async def revisions(world: World) -> dict[str, Any]:
    found: dict[str, Any] = (await world.status("iris"))["components"]["predictor"]
    return found


def breaking(*names: str) -> Any:
    def broken(pod: Object) -> dict[str, Any] | None:
        mine = pod["metadata"]["name"].rpartition("-")[0]
        return crashed("RuntimeError: broken") if mine in names else None

    return broken


async def test_first_revision() -> None:
    world = await served()
    assert await world.all(DEPLOYMENT) == [ONE]
    assert await world.all(SERVICE) == ["iris", "iris-predictor", f"{ONE}-private"]
    assert await world.all(HTTP_ROUTE) == ["iris", "iris-path", "iris-predictor"]
    for name in ("iris", "iris-predictor"):
        service = await world.get(SERVICE, name)
        assert "selector" not in service["spec"]
        assert service["metadata"]["labels"]["serving.kedge.dev/endpoints"] == "gateway"
    state = await revisions(world)
    assert state["latestCreatedRevision"] == state["latestReadyRevision"] == ONE
    assert state["latestRolledoutRevision"] == ONE
    assert state["traffic"] == [{"latestRevision": True, "percent": 100, "revisionName": ONE}]
    for type_ in (
        "Ready", "PredictorReady", "PredictorRouteReady", "PredictorConfigurationReady",
        "RoutesReady", "LatestDeploymentReady", "IngressReady",
    ):  # fmt: skip
        assert (await world.condition("iris", type_))["status"] == "True", type_


async def test_a_change_is_a_revision_and_the_old_one_rests() -> None:
    world = await served()
    await change(world, "two")
    await world.settle("iris")
    assert await shares(world) == {TWO: 100}
    assert await world.replicas(ONE) == 0
    state = await revisions(world)
    assert state["previousRolledoutRevision"] == ONE
    assert state["latestRolledoutRevision"] == TWO
    assert (await world.condition("iris"))["status"] == "True"

    # One level of history; what is older rests until it is collected.
    await change(world, "three")
    await world.settle("iris")
    assert await world.all(DEPLOYMENT) == [ONE, TWO, THREE]
    assert (await revisions(world))["previousRolledoutRevision"] == TWO


async def configure(world: World, name: str, **keys: str) -> None:
    data = {key.replace("_", "-"): value for key, value in keys.items()}
    config = {"metadata": {"name": name, "namespace": "kedge"}, "data": data}
    await world.add((CONFIG_MAP, config))


async def test_garbage_collection() -> None:
    world = await served()
    await configure(
        world, "config-gc", min_non_active_revisions="0", retain_since_create_time="1h",
        retain_since_last_active_time="10m",
    )  # fmt: skip
    for storage in ("two", "three"):
        await change(world, storage)
        await world.settle("iris")
    assert await world.all(DEPLOYMENT) == [ONE, TWO, THREE]
    await world.clock.advance(3599)
    await world.settle("iris")
    assert await world.all(DEPLOYMENT) == [ONE, TWO, THREE]
    await world.clock.advance(2)
    await world.settle("iris")
    assert await world.all(DEPLOYMENT) == [TWO, THREE]
    assert f"{ONE}-private" not in await world.all(SERVICE)
    # What a rollback needs never goes, however old it is.
    await world.clock.advance(10**6)
    await world.settle("iris")
    assert await world.all(DEPLOYMENT) == [TWO, THREE]


async def test_a_config_that_cannot_be_read_is_told() -> None:
    world = await served()
    await configure(world, "config-gc", min_non_active_revisions="many")
    await world.settle("iris")
    told = await world.condition("iris", "serving.kedge.dev/Warnings")
    assert "min-non-active-revisions" in told["message"]
    assert (await world.condition("iris"))["status"] == "True"


async def roll(world: World, seconds: float) -> dict[str, int]:
    await world.clock.advance(seconds)
    await world.settle("iris")
    return await shares(world)


async def test_requests_move_over_the_rollout_duration() -> None:
    world = await served()
    await configure(world, "config-network", rollout_duration="120")
    await change(world, "two")
    await world.settle("iris")
    assert await shares(world) == {TWO: 1, ONE: 99}
    ready = await world.condition("iris")
    assert (ready["status"], ready["reason"]) == ("Unknown", "RolloutInProgress")
    assert "1 %" in ready["message"]
    assert (await revisions(world))["latestRolledoutRevision"] == ONE
    assert world.result is not None
    assert world.result.requeue_after is not None
    assert world.result.requeue_after <= 1.3

    found = await roll(world, 60)
    assert 40 < found[TWO] < 60
    # Another controller goes on where this one stood.
    world.reconciler = Reconciler(
        world.cluster, world.cache, lambda: world.config, clock=world.clock
    )
    assert await shares(world) == found
    assert await roll(world, 61) == {TWO: 100}
    assert (await world.condition("iris"))["status"] == "True"
    state = await revisions(world)
    assert (state["latestRolledoutRevision"], state["previousRolledoutRevision"]) == (TWO, ONE)
    note = (await world.get(HTTP_ROUTE, "iris-predictor"))["metadata"]["annotations"]
    assert "serving.kedge.dev/rollout" not in note


async def test_a_rollout_waits_for_pods_and_for_the_gateway() -> None:
    world = await served(annotations={"serving.knative.dev/rollout-duration": "100s"})
    await change(world, "two")
    await world.settle("iris")
    await roll(world, 20)
    before = await shares(world)
    world.deaf = lambda route: route["metadata"]["name"] == "iris-predictor"
    await roll(world, 5)
    after = await shares(world)
    assert before[TWO] < after[TWO]
    assert await roll(world, 30) == after, "no further step before the last one is taken in"
    world.deaf = lambda route: False
    world.broken = breaking(TWO)
    assert await roll(world, 5) == {ONE: 100}
    world.broken = breaking()
    assert (await roll(world, 5))[TWO] >= after[TWO]
    assert await roll(world, 100) == {TWO: 100}


async def test_a_third_revision_on_the_way() -> None:
    world = await served(annotations={"serving.knative.dev/rollout-duration": "100s"})
    await change(world, "two")
    await world.settle("iris")
    found = await roll(world, 50)
    await change(world, "three")
    await world.settle("iris")
    stacked = await shares(world)
    assert stacked == {THREE: 1, TWO: found[TWO] - 1, ONE: found[ONE]}
    assert await roll(world, 120) == {THREE: 100}
    assert (await revisions(world))["previousRolledoutRevision"] == ONE


async def test_scaling_makes_no_revision() -> None:
    world = await served()
    await world.edit("iris", minReplicas=3, scaleTarget=5)
    await world.settle("iris")
    assert await world.all(DEPLOYMENT) == [ONE]
    assert await world.replicas(ONE) == 3


async def test_a_revision_that_fails_gets_nothing() -> None:
    world = await served()
    world.broken = breaking(TWO)
    await change(world, "two")
    await world.settle("iris")
    assert await shares(world) == {ONE: 100}
    ready = await world.condition("iris")
    assert ready["status"] == "False"
    assert "broken" in ready["message"]
    assert "Fix: " in ready["message"]
    assert (await world.condition("iris", "PredictorRouteReady"))["status"] == "True"
    assert (await world.status("iris"))["modelStatus"]["transitionStatus"] == "BlockedByFailedLoad"

    # Going back makes a third revision, as upstream, and the failed one goes.
    await change(world, "iris")
    await world.settle("iris")
    assert await shares(world) == {THREE: 100}
    assert await world.all(DEPLOYMENT) == [ONE, THREE]
    assert (await world.condition("iris"))["status"] == "True"


async def test_no_share_before_the_gateway_knows_the_pods() -> None:
    world = await served()
    world.deaf = lambda route: route["metadata"]["name"] == TWO
    await change(world, "two")
    await world.settle("iris")
    # Ready pods, but the gateway has not said that it knows them.
    assert await shares(world) == {ONE: 100}
    assert await world.replicas(ONE) == 1
    assert TWO in await world.all(HTTP_ROUTE)
    assert (await world.condition("iris"))["reason"] == "RolloutInProgress"

    world.deaf = lambda route: False
    await world.settle("iris")
    assert await shares(world) == {TWO: 100}
    assert await world.all(HTTP_ROUTE) == ["iris", "iris-path", "iris-predictor"]


async def test_old_pods_stay_until_the_routes_have_moved() -> None:
    world = await served()
    await change(world, "two")
    await world.settle("iris", rounds=20)
    world = await served()
    await change(world, "two")
    for _ in range(12):
        await world.reconcile("iris")
        await world.run_workloads()
        moved = TWO in await shares(world)
        world.deaf = lambda route: route["metadata"]["name"] == "iris"
        if moved:
            break
        world.deaf = lambda route: False
        await world.run_gateway()
    # The routes are written, but the gateway has not taken in the one of the service itself.
    for _ in range(3):
        await world.run_gateway()
        await world.reconcile("iris")
        await world.run_workloads()
        assert await world.replicas(ONE) == 1
    world.deaf = lambda route: False
    await world.settle("iris")
    assert await world.replicas(ONE) == 0


async def test_canary_promotion_and_rollback() -> None:
    world = await served()
    await change(world, "two", canaryTrafficPercent=10)
    await world.settle("iris")
    assert await shares(world) == {TWO: 10, ONE: 90}
    traffic = (await revisions(world))["traffic"]
    assert traffic == [
        {"latestRevision": True, "percent": 10, "revisionName": TWO},
        {
            "latestRevision": False, "percent": 90, "revisionName": ONE, "tag": "prev",
            "url": "http://prev-iris-predictor-default.localhost:8080",
        },
    ]  # fmt: skip
    assert "prev-iris-predictor" in await world.all(HTTP_ROUTE)

    await world.edit("iris", canaryTrafficPercent=50)
    await world.settle("iris")
    assert await shares(world) == {TWO: 50, ONE: 50}
    assert await world.all(DEPLOYMENT) == [ONE, TWO]

    await world.edit("iris", canaryTrafficPercent=None)
    await world.settle("iris")
    assert await shares(world) == {TWO: 100}
    assert await world.replicas(ONE) == 0

    # Back to the revision before, which has to be woken first.
    await world.edit("iris", canaryTrafficPercent=0)
    await world.reconcile("iris")
    assert await world.replicas(ONE) == 1
    assert await shares(world) == {TWO: 100}
    await world.settle("iris")
    assert await shares(world) == {ONE: 100}
    assert (await world.condition("iris"))["status"] == "True"

    # A new canary: the revision that was rolled back does not inherit its share.
    world.broken = breaking(THREE)
    await change(world, "three", canaryTrafficPercent=20)
    await world.settle("iris")
    assert await shares(world) == {ONE: 100}
    world.broken = breaking()
    await world.settle("iris")
    assert await shares(world) == {THREE: 20, ONE: 80}


async def test_second_change_during_a_canary() -> None:
    world = await served()
    await change(world, "two", canaryTrafficPercent=10)
    await world.settle("iris")
    world.broken = breaking(THREE)
    await change(world, "three", canaryTrafficPercent=40)
    await world.settle("iris")
    assert await shares(world) == {TWO: 10, ONE: 90}
    world.broken = breaking()
    await world.settle("iris")
    assert await shares(world) == {THREE: 40, ONE: 60}
    assert await world.replicas(TWO) == 0


async def test_a_share_without_pods_goes_to_the_others() -> None:
    world = await served()
    await change(world, "two", canaryTrafficPercent=30)
    await world.settle("iris")
    world.broken = breaking(TWO)
    await world.settle("iris")
    assert await shares(world) == {ONE: 100}
    state = await revisions(world)
    assert state["latestRolledoutRevision"] == ONE
    assert (await world.condition("iris"))["status"] == "False"
    world.broken = breaking(ONE)
    await world.settle("iris")
    assert await shares(world) == {TWO: 100}
    assert (await revisions(world))["latestRolledoutRevision"] == ONE


async def test_reconcile_is_idempotent() -> None:
    world = await served()
    before = await world._fingerprint()
    for _ in range(3):
        await world.reconcile("iris")
    assert await world._fingerprint() == before


async def test_a_cache_behind_the_cluster_makes_no_second_revision() -> None:
    world = await make_world()
    await world.add(isvc(mode="Knative"))
    await world.reconcile("iris")
    stale = world.cache
    isvcs = (await world.cluster.list(INFERENCE_SERVICE, NS)).items
    stale._objects[INFERENCE_SERVICE] = isvcs
    from kedge.reconcile.controller import Key

    await world.reconciler.reconcile(Key(NS, "iris"))
    assert await world.all(DEPLOYMENT) == [ONE]


async def test_a_candidate_without_a_share_gets_copies() -> None:
    world = await served()
    await change(world, "two", canaryTrafficPercent=0)
    await world.annotate("iris", **{"serving.kedge.dev/shadow-percent": "20"})
    await world.settle("iris")
    # The annotation makes no revision, and the candidate answers nobody.
    assert await world.all(DEPLOYMENT) == [ONE, TWO]
    assert await shares(world) == {ONE: 100}
    for name in ("iris", "iris-path", "iris-predictor"):
        route = await world.get(HTTP_ROUTE, name)
        assert route["metadata"]["annotations"]["serving.kedge.dev/compare-mirrors"] == "true"
        for rule in route["spec"]["rules"]:
            [mirror] = [f["requestMirror"] for f in rule["filters"] if "requestMirror" in f]
            assert mirror["backendRef"]["name"] == f"{TWO}-private"
            assert mirror["backendRef"]["port"] == rule["backendRefs"][0]["port"]
            assert mirror["percent"] == 20

    # Once it has a share, it answers, and gets no copies.
    await world.edit("iris", canaryTrafficPercent=10)
    await world.settle("iris")
    assert await shares(world) == {ONE: 90, TWO: 10}
    route = await world.get(HTTP_ROUTE, "iris-predictor")
    assert "serving.kedge.dev/compare-mirrors" not in route["metadata"]["annotations"]
    assert not any("requestMirror" in f for r in route["spec"]["rules"] for f in r["filters"])
