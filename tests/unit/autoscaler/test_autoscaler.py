"""The loop over a cluster: from what a gateway says to the scale that is written."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.autoscaler.world import a_world

from kedge.api.scheme import CONFIG_MAP, DEPLOYMENT
from kedge.autoscaler.explain import explain
from kedge.autoscaler.wire import Goodbye

KEY = "ns/web-private"


async def test_a_request_at_zero_brings_a_pod_at_once() -> None:
    async with a_world() as world:
        world.open_gateway()
        await world.create(replicas=0)
        assert await world.run(5) == 0
        world.wake(KEY)
        await world.clock.settle()
        assert await world.replicas() == 1


async def test_a_burst_at_zero_brings_all_the_pods_it_needs() -> None:
    async with a_world() as world:
        world.open_gateway()
        await world.create(replicas=0, target=10)
        await world.run(5)
        world.wake(KEY)
        world.wake(KEY, held=200)
        await world.clock.settle()
        # 200 at 70 % of 10 each.
        assert await world.replicas() == 29


async def test_load_comes_and_goes() -> None:
    async with a_world({"stable-window": "20s", "scale-to-zero-grace-period": "6s"}) as world:
        world.open_gateway()
        await world.create(replicas=0, target=10)
        world.loads = {KEY: (50, 500)}
        assert await world.run(20) == 8
        world.loads = {KEY: (5, 50)}
        assert await world.run(80) == 1
        world.loads = {}
        assert await world.run(40) == 0
        assert explain(world.target()) == "nobody asks"
        assert not world.autoscaler.awake


async def test_the_last_pod_goes_a_little_after_the_window() -> None:
    async with a_world() as world:
        world.open_gateway()
        await world.create(replicas=0)
        world.wake(KEY)
        world.loads = {KEY: (1, 10)}
        await world.run(40)
        world.loads = {}
        assert await world.run(59) == 1
        assert await world.run(8) == 0


async def test_a_new_revision_proves_itself_and_is_released_at_once() -> None:
    async with a_world() as world:
        world.open_gateway()
        await world.create(replicas=1, proven=False)
        world.start_seconds = None
        assert await world.run(100) == 1
        assert explain(world.target()) == "a new revision proves itself with one pod"
        await world.set_ready(1)
        assert await world.run(3) == 1
        await world.annotate(**{"serving.kedge.dev/proven": "true"})
        assert await world.replicas() == 0


async def test_a_proof_that_was_asked_meanwhile_stays() -> None:
    async with a_world() as world:
        world.open_gateway()
        await world.create(replicas=1, proven=False)
        world.wake(KEY)
        await world.run(2)
        await world.annotate(**{"serving.kedge.dev/proven": "true"})
        assert await world.run(30) == 1
        assert await world.run(45) == 0


async def test_a_proof_that_never_comes_is_given_up() -> None:
    async with a_world() as world:
        world.open_gateway()
        world.start_seconds = None
        await world.create(replicas=1, proven=False)
        await world.annotate(**{"serving.knative.dev/progress-deadline": "60s"})
        assert await world.run(85) == 1
        assert await world.run(10) == 0
        assert await world.run(200) == 0
        world.wake(KEY)
        await world.clock.settle()
        assert await world.replicas() == 1


async def test_min_scale_is_kept_and_rests() -> None:
    async with a_world() as world:
        world.open_gateway()
        await world.create(replicas=1, min_scale=2, max_scale=3, target=1)
        assert await world.run(10) == 2
        assert not world.autoscaler.awake
        world.loads = {KEY: (50, 50)}
        assert await world.run(10) == 3
        assert "max-scale is 3" in explain(world.target())


async def test_a_missing_gateway_freezes_scale_down() -> None:
    async with a_world({"stable-window": "10s"}) as world:
        world.open_gateway()
        await world.create(replicas=4, target=10)
        world.loads = {KEY: (28, 100)}
        assert await world.run(20) == 4
        world.close_gateway()
        world.loads = {}
        assert await world.run(200) == 4
        assert "the gateway local is missing" in world.autoscaler.traffic.missing(0)
        world.open_gateway()
        assert await world.run(60) == 0


async def test_nothing_goes_before_a_restarted_autoscaler_knows_a_window() -> None:
    async with a_world() as world:
        world.open_gateway()
        await world.create(replicas=5)
        await world.set_ready(5)
        await world.create("one")
        await world.set_ready(1, "one")
        await world.restart()
        assert await world.run(30) == 5
        world.open_gateway()
        assert await world.run(28) == 5
        assert await world.replicas("one") == 1
        assert await world.run(60) == 0
        await world.run(20, "one")
        assert await world.replicas("one") == 0


async def test_somebody_elses_scale_is_put_right() -> None:
    async with a_world() as world:
        world.open_gateway()
        await world.create(replicas=1, min_scale=1)
        await world.run(10)
        await world.cluster.scale(
            DEPLOYMENT, "web", "ns", 4, field_manager="kubectl",
        )  # fmt: skip
        assert await world.run(140) == 1


async def test_requests_a_second_are_a_metric_too() -> None:
    async with a_world() as world:
        world.open_gateway()
        await world.create(replicas=1, metric="rps", target=10)
        world.loads = {KEY: (0.1, 70)}
        assert await world.run(70) == 10
        assert "requests a second" in explain(world.target())


async def test_with_an_hpa_only_zero_and_one_are_ours() -> None:
    async with a_world({"stable-window": "10s"}) as world:
        world.open_gateway()
        await world.create(replicas=3)
        await world.annotate(**{"serving.kedge.dev/scale-range": "activation"})
        world.loads = {KEY: (500, 70)}
        assert await world.run(10) == 3
        world.loads = {}
        assert await world.run(50) == 3
        await world.cluster.scale(
            DEPLOYMENT, "web", "ns", 1, field_manager="hpa",
        )  # fmt: skip
        assert await world.run(50) == 0
        world.loads = {KEY: (500, 70)}
        assert await world.run(5) == 1


async def test_a_thousand_that_rest_cost_nothing() -> None:
    async with a_world() as world:
        world.open_gateway()
        for number in range(100):
            await world.create(f"web{number}", replicas=0)
        await world.run(10, "web0")
        assert not world.autoscaler.awake


async def test_a_gateway_that_says_goodbye_is_not_missed() -> None:
    async with a_world({"stable-window": "10s"}) as world:
        world.open_gateway()
        world.autoscaler.connected("second")
        await world.create(replicas=1)
        assert await world.run(60) == 1
        world.autoscaler.take("second", Goodbye())
        world.autoscaler.disconnected("second")
        assert await world.run(35) == 0


async def test_a_floor_holds_while_requests_move() -> None:
    async with a_world() as world:
        world.open_gateway()
        await world.create(replicas=0)
        floor: dict[str, Any] = {"serving.kedge.dev/floor": "3"}
        await world.annotate(**floor)
        assert await world.run(100) == 3
        assert explain(world.target()) == "it keeps 3 pods for the requests that move to it"
        gone: dict[str, Any] = {"serving.kedge.dev/floor": None}
        await world.annotate(**gone)
        assert await world.run(200) == 0


async def test_what_people_are_shown() -> None:
    async with a_world() as world:
        world.open_gateway()
        await world.create(replicas=1, target=10, max_scale=5)
        world.loads = {KEY: (21, 42)}
        await world.run(75)
        (shown,) = world.autoscaler.describe("ns")
        assert (shown["deployment"], shown["ready"], shown["replicas"]) == ("web", 3, 3)
        assert (shown["stable"], shown["requestsPerSecond"]) == (21, 42)
        assert shown["reason"] == "21 in flight over 1m, 7 a pod aimed at"
        assert shown["secondsToZero"] == pytest.approx(63, abs=2)
        world.loads = {}
        for _ in range(70):
            await world.run(1)
            (shown,) = world.autoscaler.describe("ns")
            if shown["secondsToZero"] is not None and shown["replicas"]:
                foretold = world.clock.monotonic() + shown["secondsToZero"]
        gone = next(when for when, replicas in world.history if replicas == 0)
        assert gone == pytest.approx(foretold, abs=4)
        assert world.autoscaler.describe("elsewhere") == []
        assert world.autoscaler.describe("ns", "other") == []


async def test_what_no_route_leads_to_goes_without_waiting_for_a_window() -> None:
    async with a_world() as world:
        world.open_gateway()
        await world.create(replicas=2, min_scale=2)
        world.loads = {KEY: (150, 100)}
        await world.run(70)
        unreachable: dict[str, Any] = {"serving.kedge.dev/reachability": "unreachable"}
        await world.annotate(**unreachable)
        await world.run(1)
        world.loads = {}
        assert await world.run(6) == 0
        # By its tag it is woken, and then it has its window.
        world.wake(KEY)
        world.loads = {KEY: (1, 1)}
        assert await world.run(5) == 1
        world.loads = {}
        assert await world.run(30) == 1


async def test_a_config_map_that_cannot_be_used_leaves_what_was_and_says_so() -> None:
    async with a_world({"stable-window": "20s"}) as world:
        world.open_gateway()
        await world.create()
        assert world.target().parameters.stable_window == 20
        for data, window, said in (
            ({"stable-window": "1s"}, 20, "`stable-window`"),
            ({"stable-window": "30s"}, 30, ""),
        ):
            await world.cluster.patch(
                CONFIG_MAP, "config-autoscaler", {"data": data}, namespace="kedge"
            )
            await world.clock.settle()
            assert world.target().parameters.stable_window == window
            assert said in world.autoscaler.config_problem
            assert bool(said) == bool(world.autoscaler.config_problem)


async def test_one_that_cannot_be_decided_about_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_world() as world:
        world.open_gateway()
        await world.create("bad", replicas=0)
        await world.create(replicas=0)

        def fail(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(world.target("bad"), "decide", fail)
        for name in ("bad", "web"):
            world.wake(f"ns/{name}-private")
        assert await world.run(5) == 1
        assert await world.replicas("bad") == 0
        told = {one["deployment"]: one["problems"] for one in world.autoscaler.describe("ns")}
        assert told == {"web": [], "bad": ["the last decision failed: ZeroDivisionError()"]}
        monkeypatch.undo()
        await world.run(5)
        assert not world.target("bad").failure
