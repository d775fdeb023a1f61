"""A share of the requests goes to a candidate too, and its answers are compared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web
from tests.integration.gateway_world import (
    PREDICT,
    Backend,
    GatewayWorld,
    GrpcBackend,
    eventually,
    gateway_world,
    grpc_rule,
    rule,
)

from kedge.api.scheme import HTTP_ROUTE
from kedge.gateway.comparing import Comparison

HOST = "iris-default.localhost"
PAIR = ("default/iris", "default/candidate")


class Model(Backend):
    """Answers a prediction, after `delay` seconds."""

    predictions: tuple[float, ...] = (1.0, 2.0)
    status = 200

    async def _answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        self.seen.append(request)
        await asyncio.sleep(self.delay)
        answer = {"model_name": self.name, "predictions": list(self.predictions)}
        return web.json_response(answer, status=self.status)


class GrpcModel(GrpcBackend):
    """Answers with a message that names it (field 1) and a tensor's bytes (field 7)."""

    tensor = b"\x00\x01\x02\x03"

    async def _answer(self, request: bytes, context: Any) -> bytes:
        name = self.name.encode()
        return bytes([0x0A, len(name)]) + name + bytes([0x3A, len(self.tensor)]) + self.tensor


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[GatewayWorld]:
    async with gateway_world(tmp_path) as world:
        yield world


async def serve(world: GatewayWorld, *, compare: bool = True, **share: Any) -> tuple[Model, Model]:
    models = Model("stable", "127.0.0.2"), Model("candidate", "127.0.0.3")
    for model in models:
        await model.start()
        world.backends.append(model)
    await world.service("stable")
    await world.service("candidate", activation=True)
    await world.endpoints("stable", models[0])
    await world.endpoints("candidate", models[1])
    mirror = {"backendRef": {"name": "candidate", "port": 80}, **share}
    filters = [{"type": "RequestMirror", "requestMirror": mirror}]
    await world.route("iris", rule("stable", filters=filters), hostnames=(HOST,))
    if compare:
        await compare_mirrors(world)
    await world.answering("iris")
    return models


async def compare_mirrors(world: GatewayWorld) -> None:
    patch = {"metadata": {"annotations": {"serving.kedge.dev/compare-mirrors": "true"}}}
    sent = world.gateway.server.bytes_sent
    await world.cluster.patch(HTTP_ROUTE, "iris", patch, namespace="default")
    await eventually(lambda: world.gateway.server.bytes_sent > sent)
    await world.gateway.server.wait_until(world.gateway.server.is_settled)


async def ask(world: GatewayWorld, count: int) -> None:
    for _ in range(count):
        status, body = await world.get("/v1/models/m:predict", HOST)
        assert body["model_name"] == "stable", (status, body)


async def compared(world: GatewayWorld, count: int) -> Comparison:
    def found() -> Comparison:
        return world.gateway.comparer.comparisons.get(PAIR, Comparison())

    await eventually(lambda: found().results.total() >= count)
    return found()


async def test_a_share_is_mirrored(world: GatewayWorld) -> None:
    _, candidate = await serve(world, compare=False, percent=20)
    await ask(world, 300)
    await eventually(lambda: 30 < candidate.requests < 100)
    assert candidate.seen[0].host == HOST
    assert world.gateway.comparer.comparisons == {}


async def test_answers_are_compared(world: GatewayWorld) -> None:
    _, candidate = await serve(world)
    candidate.delay = 0.05
    await ask(world, 10)
    found = await compared(world, 10)
    assert found.results == {"agree": 10}
    mean = [seconds / 10 for seconds in found.seconds]
    assert mean[1] > 0.04
    assert mean[1] > mean[0]
    # Another answer, and none.
    candidate.predictions = (1.0, 2.5)
    await ask(world, 5)
    assert (await compared(world, 15)).results == {"agree": 10, "differ": 5}
    candidate.status = 500
    await ask(world, 5)
    assert (await compared(world, 20)).results == {"agree": 10, "differ": 5, "status": 5}
    assert not any(
        name.lower().startswith("x-kedge") for request in candidate.seen for name in request.headers
    )
    url = f"http://127.0.0.1:{world.settings.metrics_port}/metrics/comparisons"
    async with world.session.get(url) as answer:
        text = await answer.text()
    pair = 'service="default/iris",candidate="default/candidate"'
    assert f'kedge_shadow_requests_total{{{pair},result="differ"}} 5' in text
    assert f'kedge_shadow_seconds_count{{{pair},of="candidate"}} 20' in text


async def test_only_the_share_is_compared(world: GatewayWorld) -> None:
    _, candidate = await serve(world, fraction={"numerator": 1, "denominator": 4})
    await ask(world, 200)
    await eventually(lambda: 25 < candidate.requests < 80)
    found = await compared(world, candidate.requests)
    assert found.results == {"agree": candidate.requests}


async def test_a_candidate_at_zero_is_woken_and_a_slow_one_delays_nobody(
    world: GatewayWorld,
) -> None:
    _, candidate = await serve(world)
    await world.endpoints("candidate")
    await world.gateway.drained(candidate.address)
    await ask(world, 3)
    await eventually(lambda: world.gateway.activator.held() == {"default/candidate": 3})
    candidate.delay = 0.2
    await world.endpoints("candidate", candidate)
    assert (await compared(world, 3)).results == {"agree": 3}


async def test_grpc_answers_are_compared(world: GatewayWorld) -> None:
    models = [GrpcModel("stable", "127.0.0.2"), GrpcModel("candidate", "127.0.0.3")]
    for model in models:
        await model.start()
        world.backends.append(model)
        await world.service(model.name, grpc=True)
        await world.endpoints(model.name, model, port_name="grpc")
    filters = [
        {
            "type": "RequestMirror",
            "requestMirror": {"backendRef": {"name": "candidate", "port": 8081}},
        }
    ]
    await world.route("iris", {**grpc_rule("stable"), "filters": filters}, hostnames=(HOST,))
    await compare_mirrors(world)
    await world.answering("iris")
    options = [("grpc.default_authority", HOST)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.settings.port}", options) as channel:
        method: Any = channel.unary_unary(PREDICT, None, None)
        for _ in range(5):
            assert b"stable" in await method(b"x", timeout=10)
        assert (await compared(world, 5)).results == {"agree": 5}
        models[1].tensor = b"\x00\x01\x02\x04"
        await method(b"x", timeout=10)
    assert (await compared(world, 6)).results == {"agree": 5, "differ": 1}
