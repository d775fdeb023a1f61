"""Requests that wait for a pod: real Envoy, real small servers."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from tests.integration.gateway_world import (
    PREDICT,
    GatewayWorld,
    eventually,
    gateway_world,
    grpc_rule,
    now,
    path_rule,
    rule,
)

HOST = "iris-default.localhost"
KEY = "default/iris"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[GatewayWorld]:
    async with gateway_world(tmp_path) as world:
        yield world


async def at_zero(world: GatewayWorld, *, concurrency: int = 0, **more: Any) -> None:
    """A service without a pod, for which requests wait."""
    await world.service("iris", activation=True, concurrency=concurrency, grpc=True)
    await world.route("iris", grpc_rule("iris"), rule("iris", **more), hostnames=(HOST,))
    await world.answering("iris")


async def held(world: GatewayWorld, count: int) -> None:
    await eventually(lambda: world.gateway.activator.held().get(KEY, 0) == count)


async def call(
    world: GatewayWorld, *, metadata: tuple[tuple[str, str], ...] = ()
) -> dict[str, Any]:
    options = [("grpc.default_authority", HOST)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.settings.port}", options) as channel:
        method: Any = channel.unary_unary(PREDICT, None, None)
        return dict(json.loads(await method(b"x", metadata=metadata, timeout=10)))


async def test_a_request_waits_for_a_pod(world: GatewayWorld) -> None:
    woken: list[str] = []
    world.gateway.activator.on_wake(woken.append)
    await at_zero(world)
    asked = asyncio.create_task(world.get("/v1/x?y=1", HOST))
    await held(world, 1)
    assert woken == [KEY]
    await world.endpoints("iris", await world.backend("a"))
    status, cold = await asked
    assert (status, cold["path"]) == (200, "/v1/x?y=1")
    assert world.gateway.activator.held() == {}
    await eventually(lambda: world.gateway.activator.busy("127.0.0.1") == 0)
    # Warm, the request goes straight there, and the pod sees no difference.
    status, warm = await world.get("/v1/x?y=1", HOST)
    assert status == 200
    for seen in (cold, warm):
        del seen["headers"]["x-request-id"]
    assert cold == warm
    assert world.gateway.activator.busy("127.0.0.1") == 0


async def test_a_large_body_waits_in_envoy(world: GatewayWorld) -> None:
    await at_zero(world)
    body = b"x" * (32 << 20)

    async def post() -> int:
        to = {"Host": HOST}
        async with world.session.post(world.url, data=io.BytesIO(body), headers=to) as answer:
            return int((await answer.json())["bytes"])

    asked = asyncio.create_task(post())
    await held(world, 1)
    await world.endpoints("iris", await world.backend("a"))
    assert await asked == len(body)


async def test_grpc_waits_for_a_pod(world: GatewayWorld) -> None:
    await at_zero(world)
    asked = [asyncio.create_task(call(world)) for _ in range(5)]
    await held(world, 5)
    await world.endpoints("iris", await world.grpc_backend("g"), port_name="grpc")
    assert [(await one)["backend"] for one in asked] == ["g"] * 5
    assert (await call(world))["backend"] == "g"


async def test_a_grpc_stream_waits_for_a_pod(world: GatewayWorld) -> None:
    await at_zero(world)
    options = [("grpc.default_authority", HOST)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.settings.port}", options) as channel:
        chat: Any = channel.stream_stream("/inference.GRPCInferenceService/Chat", None, None)
        stream = chat()
        await stream.write(b"one")
        await held(world, 1)
        await world.endpoints("iris", await world.grpc_backend("g"), port_name="grpc")
        assert await stream.read() == b"g: one"
        await stream.write(b"two")
        assert await stream.read() == b"g: two"
        await stream.done_writing()
        assert not await stream.read()


async def test_a_streamed_answer_comes_piece_by_piece(world: GatewayWorld) -> None:
    await at_zero(world)
    backend = await world.backend("a")
    asked = asyncio.create_task(
        world.session.get(world.url + "/stream", headers={"Host": HOST}).__aenter__()
    )
    await held(world, 1)
    await world.endpoints("iris", backend)
    answer = await asked
    for number in range(3):
        assert await answer.content.readline() == f"piece {number}\n".encode()
        backend.proceed.set()
    assert await answer.content.read() == b""
    await eventually(lambda: world.gateway.activator.busy("127.0.0.1") == 0)


async def test_a_websocket_waits_for_a_pod(world: GatewayWorld) -> None:
    await at_zero(world)
    asked = asyncio.create_task(
        world.session.ws_connect(world.url + "/ws", headers={"Host": HOST}).__aenter__()
    )
    await held(world, 1)
    await world.endpoints("iris", await world.backend("a"))
    socket = await asked
    await socket.send_str("hello")
    assert await socket.receive_str() == "a: hello"
    assert world.gateway.activator.busy("127.0.0.1") == 1
    await socket.close()
    await eventually(lambda: world.gateway.activator.busy("127.0.0.1") == 0)


async def test_what_comes_through_the_pods_proxy_waits_too(
    world: GatewayWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transformer that calls its predictor, both ways."""
    await world.service("iris", activation=True, grpc=True)
    await world.route("iris", grpc_rule("iris"), rule("iris"), hostnames=("iris.default",))
    await world.answering("iris")
    proxy = f"http://127.0.0.1:{world.settings.proxy_port}"

    async def rest() -> str:
        async with world.session.get("http://iris.default/v1", proxy=proxy) as answer:
            return str((await answer.json())["backend"])

    async def rpc() -> str:
        monkeypatch.setenv("http_proxy", proxy)
        async with grpc.aio.insecure_channel("iris.default:8081") as channel:
            method: Any = channel.unary_unary(PREDICT, None, None)
            return str(json.loads(await method(b"x", timeout=10))["backend"])

    asked = [asyncio.create_task(rest()), asyncio.create_task(rpc())]
    await held(world, 2)
    await world.endpoints("iris", await world.backend("a"))
    await world.endpoints("iris", await world.grpc_backend("g"), port_name="grpc")
    assert await asyncio.gather(*asked) == ["a", "g"]


