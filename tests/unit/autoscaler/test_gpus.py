"""Pods that need GPUs scale by the same rules, within the GPUs that there are."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.autoscaler.world import World, a_world

from kedge.api.scheme import POD
from kedge.client.scaling import Scaling, homeless
from kedge.cluster.local.workloads import Workloads
from kedge.testing.kubelet import FakeKubelet

KEY = "ns/web-private"
ONE_GPU = {"limits": {"nvidia.com/gpu": "1"}, "requests": {"nvidia.com/gpu": "1"}}


async def with_gpus(world: World, count: int) -> list[asyncio.Task[None]]:
    """The local cluster's own controllers and scheduler, over a node with so many GPUs."""
    amounts = {"cpu": "8", "memory": "8Gi", "pods": "110"}
    amounts |= {"nvidia.com/gpu": str(count)} if count else {}
    parts = (
        Workloads(world.cluster, clock=world.clock),
        FakeKubelet(world.cluster, allocatable=amounts, clock=world.clock),
    )
    return [asyncio.create_task(part.run()) for part in parts]


async def pods(world: World) -> list[dict[str, Any]]:
    return (await world.cluster.list(POD, "ns")).items


async def passing(world: World, seconds: float) -> None:
    for _ in range(round(seconds)):
        await world.clock.advance(1)


@pytest.mark.parametrize("gpus", [0, 2])
async def test_more_pods_than_gpus_wait_and_say_so(gpus: int) -> None:
    async with a_world() as world:
        tasks = await with_gpus(world, gpus)
        world.open_gateway()
        await world.create(replicas=0, target=1, max_scale=4, resources=ONE_GPU)
        await passing(world, 3)
        world.wake(KEY)
        world.loads = {KEY: (10, 10)}
        await passing(world, 10)
        assert await world.replicas() == 4
        found = await pods(world)
        placed = [pod for pod in found if pod["spec"].get("nodeName")]
        assert (len(found), len(placed)) == (4, gpus)
        ready = (await world.deployment()).get("status", {}).get("readyReplicas", 0)
        assert ready == gpus
        (problem,) = homeless(scaling(), found)
        assert problem.startswith(f"{4 - gpus} pods have no place: 0/1 nodes are available: ")
        assert "nvidia.com/gpu" in problem
        assert ("used by ns/web" if gpus else "node local has 0 of 0 free") in problem
        assert "Fix: " in problem
        world.loads = {}
        # Pods that never got a place are given up once they had the time to get ready.
        await passing(world, 120 if gpus else 640)
        assert await world.replicas() == 0
        assert homeless(scaling(), await pods(world)) == []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def scaling() -> Scaling:
    return Scaling("web", "ns", "web", "Kedge", 0, 0)


async def test_a_gpu_that_is_let_go_serves_who_waits() -> None:
    async with a_world() as world:
        tasks = await with_gpus(world, 1)
        world.open_gateway()
        await world.create("first", replicas=1, min_scale=1, resources=ONE_GPU)
        await passing(world, 2)
        await world.create(replicas=0, resources=ONE_GPU)
        world.wake(KEY)
        world.loads = {KEY: (1, 1)}
        await passing(world, 12)
        assert "used by ns/first" in homeless(scaling(), await pods(world))[0]
        # A newer revision takes all its requests.
        await world.annotate("first", **{"serving.kedge.dev/reachability": "unreachable"})
        await passing(world, 10)
        assert (await world.deployment())["status"]["readyReplicas"] == 1
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
