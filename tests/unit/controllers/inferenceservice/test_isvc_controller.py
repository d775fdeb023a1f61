"""The controller with its informers: what it watches makes services move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import yaml
from tests.unit.controllers.inferenceservice.world import MANIFESTS, World, isvc

from kedge.api.scheme import CLUSTER_SERVING_RUNTIME, DEPLOYMENT
from kedge.controllers.inferenceservice.controller import InferenceServiceController


@asynccontextmanager
async def running(world: World) -> AsyncIterator[InferenceServiceController]:
    controller = InferenceServiceController(world.cluster, lambda: world.config)
    task = asyncio.create_task(controller.run())
    yield controller
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(world: World, name: str, status: str, reason: str = "") -> None:
    """Let everybody work until Ready says so."""
    for _ in range(400):
        for _ in range(20):
            await asyncio.sleep(0)
        ready = await world.condition(name)
        if ready.get("status") == status and reason in (ready.get("reason") or ""):
            return
        await world.run_workloads()
        await world.run_gateway()
    raise AssertionError(f"{name} is {ready}, not {status} {reason}")


async def test_a_service_waits_for_its_runtime_and_follows_it() -> None:
    world = World()
    async with running(world):
        await world.add(isvc())
        await until(world, "iris", "False", "NoSupportingRuntime")
        path = MANIFESTS / "runtimes/kedge-sklearnserver.yaml"
        runtime = yaml.safe_load(path.read_text())
        await world.add((CLUSTER_SERVING_RUNTIME, runtime))
        await until(world, "iris", "True")

        image = "kedge/sklearnserver:other"
        patch = [{**runtime["spec"]["containers"][0], "image": image}]
        await world.cluster.patch(
            CLUSTER_SERVING_RUNTIME, runtime["metadata"]["name"], {"spec": {"containers": patch}}
        )
        for _ in range(200):
            await asyncio.sleep(0)
        deployment = await world.get(DEPLOYMENT, "iris-predictor")
        assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == image


async def test_a_child_that_somebody_deletes_comes_back() -> None:
    world = World()
    await world.add_runtimes()
    async with running(world):
        await world.add(isvc())
        await until(world, "iris", "True")
        await world.cluster.delete(DEPLOYMENT, "iris-predictor", "default")
        for _ in range(100):
            await asyncio.sleep(0)
        await until(world, "iris", "True")
        assert await world.has(DEPLOYMENT, "iris-predictor")
