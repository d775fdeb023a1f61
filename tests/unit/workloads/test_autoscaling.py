"""What autoscalers conclude from usage, and how fast they may act on it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from kedge.api.scheme import DEPLOYMENT, HORIZONTAL_POD_AUTOSCALER
from kedge.cluster.base import Object
from kedge.cluster.local.admission import AdmitAll
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.store import Store
from kedge.cluster.local.workloads import Workloads
from kedge.cluster.local.workloads.autoscaling import ProcessUsage
from kedge.cluster.local.workloads.autoscaling.behavior import Memory, temper
from kedge.cluster.local.workloads.autoscaling.metrics import MetricError, read_metric
from kedge.cluster.local.workloads.autoscaling.usage import Usage
from kedge.testing.clock import FakeClock
from kedge.testing.kubelet import FakeKubelet


def pod(name: str, *, ready: bool = True, **requests: str) -> Object:
    return {
        "metadata": {"name": name, "namespace": "ns", "uid": name},
        "spec": {"containers": [{"resources": {"requests": requests}}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }


def metric(resource: str = "cpu", **target: Any) -> Object:
    target = target or {"type": "Utilization", "averageUtilization": 50}
    return {"type": "Resource", "resource": {"name": resource, "target": target}}


def usages(**cores: str) -> dict[str, Usage]:
    return {name: {"cpu": Decimal(one), "memory": Decimal(2**20)} for name, one in cores.items()}


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        ({"a": "1", "b": "1"}, 4),
        ({"a": "0.52", "b": "0.5"}, 2),
        ({"a": "0.1", "b": "0.1"}, 1),
        # One pod without figures: taken as idle when more are wanted, as busy when fewer are.
        ({"a": "1"}, 2),
        ({"a": "0.3"}, 2),
        ({"a": "2.5"}, 5),
    ],
)
def test_utilization_of_requests(used: dict[str, str], expected: int) -> None:
    pods = [pod("a", cpu="1"), pod("b", cpu="1")]
    assert read_metric(metric(), 2, pods, usages(**used)).replicas == expected


def test_an_average_value_needs_no_requests() -> None:
    reading = read_metric(
        metric("memory", type="AverageValue", averageValue="512Ki"), 1, [pod("a")], usages(a="1")
    )
    assert reading.replicas == 2
    assert reading.status["resource"] == {"name": "memory", "current": {"averageValue": "1048576"}}


def test_what_cannot_be_concluded_is_said() -> None:
    with pytest.raises(MetricError, match=r"missing request for cpu in Pod a.*requests\.cpu"):
        read_metric(metric(), 1, [pod("a")], usages(a="1"))
    with pytest.raises(MetricError, match="no metrics known for any ready pod"):
        read_metric(metric(), 1, [pod("a", cpu="1", ready=False)], usages(a="1"))
    with pytest.raises(MetricError, match="type External are not served"):
        read_metric({"type": "External"}, 1, [], {})


def test_more_pods_at_once_within_limits_fewer_only_after_five_minutes() -> None:
    memory = Memory()
    assert temper(None, 2, 100, memory, 0) == 6
    memory.changes.append((0, 4))
    assert temper(None, 6, 100, memory, 5) == 6
    assert temper(None, 6, 100, memory, 16) == 12
    for now in range(30, 330, 15):
        temper(None, 12, 3, memory, now)
    assert temper(None, 12, 3, memory, 310) == 12
    assert temper(None, 12, 3, memory, 330) == 3


def test_behavior_can_be_asked_for() -> None:
    slow = {"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}
    assert temper(slow, 2, 10, Memory(), 0) == 3
    quick = {"scaleDown": {"stabilizationWindowSeconds": 0}}
    assert temper(quick, 10, 1, Memory(), 0) == 1
    off = {"scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Disabled"}}
    assert temper(off, 10, 1, Memory(), 0) == 10
    tenth = {"type": "Percent", "value": 10, "periodSeconds": 60}
    least = {"scaleUp": {"policies": [tenth, {**tenth, "value": 50}], "selectPolicy": "Min"}}
    assert temper(least, 10, 100, Memory(), 0) == 11


async def test_usage_of_processes_is_over_the_time_since_the_last_look() -> None:
    clock = FakeClock()
    usage = ProcessUsage(lambda uid: [os.getpid()] if uid == "me" else [], clock=clock)
    assert usage.of("other") is None
    assert usage.of("me") is None
    await clock.advance(1000)
    used = usage.of("me")
    assert used is not None
    assert 0 <= used["cpu"] < 1
    assert used["memory"] > 2**20


class Busy:
    """Every pod uses the same."""

    def __init__(self) -> None:
        self.cores = Decimal("0.5")

    def of(self, uid: str) -> Usage:
        return {"cpu": self.cores, "memory": Decimal(1)}


class World:
    def __init__(self) -> None:
        self.clock = FakeClock(rounds=100)
        self.store = Store(":memory:")
        self.cluster = LocalCluster(self.store, AdmitAll(), clock=self.clock)
        self.usage = Busy()

    async def replicas(self) -> int:
        found = await self.cluster.get(DEPLOYMENT, "web", "default")
        return int(found["spec"]["replicas"])

    async def said(self, type: str) -> tuple[str, str]:
        found = await self.cluster.get(HORIZONTAL_POD_AUTOSCALER, "web", "default")
        one = next(one for one in found["status"]["conditions"] if one["type"] == type)
        return one["status"], one["reason"]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    parts = (
        Workloads(world.cluster, usage=world.usage, clock=world.clock),
        FakeKubelet(world.cluster, clock=world.clock),
    )
    tasks = [asyncio.create_task(part.run()) for part in parts]
    labels = {"app": "web"}
    container = {"name": "main", "image": "i", "resources": {"requests": {"cpu": "1m"}}}
    await world.cluster.create(
        DEPLOYMENT,
        {
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        },
    )
    await world.cluster.create(
        HORIZONTAL_POD_AUTOSCALER,
        {
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "minReplicas": 2,
                "maxReplicas": 5,
                "metrics": [metric(type="AverageValue", averageValue="500m")],
            },
        },
    )
    yield world
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    world.store.close()


async def test_an_autoscaler_keeps_bounds_follows_usage_and_rests_at_zero(world: World) -> None:
    await world.clock.advance(1)
    assert await world.replicas() == 2
    await world.clock.advance(20)
    assert await world.said("ScalingActive") == ("True", "ValidMetricFound")
    world.usage.cores = Decimal(5)
    await world.clock.advance(20)
    assert await world.replicas() == 5
    await world.clock.advance(20)
    assert await world.said("ScalingLimited") == ("True", "TooManyReplicas")
    world.usage.cores = Decimal(0)
    await world.clock.advance(100)
    assert await world.replicas() == 5
    await world.clock.advance(300)
    assert await world.replicas() == 2
    await world.cluster.scale(DEPLOYMENT, "web", "default", 0, field_manager="activator")
    await world.clock.advance(60)
    assert await world.replicas() == 0
    assert await world.said("ScalingActive") == ("False", "ScalingDisabled")
