"""Deployments on a local cluster with a node that runs nothing: from object to ready endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from kedge.api.scheme import DEPLOYMENT, ENDPOINT_SLICE, POD, REPLICA_SET, SERVICE, Kind
from kedge.cluster.base import Object
from kedge.cluster.local.admission import AdmitAll
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.store import Store
from kedge.cluster.local.workloads import Workloads
from kedge.cluster.local.workloads.pods import is_ready
from kedge.testing.kubelet import FakeKubelet

NAMESPACE = "default"
REVISION = "deployment.kubernetes.io/revision"
SECONDS = 10.0


class World:
    """A running cluster and a few words to ask it with."""

    def __init__(self) -> None:
        self.store = Store(":memory:")
        self.cluster = LocalCluster(self.store, AdmitAll())
        self.kubelet = FakeKubelet(self.cluster)
        parts = (self.cluster, self.kubelet)
        self._tasks = [asyncio.create_task(part.run()) for part in parts]
        self._workloads = asyncio.create_task(Workloads(self.cluster).run())

    async def restart_workloads(self) -> None:
        """As when their process is killed: whatever they knew is lost."""
        self._workloads.cancel()
        await asyncio.gather(self._workloads, return_exceptions=True)
        self._workloads = asyncio.create_task(Workloads(self.cluster).run())

    async def close(self) -> None:
        tasks = [*self._tasks, self._workloads]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.store.close()

    async def deployment(self) -> Object:
        return await self.cluster.get(DEPLOYMENT, "web", NAMESPACE)

    async def all(self, kind: Kind) -> list[Object]:
        return (await self.cluster.list(kind, NAMESPACE)).items

    async def until(self, condition: Callable[[Object], bool]) -> Object:
        """The Deployment as soon as it fulfils a condition."""
        async with asyncio.timeout(SECONDS):
            async for event in self.cluster.watch(DEPLOYMENT, NAMESPACE):
                if condition(event.object):
                    return event.object
        raise AssertionError("the watch ended")

    async def until_gone(self, kind: Kind) -> None:
        async with asyncio.timeout(SECONDS):
            listed = await self.cluster.list(kind, NAMESPACE)
            left = len(listed.items)
            changes = self.cluster.watch(kind, NAMESPACE, resource_version=listed.resource_version)
            while left:
                left -= (await anext(changes)).type == "DELETED"

    async def until_done(self) -> Object:
        return await self.until(is_done)

    async def patch(self, patch: dict[str, Any]) -> None:
        await self.cluster.patch(DEPLOYMENT, "web", patch, namespace=NAMESPACE)

    async def change_image(self, image: str) -> None:
        containers = [{"name": "main", "image": image}]
        await self.patch({"spec": {"template": {"spec": {"containers": containers}}}})


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.close()


def make_deployment(replicas: int = 3, image: str = "app:1", **spec: Any) -> Object:
    labels = {"app": "web"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": NAMESPACE},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": image}]},
            },
            **spec,
        },
    }


def is_done(deployment: Object) -> bool:
    """What `kubectl rollout status` waits for."""
    status, replicas = deployment.get("status") or {}, deployment["spec"]["replicas"]
    observed = int(status.get("observedGeneration", 0))
    fields = ("updatedReplicas", "replicas", "availableReplicas")
    return observed >= deployment["metadata"]["generation"] and all(
        status.get(field, 0) == replicas for field in fields
    )


def condition(deployment: Object, type: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        one for one in deployment["status"]["conditions"] if one["type"] == type
    )
    return found


async def test_a_deployment_becomes_ready_pods_behind_a_service(world: World) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": NAMESPACE},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    await world.cluster.create(SERVICE, service)
    await world.cluster.create(DEPLOYMENT, make_deployment())
    deployment = await world.until_done()
    assert condition(deployment, "Available")["status"] == "True"
    progressing = await world.until(
        lambda one: condition(one, "Progressing")["reason"] == "NewReplicaSetAvailable"
    )
    assert progressing["metadata"]["annotations"][REVISION] == "1"
    (replica_set,) = await world.all(REPLICA_SET)
    pods = await world.all(POD)
    assert {pod["spec"]["nodeName"] for pod in pods} == {"local"}
    assert all(pod["metadata"]["name"].startswith(replica_set["metadata"]["name"]) for pod in pods)
    async with asyncio.timeout(SECONDS):
        async for event in world.cluster.watch(ENDPOINT_SLICE, NAMESPACE):
            endpoints = event.object["endpoints"]
            if sum(one["conditions"]["ready"] for one in endpoints) == 3:
                break
    assert {one["addresses"][0] for one in endpoints} == {pod["status"]["podIP"] for pod in pods}
    assert event.object["ports"] == [{"name": "", "protocol": "TCP", "port": 8080}]


async def test_a_rolling_update_keeps_its_bounds(world: World) -> None:
    await world.cluster.create(DEPLOYMENT, make_deployment(4))
    await world.until_done()
    counts: list[tuple[int, int]] = []
    complete = asyncio.Event()

    async def count() -> None:
        pods: dict[str, Object] = {}
        async for event in world.cluster.watch(POD, NAMESPACE):
            metadata = event.object["metadata"]
            pods[metadata["name"]] = event.object
            if event.type == "DELETED":
                del pods[metadata["name"]]
            living = [pod for pod in pods.values() if "deletionTimestamp" not in pod["metadata"]]
            counts.append((len(living), sum(map(is_ready, living))))
            if counts[-1] == (4, 4):
                complete.set()

    async with asyncio.TaskGroup() as tasks:
        counting = tasks.create_task(count())
        await complete.wait()
        counts.clear()
        await world.change_image("app:2")
        await world.until_done()
        counting.cancel()
    assert max(living for living, _ in counts) <= 5
    assert min(ready for _, ready in counts) >= 3
    sets = {one["metadata"]["annotations"][REVISION]: one for one in await world.all(REPLICA_SET)}
    assert [sets[revision]["spec"]["replicas"] for revision in ("1", "2")] == [0, 4]


async def test_a_new_version_that_never_answers_takes_nothing_away(world: World) -> None:
    world.kubelet.starts = lambda pod: pod["spec"]["containers"][0]["image"] != "app:bad"
    await world.cluster.create(DEPLOYMENT, make_deployment(4, progressDeadlineSeconds=1))
    await world.until_done()
    await world.change_image("app:bad")
    stuck = await world.until(
        lambda one: condition(one, "Progressing")["reason"] == "ProgressDeadlineExceeded"
    )
    assert condition(stuck, "Available")["status"] == "True"
    assert stuck["status"]["availableReplicas"] == 3
    # kubectl rollout undo: the template of the revision before.
    first = next(
        one
        for one in await world.all(REPLICA_SET)
        if one["metadata"]["annotations"][REVISION] == "1"
    )
    await world.change_image(first["spec"]["template"]["spec"]["containers"][0]["image"])
    done = await world.until_done()
    assert done["metadata"]["annotations"][REVISION] == "3"
    assert len(await world.all(REPLICA_SET)) == 2


async def test_scales_up_and_down_and_to_nothing(world: World) -> None:
    await world.cluster.create(DEPLOYMENT, make_deployment(1))
    await world.until_done()
    for replicas in (5, 2, 0):
        await world.cluster.scale(
            DEPLOYMENT, "web", NAMESPACE, replicas, field_manager="test-scaler"
        )
        await world.until(lambda one, wanted=replicas: one["spec"]["replicas"] == wanted)  # type: ignore[misc]  # a default binds the loop's value
        await world.until_done()
        pods = [one for one in await world.all(POD) if "deletionTimestamp" not in one["metadata"]]
        assert len(pods) == replicas


async def test_recreate_never_mixes_versions(world: World) -> None:
    await world.cluster.create(DEPLOYMENT, make_deployment(2, strategy={"type": "Recreate"}))
    await world.until_done()
    mixes: list[set[str]] = []

    async def look() -> None:
        images: dict[str, str] = {}
        async for event in world.cluster.watch(POD, NAMESPACE):
            name = event.object["metadata"]["name"]
            images[name] = event.object["spec"]["containers"][0]["image"]
            if event.type == "DELETED":
                del images[name]
            mixes.append(set(images.values()))

    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(look())
        await world.change_image("app:2")
        await world.until_done()
        looking.cancel()
    assert {"app:1", "app:2"} not in mixes


async def test_a_paused_deployment_scales_but_does_not_roll(world: World) -> None:
    await world.cluster.create(DEPLOYMENT, make_deployment(1))
    await world.until_done()
    await world.patch({"spec": {"paused": True}})
    await world.until(lambda one: condition(one, "Progressing")["reason"] == "DeploymentPaused")
    await world.change_image("app:2")
    await world.patch({"spec": {"replicas": 3}})
    await world.until(lambda one: one["status"].get("availableReplicas") == 3)
    assert len(await world.all(REPLICA_SET)) == 1
    await world.patch({"spec": {"paused": False}})
    await world.until_done()
    assert len(await world.all(REPLICA_SET)) == 2


async def test_a_deleted_pod_is_replaced_and_a_deleted_deployment_leaves_nothing(
    world: World,
) -> None:
    await world.cluster.create(DEPLOYMENT, make_deployment(2))
    await world.until_done()
    victim = (await world.all(POD))[0]["metadata"]["name"]
    await world.cluster.delete(POD, victim, NAMESPACE)
    await world.until(lambda one: one["status"].get("availableReplicas") == 1)
    await world.until_done()
    await world.cluster.delete(DEPLOYMENT, "web", NAMESPACE, propagation="Foreground")
    await world.until_gone(DEPLOYMENT)
    assert await world.all(POD) == []
    assert await world.all(REPLICA_SET) == []


async def test_a_rollout_survives_its_controllers(world: World) -> None:
    await world.cluster.create(DEPLOYMENT, make_deployment(4))
    await world.until_done()
    await world.change_image("app:2")
    for turns in range(20):
        for _ in range(turns * 3):
            await asyncio.sleep(0)
        await world.restart_workloads()
        ready = [one for one in await world.all(POD) if is_ready(one)]
        assert len([one for one in ready if "deletionTimestamp" not in one["metadata"]]) >= 3
    await world.until_done()
    assert len(await world.all(REPLICA_SET)) == 2
    assert len([one for one in await world.all(POD) if is_ready(one)]) == 4
