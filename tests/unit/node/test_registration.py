"""The Node object and its Lease."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kedge.api.scheme import LEASE, NODE, Kind
from kedge.cluster.base import Cluster, Object
from kedge.cluster.errors import AlreadyExists, NotFound
from kedge.cluster.local.node.registration import PROCESSES_LABEL, NodeTaken, Registration
from kedge.settings.node import Capacity, NodeSettings
from kedge.testing.clock import FakeClock


class Api:
    """Keeps objects by kind and name; a patch of the status or of the whole replaces fields."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.writes: list[str] = []

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        if (kind.kind, name) not in self.objects:
            raise NotFound(name)
        return self.objects[kind.kind, name]

    async def create(self, kind: Kind, obj: Object) -> Object:
        place = (kind.kind, obj["metadata"]["name"])
        if place in self.objects:
            raise AlreadyExists(place[1])
        self.writes.append(f"create {kind.kind}")
        self.objects[place] = {**obj, "metadata": {**obj["metadata"], "uid": "u"}}
        return self.objects[place]

    async def patch(self, kind: Kind, name: str, patch: Any, **more: Any) -> Object:
        found = await self.get(kind, name)
        self.writes.append(f"patch {kind.kind}")
        for part, fields in patch.items():
            found[part] = {**(found.get(part) or {}), **fields}
        return found


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def api() -> Api:
    return Api()


SETTINGS = NodeSettings(
    "here", Path("/d"), Path("/r"), Capacity(2, 1 << 30), address="198.18.7.1", leased=True,
    port=10250, labels={PROCESSES_LABEL: "true"},
)  # fmt: skip


def make(api: Api, clock: FakeClock, settings: NodeSettings = SETTINGS) -> Registration:
    templates: Any = SimpleNamespace(changed=asyncio.Event(), describe=list)
    sandboxes: Any = SimpleNamespace(isolation=SimpleNamespace(refusal=""))
    amounts = {"cpu": Decimal(2), "memory": Decimal(1 << 30)}
    return Registration(
        cast(Cluster, api), settings, clock,
        amounts=amounts, templates=templates, sandboxes=sandboxes,
    )  # fmt: skip


@asynccontextmanager
async def running(registration: Registration) -> AsyncIterator[None]:
    task = asyncio.ensure_future(registration.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_node_and_its_lease_are_made_and_the_lease_is_renewed(
    api: Api, clock: FakeClock
) -> None:
    async with running(make(api, clock)):
        await clock.advance(1)
        lease = api.objects["Lease", "here"]
        assert lease["metadata"]["ownerReferences"][0]["uid"] == "u"
        assert lease["spec"]["leaseDurationSeconds"] == 40
        first = lease["spec"]["renewTime"]
        await clock.advance(30)
        assert api.objects["Lease", "here"]["spec"]["renewTime"] > first
    node = api.objects["Node", "here"]
    assert node["status"]["addresses"] == [{"type": "InternalIP", "address": "198.18.7.1"}]
    assert node["status"]["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 10250}}
    states = {c["type"]: c["status"] for c in node["status"]["conditions"]}
    assert states["Ready"] == "True"
    assert states["MemoryPressure"] == states["DiskPressure"] == "False"


async def test_a_deleted_node_comes_back_with_its_lease(api: Api, clock: FakeClock) -> None:
    async with running(make(api, clock)):
        await clock.advance(1)
        api.objects.clear()
        for _ in range(10):
            await clock.advance(10)
        assert ("Node", "here") in api.objects
        assert ("Lease", "here") in api.objects


async def test_the_moment_of_readiness_does_not_move(api: Api, clock: FakeClock) -> None:
    registration = make(api, clock)
    first = registration.make_node()["status"]["conditions"][0]
    await clock.advance(100)
    again = registration.make_node()["status"]["conditions"][0]
    assert again["lastTransitionTime"] == first["lastTransitionTime"]
    assert again["lastHeartbeatTime"] > first["lastHeartbeatTime"]


async def test_no_kubelets_node_is_taken(api: Api, clock: FakeClock) -> None:
    registration = make(api, clock)
    await registration.check()
    api.objects["Node", "here"] = {"metadata": {"name": "here", "uid": "k"}}
    with pytest.raises(NodeTaken, match="--name"):
        await registration.check()
    api.objects["Node", "here"] = {"metadata": {"labels": {PROCESSES_LABEL: "true"}}}
    await registration.check()


async def test_who_leaves_says_so(api: Api, clock: FakeClock) -> None:
    registration = make(api, clock)
    await api.create(NODE, registration.make_node())
    await registration.leave()
    ready = api.objects["Node", "here"]["status"]["conditions"][0]
    assert (ready["status"], ready["reason"]) == ("False", "AgentStopped")


async def test_on_one_machine_there_is_no_lease(api: Api, clock: FakeClock) -> None:
    async with running(make(api, clock, replace(SETTINGS, leased=False, port=0))):
        await clock.advance(20)
    assert (LEASE.kind, "here") not in api.objects
    node = api.objects["Node", "here"]
    assert [c["type"] for c in node["status"]["conditions"]] == ["Ready"]
    assert {"type": "Hostname", "address": "here"} in node["status"]["addresses"]


def test_taints_are_given_to_a_new_node(api: Api, clock: FakeClock) -> None:
    taint = {"key": PROCESSES_LABEL, "value": "true", "effect": "NoSchedule"}
    made = make(api, clock, replace(SETTINGS, taints=(taint,))).make_node()
    assert made["spec"] == {"taints": [taint]}
