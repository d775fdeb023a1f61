"""Several controllers, one of which works; what ends it, and an API server that goes and comes."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.contract.apiserver import ApiServer
from tests.kubernetes.standins import all_goes_well, eventually, find
from tests.kubernetes.test_reconciling import iris, ready
from tests.kubernetes.world import HOME, World, prepare, until

from kedge.api.scheme import HTTP_ROUTE, LEASE
from kedge.autoscaler.leader import address_of
from kedge.cluster.kubernetes import KubernetesCluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def own(assets: Path) -> Iterator[World]:
    """An API server of this module's own, for it is killed."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ApiServer(assets, Path(folder), controllers=True) as api,
    ):
        it = World(api, Path(folder))
        prepare(it)
        yield it


def lease(world: World) -> dict[str, Any]:
    found = world.get("lease", "kedge-controller", HOME)
    return found["spec"] if found else {}


def holder(world: World) -> str:
    return str(lease(world).get("holderIdentity") or "")


def test_the_next_takes_over_in_order_at_once_and_after_a_kill_when_the_lease_lapses(
    own: World,
) -> None:
    own.api.kubectl("create", "namespace", "first")
    with own.controller("one") as one:
        until(lambda: holder(own).startswith("one_"), "one leading")
        assert address_of(holder(own)) == f"127.0.0.1:{one.signals_port}"
        with own.controller("two") as two:
            own.apply(iris(), namespace="first")
            until(lambda: own.get("httproute", "iris", "first"), "a route")
            started = time.monotonic()
            assert one.end() == 0
            until(lambda: holder(own).startswith("two_"), "two leading")
            assert time.monotonic() - started < 10, "the lease was given up"
            with own.controller("three") as three:
                own.apply(iris("second"), namespace="first")
                until(lambda: own.get("httproute", "second", "first"), "a second route")
                two.kill()
                killed = time.monotonic()
                own.apply(iris("third"), namespace="first")
                until(lambda: own.get("httproute", "third", "first"), "a third route")
                took = time.monotonic() - killed
                assert holder(own).startswith("three_")
                assert 5 < took < 40, f"{took:.0f} s"
                assert lease(own)["leaseTransitions"] >= 2
                assert three.process.poll() is None


async def test_a_leader_that_lost_its_lease_ends(own: World) -> None:
    with own.controller("loser") as loser:
        until(lambda: holder(own).startswith("loser_"), "leading")
        async with KubernetesCluster.from_kubeconfig(own.api.kubeconfig) as cluster:
            stored = await cluster.get(LEASE, "kedge-controller", HOME)
            spec = {**stored["spec"], "holderIdentity": "another"}
            await cluster.patch(LEASE, "kedge-controller", {"spec": spec}, namespace=HOME)
        until(lambda: loser.process.poll() is not None, "the end of the process")
        assert loser.process.returncode == 1
    own.api.kubectl("delete", "lease", "kedge-controller", "-n", HOME)


async def test_clocks_need_not_agree(own: World) -> None:
    """A holder whose clock is behind keeps the lease; a dead one from the future loses it."""

    def written(holder: str, hours: int) -> dict[str, Any]:
        at = datetime.now(UTC) + timedelta(hours=hours)
        spec = {
            "holderIdentity": holder, "leaseDurationSeconds": 4, "leaseTransitions": 0,
            "renewTime": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }  # fmt: skip
        metadata = {"name": "kedge-controller", "namespace": HOME}
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
                "spec": spec}  # fmt: skip

    own.api.kubectl("delete", "lease", "kedge-controller", "-n", HOME, "--ignore-not-found")
    async with KubernetesCluster.from_kubeconfig(own.api.kubeconfig) as cluster:
        await cluster.apply(LEASE, written("slow_1", -5))
        with own.controller("waits"):
            until_ready = time.monotonic() + 14
            while time.monotonic() < until_ready:
                await cluster.apply(LEASE, written("slow_1", -5))
                assert holder(own) == "slow_1"
                await asyncio.sleep(1)
            await cluster.apply(LEASE, written("ahead_1", 5))
            until(lambda: holder(own).startswith("waits_"), "a new holder", 20)
    own.api.kubectl("delete", "lease", "kedge-controller", "-n", HOME)


async def test_an_api_server_that_is_killed_under_load_is_survived(own: World) -> None:
    """Nothing is lost and nothing is done twice, whatever was under way."""
    own.api.kubectl("create", "namespace", "load")
    services = [iris(f"iris-{number:02d}") for number in range(20)]
    with own.controller("four") as four:
        async with KubernetesCluster.from_kubeconfig(own.api.kubeconfig) as cluster:
            own.apply(*services, namespace="load")
            async with all_goes_well(cluster, "load"):
                await eventually(
                    lambda: find(cluster, HTTP_ROUTE, "iris-02", "load"), "the first routes"
                )
                for _ in range(2):
                    own.api.kill_api()
                    own.api.start_api()
                for service in services:
                    await ready(cluster, service["metadata"]["name"], "load")
            assert four.process.poll() is None
            routes = [r["metadata"]["name"] for r in (await cluster.list(HTTP_ROUTE, "load")).items]
            assert len([name for name in routes if name.endswith("-predictor")]) == len(services)
