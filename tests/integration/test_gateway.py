"""The gateway through a real Envoy: which request goes where, and what comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.gateway_world import GatewayWorld, gateway_world, path_rule, rule


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[GatewayWorld]:
    async with gateway_world(tmp_path) as world:
        yield world


async def test_a_host_and_a_path_lead_to_a_service(world: GatewayWorld) -> None:
    backend = await world.backend("a")
    await world.service("iris")
    await world.endpoints("iris", backend)
    await world.route("iris", rule("iris"), hostnames=("iris-default.localhost",))
    await world.route("iris-path", path_rule("/serving/default/iris/", "iris"))
    await world.answering("iris")
    await world.answering("iris-path")

    status, body = await world.get("/v2/models?x=1", "iris-default.localhost:8080")
    assert (status, body["backend"], body["path"]) == (200, "a", "/v2/models?x=1")
    for asked, arrived in (
        ("/serving/default/iris/v2/models", "/v2/models"),
        ("/serving/default/iris/", "/"),
        ("/serving/default/iris", "/"),
        ("/serving/default/iris?a=b", "/?a=b"),
    ):
        status, body = await world.get(asked)
        assert (status, body["path"]) == (200, arrived)