async def test_the_hold_counts_in_the_requests_time(world: GatewayWorld) -> None:
    await at_zero(world, timeouts={"request": "300ms"})
    began = now()
    status, body = await world.get("/", HOST)
    assert status == 504
    assert 0.25 < now() - began < 3
    assert "default/iris did not answer within the route's time limit" in body["error"]
    await held(world, 0)


async def test_a_client_that_goes_away_waits_no_more(world: GatewayWorld) -> None:
    await at_zero(world)
    asked: list[asyncio.Task[Any]] = [
        *(asyncio.create_task(world.get("/", HOST)) for _ in range(3)),
        *(asyncio.create_task(call(world)) for _ in range(3)),
    ]
    await held(world, 6)
    for one in asked:
        one.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    await held(world, 0)


async def test_at_most_so_many_at_once_in_a_pod(world: GatewayWorld) -> None:
    await at_zero(world, concurrency=1)
    asked = [asyncio.create_task(world.get("/", HOST)) for _ in range(40)]
    await held(world, 40)
    pods = [await world.backend(name, f"127.0.0.{name}") for name in "234"]
    for pod in pods:
        pod.delay = 0.01
    await world.endpoints("iris", *pods)
    assert [status for status, _ in await asyncio.gather(*asked)] == [200] * 40
    assert [pod.most for pod in pods] == [1, 1, 1]
    assert sum(pod.requests for pod in pods) == 40


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
async def test_a_pod_of_ipv6_gets_what_waited_one_at_a_time(world: GatewayWorld) -> None:
    await at_zero(world, concurrency=1)
    asked = [asyncio.create_task(world.get("/", HOST)) for _ in range(10)]
    await held(world, 10)
    pod = await world.backend("six", "::1")
    pod.delay = 0.01
    await world.endpoints("iris", pod)
    assert [status for status, _ in await asyncio.gather(*asked)] == [200] * 10
    assert (pod.most, pod.requests) == (1, 10)


async def test_slots_come_back_however_a_request_ends(world: GatewayWorld) -> None:
    await at_zero(world, concurrency=1, timeouts={"request": "300ms"})
    pod = await world.backend("a")
    await world.endpoints("iris", pod)
    busy = world.gateway.activator.busy
    pod.delay = 1
    # A time-out.
    assert (await world.get("/", HOST))[0] == 504
    await eventually(lambda: busy("127.0.0.1") == 0)
    # A client that goes away.
    asked = asyncio.create_task(world.get("/", HOST))
    await eventually(lambda: busy("127.0.0.1") == 1)
    asked.cancel()
    await eventually(lambda: busy("127.0.0.1") == 0)
    # An answer.
    pod.delay = 0
    assert (await world.get("/", HOST))[0] == 200
    await eventually(lambda: busy("127.0.0.1") == 0)


