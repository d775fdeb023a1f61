"""Changes under load: what comes, goes, restarts or dies while requests run."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.gateway_world import WAIT, GatewayWorld, eventually, gateway_world, rule

from kedge.api.scheme import SERVICE
from kedge.gateway.xds import Connection
from kedge.lib import ports

HOST = "iris-default.localhost"
LOST_PATIENCE = "are not warm yet"
"""In the gateway's log, when it stops waiting for Envoy to warm a cluster."""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[GatewayWorld]:
    async with gateway_world(tmp_path) as world:
        yield world


async def test_endpoints_come_and_go_without_a_failed_request(world: GatewayWorld) -> None:
    a = await world.backend("a", "127.0.0.2")
    b = await world.backend("b", "127.0.0.3")
    c = await world.backend("c", "127.0.0.4")
    await world.service("iris")
    await world.endpoints("iris", a)
    await world.route("iris", rule("iris"), hostnames=(HOST,))
    await world.answering("iris")
    load = await world.load(HOST)
    await load.until(lambda: load.answered.get("a", 0) > 50)

    await world.endpoints("iris", a, b)
    await load.until(lambda: load.answered.get("b", 0) > 50)
    # One goes: what the node agent does, in its order.
    await world.endpoints("iris", b)
    async with asyncio.timeout(5):
        await world.gateway.drained(a.address)
    await a.stop()
    before = load.answered["a"]
    await load.more()
    assert load.answered["a"] == before
    # All are replaced.
    await world.endpoints("iris", c)
    async with asyncio.timeout(5):
        await world.gateway.drained(b.address)
    await b.stop()
    await load.more()
    await load.stop()
    assert load.answered["c"] > 100
    assert load.failed == []


async def test_a_request_in_flight_ends_well_though_its_pod_leaves(world: GatewayWorld) -> None:
    a, b = await world.backend("a", "127.0.0.2"), await world.backend("b", "127.0.0.3")
    await world.service("iris")
    await world.endpoints("iris", a)
    await world.route("iris", rule("iris"), hostnames=(HOST,))
    await world.answering("iris")
    a.delay = 0.5
    slow = asyncio.create_task(world.get("/slow", HOST))
    await eventually(lambda: a.requests == 1)
    await world.endpoints("iris", b)
    async with asyncio.timeout(5):
        await world.gateway.drained(a.address)
    assert not slow.done()
    assert (await world.get("/", HOST))[1]["backend"] == "b"
    status, body = await slow
    assert (status, body["backend"]) == (200, "a")


async def test_drained_at_once_when_nothing_was_sent_there(world: GatewayWorld) -> None:
    async with asyncio.timeout(5):
        await world.gateway.drained("127.9.9.9")


async def test_a_route_moves_to_another_service_without_a_failed_request(
    world: GatewayWorld,
) -> None:
    """Each new revision is a new cluster, and the old one goes when nothing names it any more."""
    backends = [await world.backend(name) for name in "abcd"]
    for number, backend in enumerate(backends):
        await world.service(f"revision-{number}")
        await world.endpoints(f"revision-{number}", backend)
    await world.route("iris", rule("revision-0"), hostnames=(HOST,))
    await world.answering("iris")
    load = await world.load(HOST)
    for number in (1, 2, 3, 0, 1):
        await world.route("iris", rule(f"revision-{number}"), hostnames=(HOST,))
        await world.answering("iris")
        name = backends[number].name
        before = load.answered.get(name, 0)
        await load.until(lambda name=name, before=before: load.answered.get(name, 0) > before + 50)  # type: ignore[misc] # bound now
    await load.stop()
    assert load.failed == []


