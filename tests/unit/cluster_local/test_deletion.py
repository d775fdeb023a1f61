"""Deleting: grace, finalizers, owners, namespaces, old events."""

from __future__ import annotations

import pytest
from tests.unit.cluster_local.conftest import running
from tests.unit.cluster_local.local_objects import (
    make_config_map,
    make_deployment,
    make_pod,
    owned_by,
)

from kedge.api.scheme import (
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    NAMESPACE,
    POD,
    REPLICA_SET,
    SERVICE_ACCOUNT,
    Kind,
)
from kedge.cluster.base import Object, PatchType
from kedge.cluster.errors import Invalid, NotFound
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.registry import Registry
from kedge.cluster.local.requests import DeleteOptions, Propagation, WriteOptions
from kedge.testing.clock import FakeClock


def is_there(registry: Registry, kind: Kind, name: str, namespace: str = "default") -> bool:
    return registry.store.get(kind, namespace, name) is not None


def make_replica_set(name: str, owner: Object) -> Object:
    made = {**make_deployment(name), "kind": "ReplicaSet"}
    return owned_by(made, owner)


def test_a_running_pod_gets_time_to_end(registry: Registry) -> None:
    registry.create(POD, "default", make_pod(nodeName="n"))
    deleted = registry.delete(POD, "default", "p")
    assert not deleted.gone
    assert deleted.object["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:30Z"
    assert deleted.object["metadata"]["deletionGracePeriodSeconds"] == 30
    registry.delete(POD, "default", "p", DeleteOptions(grace_seconds=5))
    shorter = registry.read(POD, "default", "p").object["metadata"]
    assert shorter["deletionGracePeriodSeconds"] == 5
    registry.delete(POD, "default", "p", DeleteOptions(grace_seconds=60))
    assert registry.read(POD, "default", "p").object["metadata"] == shorter
    assert registry.delete(POD, "default", "p", DeleteOptions(grace_seconds=0)).gone


def test_a_pod_that_nothing_runs_goes_at_once(registry: Registry) -> None:
    registry.create(POD, "default", make_pod())
    assert registry.delete(POD, "default", "p").gone
    registry.create(POD, "default", make_pod("q", nodeName="n"))
    ended = {"status": {"phase": "Succeeded"}}
    registry.patch(POD, "default", "q", ended, PatchType.MERGE, subresource="status")
    assert registry.delete(POD, "default", "q").gone


def test_finalizers_keep_an_object(registry: Registry) -> None:
    held = make_config_map()
    held["metadata"]["finalizers"] = ["example.com/hold"]
    registry.create(CONFIG_MAP, "default", held)
    assert not registry.delete(CONFIG_MAP, "default", "a").gone
    with pytest.raises(Invalid, match="no new finalizers"):
        registry.patch(
            CONFIG_MAP, "default", "a", {"metadata": {"finalizers": ["example.com/new"]}},
            PatchType.MERGE,
        )  # fmt: skip
    registry.patch(CONFIG_MAP, "default", "a", {"metadata": {"finalizers": None}}, PatchType.MERGE)
    assert not is_there(registry, CONFIG_MAP, "a")


async def build(cluster: LocalCluster) -> Registry:
    """A Deployment with a ReplicaSet with a pod."""
    registry = cluster.registry
    owner = registry.create(DEPLOYMENT, "default", make_deployment()).object
    middle = registry.create(REPLICA_SET, "default", make_replica_set("web-1", owner)).object
    registry.create(POD, "default", owned_by(make_pod(), middle))
    return registry


@pytest.mark.parametrize("propagation", ["Background", "Foreground", None])
async def test_dependents_go_with_their_owner(
    cluster: LocalCluster, clock: FakeClock, propagation: Propagation | None
) -> None:
    async with running(cluster.run):
        registry = await build(cluster)
        registry.delete(DEPLOYMENT, "default", "web", DeleteOptions(propagation=propagation))
        await clock.settle()
    assert not is_there(registry, DEPLOYMENT, "web")
    assert not is_there(registry, REPLICA_SET, "web-1")
    assert not is_there(registry, POD, "p")


async def test_in_the_foreground_the_owner_waits_for_what_blocks_it(
    cluster: LocalCluster, clock: FakeClock
) -> None:
    async with running(cluster.run):
        registry = await build(cluster)
        bound = {"spec": {"nodeName": "n"}}
        registry.patch(POD, "default", "p", bound, PatchType.MERGE)
        registry.delete(DEPLOYMENT, "default", "web", DeleteOptions(propagation="Foreground"))
        await clock.settle()
        assert is_there(registry, DEPLOYMENT, "web")
        assert is_there(registry, REPLICA_SET, "web-1")
        registry.delete(POD, "default", "p", DeleteOptions(grace_seconds=0))
        await clock.settle()
    assert not is_there(registry, REPLICA_SET, "web-1")
    assert not is_there(registry, DEPLOYMENT, "web")


async def test_orphans_are_let_go(cluster: LocalCluster, clock: FakeClock) -> None:
    async with running(cluster.run):
        registry = await build(cluster)
        registry.delete(DEPLOYMENT, "default", "web", DeleteOptions(propagation="Orphan"))
        await clock.settle()
    assert not is_there(registry, DEPLOYMENT, "web")
    orphan = registry.read(REPLICA_SET, "default", "web-1").object
    assert "ownerReferences" not in orphan["metadata"]
    assert is_there(registry, POD, "p")


async def test_one_of_two_owners_is_enough(cluster: LocalCluster, clock: FakeClock) -> None:
    registry = cluster.registry
    async with running(cluster.run):
        one = registry.create(CONFIG_MAP, "default", make_config_map("one")).object
        two = registry.create(CONFIG_MAP, "default", make_config_map("two")).object
        registry.create(CONFIG_MAP, "default", owned_by(owned_by(make_config_map("x"), one), two))
        registry.delete(CONFIG_MAP, "default", "one")
        await clock.settle()
        (left,) = registry.read(CONFIG_MAP, "default", "x").object["metadata"]["ownerReferences"]
        assert left["name"] == "two"
        registry.delete(CONFIG_MAP, "default", "two")
        await clock.settle()
    assert not is_there(registry, CONFIG_MAP, "x")


async def test_what_was_left_by_a_crash_is_collected(
    cluster: LocalCluster, clock: FakeClock
) -> None:
    registry = await build(cluster)
    registry.delete(DEPLOYMENT, "default", "web")  # And nobody collects: the process ended.
    assert is_there(registry, REPLICA_SET, "web-1")
    async with running(cluster.run):
        await clock.settle()
    assert not is_there(registry, REPLICA_SET, "web-1")
    assert not is_there(registry, POD, "p")


async def test_an_object_made_for_an_owner_already_gone_is_collected(
    cluster: LocalCluster, clock: FakeClock
) -> None:
    registry = cluster.registry
    async with running(cluster.run):
        owner = registry.create(CONFIG_MAP, "default", make_config_map("one")).object
        registry.delete(CONFIG_MAP, "default", "one")
        await clock.settle()
        registry.create(CONFIG_MAP, "default", owned_by(make_config_map("late"), owner))
        await clock.settle()
    assert not is_there(registry, CONFIG_MAP, "late")


async def test_a_namespace_takes_its_contents_along(
    cluster: LocalCluster, clock: FakeClock
) -> None:
    registry = cluster.registry
    async with running(cluster.run):
        registry.create(NAMESPACE, "", {"metadata": {"name": "n"}})
        await clock.settle()
        assert is_there(registry, SERVICE_ACCOUNT, "default", "n")
        held = {"metadata": {"name": "a", "finalizers": ["example.com/hold"]}}
        registry.create(CONFIG_MAP, "n", held)
        registry.create(CONFIG_MAP, "n", {"metadata": {"name": "b"}})
        registry.delete(NAMESPACE, "", "n")
        await clock.settle()
        assert not is_there(registry, CONFIG_MAP, "b", "n")
        namespace = registry.read(NAMESPACE, "", "n").object
        assert namespace["status"]["phase"] == "Terminating"
        free = {"metadata": {"finalizers": None}}
        registry.patch(CONFIG_MAP, "n", "a", free, PatchType.MERGE)
        await clock.settle()
    with pytest.raises(NotFound):
        registry.read(NAMESPACE, "", "n")


async def test_events_are_forgotten_after_an_hour(cluster: LocalCluster, clock: FakeClock) -> None:
    registry = cluster.registry
    about = {"involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}}
    for name, time in (("old", "2026-01-01T00:00:00Z"), ("new", "2026-01-01T00:30:00Z")):
        event = {"metadata": {"name": name}, "lastTimestamp": time, **about}
        registry.create(EVENT, "default", event, WriteOptions())
    async with running(cluster.run):
        await clock.advance(3700)
    assert not is_there(registry, EVENT, "old")
    assert is_there(registry, EVENT, "new")