async def test_beyond_the_bound_a_request_is_refused_at_once(tmp_path: Path) -> None:
    async with gateway_world(tmp_path, max_held=5) as world:
        await at_zero(world)
        asked = [asyncio.create_task(world.get("/", HOST)) for _ in range(5)]
        await held(world, 5)
        async with world.session.get(world.url, headers={"Host": HOST}) as answer:
            assert answer.status == 503
            assert answer.headers["retry-after"] == "1"
            assert "5 requests wait for a pod already" in (await answer.json())["error"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(world)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "5 requests wait" in (caught.value.details() or "")
        await world.endpoints("iris", await world.backend("a"))
        assert [status for status, _ in await asyncio.gather(*asked)] == [200] * 5


async def test_what_cannot_start_is_said_at_once(world: GatewayWorld) -> None:
    await at_zero(world)
    asked = [asyncio.create_task(world.get("/", HOST)) for _ in range(3)]
    await held(world, 3)
    cause = "ModelLoadFailed: model.joblib is no pickle. Fix: save it anew."
    await world.annotate("iris", {"serving.kedge.dev/cannot-start": cause})
    expected = f"Service {KEY} cannot start: {cause}"
    assert await asyncio.gather(*asked) == [(503, {"error": expected})] * 3
    assert await world.get("/", HOST) == (503, {"error": expected})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(world)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == expected
    await world.reason("iris", "CannotStart")
    await world.annotate("iris", {"serving.kedge.dev/cannot-start": None})
    await world.answering("iris")
    again = asyncio.create_task(world.get("/", HOST))
    await held(world, 1)
    await world.endpoints("iris", await world.backend("a"))
    assert (await again)[0] == 200


async def test_what_no_node_takes_is_said_and_waited_for(world: GatewayWorld) -> None:
    await at_zero(world)
    asked = asyncio.create_task(world.get("/", HOST))
    await held(world, 1)
    await world.annotate("iris", {"serving.kedge.dev/no-room": "Unschedulable: no GPU is free."})
    await world.reason("iris", "CannotStart")
    another = asyncio.create_task(world.get("/", HOST))
    await held(world, 2)
    await world.endpoints("iris", await world.backend("a"))
    assert [status for status, _ in await asyncio.gather(asked, another)] == [200, 200]
    await world.annotate("iris", {"serving.kedge.dev/no-room": None})
    await world.answering("iris")


async def test_a_mirrored_request_waits_too(world: GatewayWorld) -> None:
    await world.service("iris")
    await world.service("shadow", activation=True)
    await world.endpoints("iris", await world.backend("a", "127.0.0.2"))
    mirror = {"requestMirror": {"backendRef": {"name": "shadow", "port": 80}}}
    filters = [{"type": "RequestMirror", **mirror}]
    await world.route("iris", rule("iris", filters=filters), hostnames=(HOST,))
    await world.answering("iris")
    assert (await world.get("/x", HOST))[1]["backend"] == "a"
    await eventually(lambda: world.gateway.activator.held() == {"default/shadow": 1})
    shadow = await world.backend("s", "127.0.0.3")
    await world.endpoints("shadow", shadow)
    await eventually(lambda: shadow.requests == 1)


FLIPS = int(os.environ.get("KEDGE_FLIPS", "10"))
"""Times that a service under load goes to zero and back."""


async def test_cold_and_warm_in_turn_without_an_error(tmp_path: Path) -> None:
    async with gateway_world(tmp_path, workers=2) as world:
        await at_zero(world)
        pods = [await world.backend(name, f"127.0.0.{name}") for name in "23"]
        load = await world.load(HOST)
        for number in range(FLIPS):
            await held(world, 8)
            await world.endpoints("iris", pods[number % 2])
            await load.more(100)
            await world.endpoints("iris")
        await held(world, 8)
        await world.endpoints("iris", *pods)
        await load.more(100)
        await load.stop()
        assert load.failed == []
        print(f"{sum(load.answered.values())} requests, {FLIPS} flips")


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
async def test_a_burst_at_zero_with_one_request_a_pod(tmp_path: Path, protocol: str) -> None:
    """By the pods' own counters, with two Envoy workers."""
    async with gateway_world(tmp_path, workers=2) as world:
        await at_zero(world, concurrency=1)
        asked: list[asyncio.Task[Any]] = [
            asyncio.create_task(world.get("/", HOST) if protocol == "rest" else call(world))
            for _ in range(200)
        ]
        await held(world, 200)
        pods: list[Any] = []
        for number in range(2, 6):
            make = world.backend if protocol == "rest" else world.grpc_backend
            pods.append(await make(str(number), f"127.0.0.{number}"))
            pods[-1].delay = 0.02
            port = "http" if protocol == "rest" else "grpc"
            await world.endpoints("iris", *pods, port_name=port)
            await asyncio.sleep(0.1)
        answers = await asyncio.gather(*asked)
        if protocol == "rest":
            assert {status for status, _ in answers} == {200}
            answers = [body for _, body in answers]
        assert len(answers) == 200
        assert {body["backend"] for body in answers} == {"2", "3", "4", "5"}
        assert [pod.most for pod in pods] == [1, 1, 1, 1]


@pytest.mark.parametrize("concurrency", [0, 1])
async def test_a_last_pod_that_vanished_is_waited_for(
    world: GatewayWorld, concurrency: int
) -> None:
    """It is gone, and nobody has told the gateway yet."""
    await at_zero(world, concurrency=concurrency)
    a = await world.backend("a", "127.0.0.2")
    await world.endpoints("iris", a)
    assert (await world.get("/", HOST))[0] == 200
    await a.stop()
    asked = [asyncio.create_task(world.get("/", HOST)) for _ in range(20)]
    await held(world, 20)
    await asyncio.sleep(0.5)
    assert not any(one.done() for one in asked)
    await world.endpoints("iris", await world.backend("b", "127.0.0.3"))
    assert await asyncio.gather(*asked)
    assert {(status, body["backend"]) for status, body in await asyncio.gather(*asked)} == {
        (200, "b")
    }


async def test_a_pod_that_takes_no_connection_is_passed_over(world: GatewayWorld) -> None:
    await at_zero(world, concurrency=2)
    a, b = await world.backend("a", "127.0.0.2"), await world.backend("b", "127.0.0.3")
    await world.endpoints("iris", a, b)
    load = await world.load(HOST)
    await load.until(lambda: {"a", "b"} <= load.answered.keys())
    await b.stop()
    await load.more(200)
    await load.stop()
    # What was in that pod when it died is not ours to repeat.
    assert [one for one in load.failed if "broke the connection" not in one] == []
    assert len(load.failed) <= 2
    assert a.most <= 2


@pytest.mark.parametrize("concurrency", [0, 1])
async def test_a_pod_that_leaves_is_drained(world: GatewayWorld, concurrency: int) -> None:
    await at_zero(world, concurrency=concurrency)
    asked = asyncio.create_task(world.get("/", HOST))
    await held(world, 1)
    a, b = await world.backend("a", "127.0.0.2"), await world.backend("b", "127.0.0.3")
    a.delay = 0.5
    await world.endpoints("iris", a)
    await eventually(lambda: world.gateway.activator.busy(a.address) == 1)
    await world.endpoints("iris", b)
    async with asyncio.timeout(5):
        await world.gateway.drained(a.address)
    assert a.active == 0
    assert (await asked)[1]["backend"] == "a"
    assert (await world.get("/", HOST))[1]["backend"] == "b"


async def test_commands_to_envoy_reach_nothing(world: GatewayWorld) -> None:
    """Neither a header nor anything else a client sends says where its request goes."""
    await at_zero(world, concurrency=1)
    secret = await world.backend("secret", "127.0.0.9")
    pod = await world.backend("a", "127.0.0.2")
    await world.endpoints("iris", pod)
    await world.endpoints("iris", await world.grpc_backend("g", "127.0.0.3"), port_name="grpc")
    address = f"{secret.address}:{secret.port}"
    names = (
        "x-envoy-original-dst-host", "x-kedge-again", "x-kedge-address", "x-kedge-listener",
        "x-envoy-retry-on", "x-gateway-destination-endpoint", "kedge.activation", "address",
    )  # fmt: skip
    headers = dict.fromkeys(names, address)
    headers["x-kedge-lane"] = "kedge/pods-1"
    await world.route("path", path_rule("/serving/default/iris/", "iris"))
    await world.answering("path")
    proxy = f"http://127.0.0.1:{world.settings.proxy_port}"
    for url, host, via in (
        (world.url, HOST, None),
        (f"{world.url}/serving/default/iris/", "any", None),
        (f"http://{HOST}/", HOST, proxy),
    ):
        sent = {"Host": host, **headers}
        async with world.session.get(url, headers=sent, proxy=via) as answer:
            body = await answer.json()
            assert body["backend"] == "a"
            assert not any(name.startswith(("x-envoy-", "x-kedge-")) for name in body["headers"])
    metadata = tuple(headers.items())
    assert (await call(world, metadata=metadata))["backend"] == "g"
    assert secret.requests == 0
    # Nor does a host that is an internal name.
    for host in ("activation", "envoy://activation/default/iris/80", address):
        try:
            async with world.session.get(world.url, headers={"Host": host, **headers}) as answer:
                assert answer.status in (400, 404)
        except aiohttp.ClientError:
            pass
    assert secret.requests == 0
