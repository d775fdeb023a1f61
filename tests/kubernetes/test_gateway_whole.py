"""Controllers, autoscaler and two replicas of the gateway together; only pods are made up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from tests.kubernetes.gateways import (
    GatewayProcess,
    Pod,
    ask_many,
    forget_members,
    gateway,
    get,
    grant,
    pod_address,
    pod_network,
    tell_members,
)
from tests.kubernetes.standins import eventually, pod_ready, set_status
from tests.kubernetes.test_reconciling import iris, ready
from tests.kubernetes.world import World, until

from kedge.api.scheme import DEPLOYMENT, POD, Kind
from kedge.cluster.errors import ApiError
from kedge.cluster.kubernetes import KubernetesCluster

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.usefixtures("controller"),
    pytest.mark.timeout(240),
]
ADDRESS, PORT = pod_address(31), 8080
NODE_NAME = "made-up"
"""Kubernetes takes no pod for an endpoint that is on no node."""
BINDING = Kind("", "v1", "Binding", "bindings", "")


@pytest.fixture(scope="module")
def gateway_account(world: World) -> Path:
    return grant(world)


@pytest.fixture
def two(world: World, gateway_account: Path) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    with (
        pod_network(),
        gateway(world, "gw-a", gateway_account, address=pod_address(201), wait=False) as one,
        gateway(world, "gw-b", gateway_account, address=pod_address(202), wait=False) as other,
    ):
        for it in (one, other):
            until(it.is_ready, f"{it.name} ready", 120)
        tell_members(world, one, other)
        yield one, other
        forget_members(world)


@asynccontextmanager
async def kubelet(cluster: KubernetesCluster, namespace: str) -> AsyncIterator[None]:
    """Every pod runs at that one address; one that is deleted is gone."""

    async def play() -> None:
        status = {**pod_ready(), "podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}]}
        while True:
            with suppress(ApiError, OSError):
                for pod in (await cluster.list(POD, namespace)).items:
                    metadata = pod["metadata"]
                    if metadata.get("deletionTimestamp"):
                        await cluster.delete(POD, metadata["name"], namespace, grace_seconds=0)
                    elif (pod.get("status") or {}).get("phase") != "Running":
                        target = {"apiVersion": "v1", "kind": "Node", "name": NODE_NAME}
                        binding = {"metadata": {"name": metadata["name"], "namespace": namespace},
                                   "target": target}  # fmt: skip
                        await cluster.create(BINDING, binding)
                        await set_status(cluster, POD, metadata["name"], namespace, status)
            await asyncio.sleep(0.1)

    task = asyncio.ensure_future(play())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_service_at_zero_is_woken_through_any_replica(
    world: World, cluster: KubernetesCluster, namespace: str,
    two: tuple[GatewayProcess, GatewayProcess],
) -> None:  # fmt: skip
    service = iris()
    service["spec"]["predictor"]["minReplicas"] = 0
    host, inside = f"iris-{namespace}.example.com", f"iris.{namespace}.svc.cluster.local"
    world.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE_NAME}})
    pod = Pod("pod", ADDRESS, PORT)
    try:
        await asyncio.to_thread(until, lambda: pod.is_up, "the pod's server")

        async def replicas() -> int:
            name = "iris-predictor-00001"
            return int((await cluster.get(DEPLOYMENT, name, namespace))["spec"]["replicas"])

        async with kubelet(cluster, namespace):
            world.apply(service, namespace=namespace)
            # One pod proves the revision, and goes.
            await ready(cluster, "iris", namespace)

            async def is_at_zero() -> bool:
                pods = (await cluster.list(POD, namespace)).items
                return await replicas() == 0 and not pods

            await eventually(is_at_zero, "zero")
            async with aiohttp.ClientSession() as session:
                answered = await ask_many(two[1], host, 5, session)
            assert [code for code, _ in answered] == [200] * 5
            assert answered[0][1]["host"] == host
            assert await replicas() == 1
            for one in two:
                code, body = await asyncio.to_thread(one.ask, host)
                assert (code, json.loads(body)["pod"]) == (200, "pod")
        # Its name inside the cluster leads to the replicas.
        found = world.get("endpointslice", "iris-kedge-gateway", namespace)
        port = found["ports"][0]["port"]
        places = [end["addresses"][0] for end in found["endpoints"]]
        assert places == [one.address for one in two]
        (there,) = [one for one in two if one.inside_port == port]
        code, _ = await asyncio.to_thread(get, there.address, port, "/", inside)
        assert code == 200
    finally:
        pod.stop()
