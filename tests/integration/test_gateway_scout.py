"""Pods that answer before the kubelet has seen it, with a real Envoy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.gateway_world import GatewayWorld, eventually, gateway_world, rule
from tests.ports import free_port

HOST = "iris-default.localhost"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[GatewayWorld]:
    async with gateway_world(tmp_path, replicas=True) as world:
        yield world


async def test_what_waits_goes_to_a_pod_as_soon_as_it_answers(world: GatewayWorld) -> None:
    await world.service("iris", activation=True)
    await world.route("iris", rule("iris"), hostnames=(HOST,))
    pod = await world.backend("a")
    probe, late = f"http://pod:{pod.port}/ready", f"http://pod:{free_port()}/ready"
    await world.annotate("iris", {"serving.kedge.dev/ready-probe": late})
    await world.answering("iris")
    asked = [asyncio.create_task(world.get("/x", HOST)) for _ in range(3)]
    await eventually(lambda: world.gateway.activator.held() == {"default/iris": 3})
    await world.endpoints("iris", pod, ready=False)
    # It is there, and does not answer where it is to say that it is ready.
    revision = world.gateway.activator.find("default/iris/80")
    assert revision is not None
    await eventually(lambda: any(revision.coming.values()))
    assert world.gateway.activator.held() == {"default/iris": 3}
    await world.annotate("iris", {"serving.kedge.dev/ready-probe": probe})
    for status, answer in await asyncio.gather(*asked):
        assert (status, answer["backend"]) == (200, "a")
    assert [one.path for one in pod.seen].count("/ready") >= 1
    # Who comes now goes there too, and after the kubelet has seen it as well.
    assert (await world.get("/y", HOST))[1]["backend"] == "a"
    await world.endpoints("iris", pod)
    await world.answering("iris")
    assert (await world.get("/z", HOST))[1]["backend"] == "a"
    # It leaves: nothing is sent there any more.
    await world.endpoints("iris")
    more = asyncio.create_task(world.get("/w", HOST))
    await eventually(lambda: world.gateway.activator.held() == {"default/iris": 1})
    more.cancel()