async def test_a_changed_cluster_keeps_answering(
    world: GatewayWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """Its keep-alive is declared anew: Envoy warms the cluster again, with its endpoints."""
    a = await world.backend("a")
    await world.service("iris", keepalive=75)
    await world.endpoints("iris", a)
    await world.route("iris", rule("iris"), hostnames=(HOST,))
    await world.answering("iris")
    load = await world.load(HOST)
    for seconds in ("10", "20", "30"):
        patch = {"metadata": {"annotations": {"serving.kedge.dev/keepalive-seconds": seconds}}}
        sent = world.gateway.server.bytes_sent
        await world.cluster.patch(SERVICE, "iris", patch, namespace="default")
        await load.until(lambda sent=sent: world.gateway.server.bytes_sent > sent)  # type: ignore[misc] # bound now
        async with asyncio.timeout(60):
            await world.gateway.server.wait_until(world.gateway.server.is_settled)
        await load.more(50)
    await load.stop()
    assert load.failed == []
    assert LOST_PATIENCE not in caplog.text


async def test_the_gateway_restarts_under_load_without_a_failed_request(
    world: GatewayWorld,
) -> None:
    a, b = await world.backend("a", "127.0.0.2"), await world.backend("b", "127.0.0.3")
    for name in ("iris", "other"):
        await world.service(name)
        await world.endpoints(name, a)
        await world.route(name, rule(name), hostnames=(f"{name}-default.localhost",))
        await world.answering(name)
    load = await world.load(HOST)
    await load.more(50)
    for _ in range(3):
        await world.stop_gateway()
        await load.more(50)
        world.start_gateway()
        async with asyncio.timeout(10):
            await world.gateway.ready.wait()
        await load.more(50)
        # Envoy said what it has and was sent nothing of it again.
        assert world.gateway.server.bytes_sent < 500
        assert (await world.condition("iris"))["status"] == "True"
    # What changed while the gateway was away is caught up with.
    await world.stop_gateway()
    await world.endpoints("iris", b)
    await world.route("late", rule("other"), hostnames=("late.default",))
    world.start_gateway()
    await world.answering("late")
    await load.until(lambda: load.answered.get("b", 0) > 50)
    await load.stop()
    assert load.failed == []
    assert (await world.get("/", "late.default"))[0] == 200


async def test_envoy_dies_and_answers_again_without_waiting_for_any_time_to_pass(
    world: GatewayWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its first connection is taken and brings all it needs: nothing is tried twice, nothing is
    waited for in vain."""
    connections = 0
    begin = Connection.__init__

    def count(*arguments: Any) -> None:
        nonlocal connections
        connections += 1
        begin(*arguments)

    monkeypatch.setattr(Connection, "__init__", count)
    a = await world.backend("a")
    await world.service("iris")
    await world.endpoints("iris", a)
    await world.route("iris", rule("iris"), hostnames=(HOST,))
    await world.answering("iris")
    for turn in range(3):
        world.envoy.kill()
        world.envoy.start()
        while True:
            try:
                status, _body = await world.get("/", HOST)
            except OSError:
                await asyncio.sleep(0.005)
                continue
            assert status == 200
            break
        assert connections == turn + 1
        await world.answering("iris")
    assert LOST_PATIENCE not in caplog.text


async def test_without_envoy_nothing_is_called_answering(tmp_path: Path) -> None:
    async with gateway_world(tmp_path, away_seconds=0.2) as world:
        a = await world.backend("a")
        await world.service("iris")
        await world.endpoints("iris", a)
        await world.route("iris", rule("iris"), hostnames=(HOST,))
        await world.answering("iris")
        world.envoy.kill()
        await world.reason("iris", "NotAcknowledged")
        world.envoy.start()
        await world.answering("iris")


async def test_a_port_that_is_taken_is_told_and_listened_on_once_it_is_free(
    world: GatewayWorld,
) -> None:
    a = await world.backend("a")
    await world.service("iris")
    await world.endpoints("iris", a)
    await world.route("iris", rule("iris"), hostnames=(HOST,))
    await world.answering("iris")
    world.envoy.kill()
    with ports.hold("127.0.0.1", world.settings.port) as thief:
        thief.listen()
        world.envoy.start()
        await world.reason("iris", "NotAcknowledged")
        told = f"cannot bind '127.0.0.1:{world.settings.port}': Address already in use"

        async def is_told() -> bool:
            return told in (await world.condition("iris"))["message"]

        await eventually(is_told)
        assert told in world.gateway.refusal
        assert told in world.gateway.missing
    await world.answering("iris")
    assert not world.gateway.refusal
    assert not world.gateway.missing
    assert (await world.get("/", HOST))[0] == 200


async def test_a_pod_that_refuses_connections_is_passed_over(world: GatewayWorld) -> None:
    a = await world.backend("a", "127.0.0.2")
    b = await world.backend("b", "127.0.0.3")
    await world.service("iris")
    await world.endpoints("iris", a, b)
    await world.route("iris", rule("iris"), hostnames=(HOST,))
    await world.answering("iris")
    await b.stop()
    load = await world.load(HOST)
    await load.more(200)
    await load.stop()
    assert load.failed == []


@pytest.mark.parametrize("activation", [False, True])
async def test_a_pod_is_noticed_that_says_nothing_any_more(
    world: GatewayWorld, activation: bool
) -> None:
    """A node cannot be taken away here; the kernel tells that it would look."""
    pod = await world.backend("a", "127.0.0.2")
    await world.service("iris", activation=activation, concurrency=1)
    await world.endpoints("iris", pod)
    await world.route("iris", rule("iris"), hostnames=(HOST,))
    await world.answering("iris")
    pod.delay = WAIT
    asked = asyncio.create_task(world.get("/x", HOST))
    await eventually(lambda: pod.active == 1)
    await eventually(lambda: keeps_looking(pod.address, pod.port))
    asked.cancel()


def keeps_looking(address: str, port: int) -> bool:
    """Whether connections to there are checked while they are idle, by /proc/net/tcp (proc(5))."""
    remote = f"{socket.inet_aton(address)[::-1].hex()}:{port:04x}".upper()
    found = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(one[2] == remote and one[5].startswith("02:") for one in found)
