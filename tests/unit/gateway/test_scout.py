"""Pods that say they are ready before the kubelet has looked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tests.ports import free_port

from kedge.gateway.activator import Activator
from kedge.gateway.ir import Endpoint, Endpoints, Hold
from kedge.gateway.revision import Ask
from kedge.gateway.routes import compile_endpoints
from kedge.gateway.scout import Scout, says_ready
from kedge.lib.clock import SystemClock

IRIS, GRPC = "default/iris/80", "default/iris/8081"
PROBE = "http://pod:8080/ready"


class Clock(SystemClock):
    """Goes on only where somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)


class Bench:
    """An activator and its scout; the pods named in `ready` say that they are."""

    def __init__(self) -> None:
        self.ready: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.clock = Clock()
        self.activator = Activator(max_held=100, clock=self.clock, accepts=self._accepts)
        self.scout = Scout(self.activator, clock=self.clock, ask=self._ask)

    async def _ask(self, address: str, probe: str) -> bool:
        self.asked.append((address, probe))
        return address in self.ready

    async def _accepts(self, endpoint: Endpoint) -> bool:
        return True

    def pods(self, ready: str = "", coming: str = "", cluster: str = IRIS, limit: int = 0) -> None:
        def make(names: str) -> tuple[Endpoint, ...]:
            return tuple(Endpoint(name, 8080) for name in names)

        hold = Hold(limit, title="default/iris", probe=PROBE)
        self.activator.update(Endpoints(cluster, make(ready), hold, make(coming)))

    def ask(self, count: int = 1, cluster: str = IRIS) -> list[Ask]:
        return [self.activator.ask(cluster) for _ in range(count)]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    running = asyncio.create_task(bench.scout.run())
    yield bench
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


def placed(asks: list[Ask]) -> list[str]:
    return [ask.address or "-" for ask in asks]


async def test_a_pod_that_says_it_is_ready_gets_what_waits(bench: Bench) -> None:
    bench.pods()
    asks = bench.ask(2)
    bench.pods(coming="ab")
    await settle()
    assert placed(asks) == ["-", "-"]
    assert set(bench.asked) == {("a", PROBE), ("b", PROBE)}
    bench.ready = {"a"}
    await settle()
    assert placed(asks) == ["a", "a"]
    # Who comes later goes there at once, though Envoy does not know the pod yet.
    bench.clock.seconds += 100
    assert placed(bench.ask()) == ["a"]


async def test_nobody_is_asked_while_nobody_waits(bench: Bench) -> None:
    bench.ready = {"a"}
    bench.pods(coming="a")
    await settle()
    assert not bench.asked
    assert placed(bench.ask()) == ["-"]
    await settle()
    assert bench.asked


async def test_every_port_of_the_pod_is_open_with_one_answer(bench: Bench) -> None:
    for cluster in (IRIS, GRPC):
        bench.pods(cluster=cluster)
    asks = [*bench.ask(cluster=GRPC), *bench.ask()]
    for cluster in (IRIS, GRPC):
        bench.pods(coming="a", cluster=cluster)
    bench.ready = {"a"}
    await settle()
    assert placed(asks) == ["a", "a"]


async def test_the_limit_of_a_pod_holds_for_an_early_one_too(bench: Bench) -> None:
    bench.pods(ready="a", limit=1)
    asks = bench.ask(3)
    assert placed(asks) == ["a", "-", "-"]
    bench.pods(ready="a", coming="b", limit=1)
    bench.ready = {"b"}
    await settle()
    assert placed(asks) == ["a", "b", "-"]
    bench.pods(ready="ab", limit=1)
    await settle()
    assert placed(asks) == ["a", "b", "-"]
    bench.activator.release(asks[1])
    await settle()
    assert placed(asks[2:]) == ["b"]


async def test_one_that_says_no_later_gets_nothing_more(bench: Bench) -> None:
    bench.pods(coming="a")
    first = bench.ask()
    bench.ready = {"a"}
    await settle()
    assert placed(first) == ["a"]
    bench.ready = set()
    bench.clock.seconds += 2
    await settle()
    assert placed(bench.ask()) == ["-"]


async def test_once_the_kubelet_has_seen_it_nobody_asks(bench: Bench) -> None:
    bench.pods(coming="a")
    bench.ask()
    bench.ready = {"a"}
    await settle()
    bench.pods(ready="a")
    await settle()
    bench.asked.clear()
    now = bench.clock.seconds
    await settle()
    assert (bench.asked, bench.clock.seconds) == ([], now)
    # Envoy may not have heard of it yet.
    assert placed(bench.ask()) == ["a"]


async def test_one_that_is_gone_before_it_was_ready_gets_nothing(bench: Bench) -> None:
    bench.pods(coming="a")
    bench.ask()
    bench.ready = {"a"}
    await settle()
    bench.pods()
    assert placed(bench.ask()) == ["-"]
    bench.activator.forget(IRIS)
    await settle()


def make_slice(**conditions: bool) -> dict[str, Any]:
    return {
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": conditions}],
    }


@pytest.mark.parametrize(
    ("conditions", "ready", "coming"),
    [
        ({"ready": True}, 1, 0),
        ({}, 1, 0),
        ({"ready": False}, 0, 1),
        ({"ready": False, "serving": True, "terminating": True}, 0, 0),
    ],
)
def test_who_is_ready_and_who_is_coming(
    conditions: dict[str, bool], ready: int, coming: int
) -> None:
    service: dict[str, Any] = {
        "metadata": {
            "namespace": "default",
            "name": "iris",
            "labels": {"serving.kedge.dev/activation": "true"},
            "annotations": {"serving.kedge.dev/ready-probe": PROBE},
        },
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    }
    found = compile_endpoints(IRIS, service, [make_slice(**conditions)], scouted=True)
    assert (len(found.ready), len(found.coming)) == (ready, coming)
    unseen = compile_endpoints(IRIS, service, [make_slice(**conditions)])
    assert (len(unseen.ready), len(unseen.coming)) == (ready, 0)
    del service["metadata"]["annotations"]
    unasked = compile_endpoints(IRIS, service, [make_slice(**conditions)], scouted=True)
    assert (len(unasked.ready), len(unasked.coming)) == (ready, 0)


async def test_a_pod_is_asked_as_the_kubelet_does() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=int(request.path_qs.rpartition("=")[2]))

    app = web.Application()
    app.router.add_get("/ready", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port, nobody = free_port(), free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    async with aiohttp.ClientSession() as session:
        for probe, ready in {
            f"http://pod:{port}/ready?status=200": True,
            f"http://pod:{port}/ready?status=302": True,
            f"http://pod:{port}/ready?status=503": False,
            f"tcp://pod:{port}": True,
            f"http://pod:{nobody}/ready": False,
            f"tcp://pod:{nobody}": False,
            "tcp://pod": False,
            "http://pod:99999/": False,
            "ready?": False,
        }.items():
            assert await says_ready(session, "127.0.0.1", probe) is ready, probe
    await runner.cleanup()
