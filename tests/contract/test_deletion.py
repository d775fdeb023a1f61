"""Deletion: preconditions, finalizers, owners, grace, namespaces."""

from __future__ import annotations

import pytest
from tests.contract.conftest import Backend
from tests.contract.objects import config_map, exists, owned_by, pod, take, until_gone

from kedge.api.scheme import CONFIG_MAP, NAMESPACE, POD
from kedge.cluster.base import Cluster
from kedge.cluster.errors import Conflict, Forbidden, Invalid

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOLD = "kedge.dev/hold"


async def test_a_deleted_object_is_gone(cluster: Cluster, namespace: str) -> None:
    first = await cluster.create(CONFIG_MAP, config_map(namespace))
    await cluster.delete(CONFIG_MAP, "settings", namespace)
    assert not await exists(cluster, CONFIG_MAP, namespace, "settings")
    second = await cluster.create(CONFIG_MAP, config_map(namespace))
    assert second["metadata"]["uid"] != first["metadata"]["uid"]


async def test_only_the_very_object_is_deleted(cluster: Cluster, namespace: str) -> None:
    created = await cluster.create(CONFIG_MAP, config_map(namespace))
    with pytest.raises(Conflict, match="UID"):
        await cluster.delete(CONFIG_MAP, "settings", namespace, uid="another")
    await cluster.delete(CONFIG_MAP, "settings", namespace, uid=created["metadata"]["uid"])
    assert not await exists(cluster, CONFIG_MAP, namespace, "settings")


async def test_a_finalizer_holds_an_object(cluster: Cluster, namespace: str) -> None:
    await cluster.create(CONFIG_MAP, config_map(namespace, finalizers=[HOLD]))
    version = (await cluster.list(CONFIG_MAP, namespace)).resource_version
    await cluster.delete(CONFIG_MAP, "settings", namespace)
    held = await cluster.get(CONFIG_MAP, "settings", namespace)
    assert held["metadata"]["deletionTimestamp"]
    await cluster.delete(CONFIG_MAP, "settings", namespace)
    more = {**held, "metadata": {**held["metadata"], "finalizers": [HOLD, "kedge.dev/more"]}}
    with pytest.raises(Invalid, match="no new finalizers can be added"):
        await cluster.replace(CONFIG_MAP, more)
    changed = await cluster.patch(
        CONFIG_MAP, "settings", {"data": {"color": "red"}}, namespace=namespace
    )
    free = {**changed, "metadata": {**changed["metadata"], "finalizers": []}}
    await cluster.replace(CONFIG_MAP, free)
    assert not await exists(cluster, CONFIG_MAP, namespace, "settings")
    found = await take(
        cluster.watch(
            CONFIG_MAP,
            namespace,
            fields="metadata.name=settings",
            resource_version=version,
        ),
        3,
    )
    assert [event.type.value for event in found] == ["MODIFIED", "MODIFIED", "DELETED"]


async def test_a_pod_that_never_ran_goes_at_once(cluster: Cluster, namespace: str) -> None:
    await cluster.create(POD, pod(namespace))
    await cluster.delete(POD, "lonely", namespace)
    assert not await exists(cluster, POD, namespace, "lonely")


async def test_a_running_pod_has_its_grace(backend: Backend, namespace: str) -> None:
    if not backend.is_local:
        pytest.skip("needs a node that nobody looks after")
    cluster = backend.cluster
    await cluster.create(POD, pod(namespace))
    await cluster.patch(POD, "lonely", {"spec": {"nodeName": "n"}}, namespace=namespace)
    await cluster.delete(POD, "lonely", namespace, grace_seconds=20)
    leaving = await cluster.get(POD, "lonely", namespace)
    assert leaving["metadata"]["deletionGracePeriodSeconds"] == 20
    assert leaving["metadata"]["deletionTimestamp"]
    await cluster.delete(POD, "lonely", namespace, grace_seconds=5)
    leaving = await cluster.get(POD, "lonely", namespace)
    assert leaving["metadata"]["deletionGracePeriodSeconds"] == 5
    await cluster.delete(POD, "lonely", namespace, grace_seconds=0)
    assert not await exists(cluster, POD, namespace, "lonely")


@pytest.mark.usefixtures("garbage_collected")
async def test_dependents_go_with_their_owner(cluster: Cluster, namespace: str) -> None:
    owner = await cluster.create(CONFIG_MAP, config_map(namespace, "owner"))
    child = await cluster.create(CONFIG_MAP, owned_by(owner, config_map(namespace, "child")))
    await cluster.create(CONFIG_MAP, owned_by(child, config_map(namespace, "grandchild")))
    await cluster.create(CONFIG_MAP, config_map(namespace, "stranger"))
    await cluster.delete(CONFIG_MAP, "owner", namespace)
    await until_gone(cluster, CONFIG_MAP, namespace, "child")
    await until_gone(cluster, CONFIG_MAP, namespace, "grandchild")
    assert await exists(cluster, CONFIG_MAP, namespace, "stranger")


@pytest.mark.usefixtures("garbage_collected")
async def test_a_dependent_of_two_stays_with_the_one_that_is_left(
    cluster: Cluster, namespace: str
) -> None:
    owners = [
        await cluster.create(CONFIG_MAP, config_map(namespace, name)) for name in ("one", "two")
    ]
    child = owned_by(owners[0], config_map(namespace, "child"))
    second = owned_by(owners[1], child)["metadata"]["ownerReferences"]
    child["metadata"]["ownerReferences"] += second
    await cluster.create(CONFIG_MAP, child)
    await cluster.create(CONFIG_MAP, owned_by(owners[0], config_map(namespace, "witness")))
    await cluster.delete(CONFIG_MAP, "one", namespace)
    await until_gone(cluster, CONFIG_MAP, namespace, "witness")
    assert await exists(cluster, CONFIG_MAP, namespace, "child")
    await cluster.delete(CONFIG_MAP, "two", namespace)
    await until_gone(cluster, CONFIG_MAP, namespace, "child")


@pytest.mark.usefixtures("garbage_collected")
async def test_an_owner_deleted_in_the_foreground_goes_last(
    cluster: Cluster, namespace: str
) -> None:
    owner = await cluster.create(CONFIG_MAP, config_map(namespace, "owner"))
    child = owned_by(
        owner, config_map(namespace, "child", finalizers=[HOLD]), blockOwnerDeletion=True
    )
    await cluster.create(CONFIG_MAP, child)
    version = (await cluster.list(CONFIG_MAP, namespace)).resource_version
    await cluster.delete(CONFIG_MAP, "owner", namespace, propagation="Foreground")
    waiting = await cluster.get(CONFIG_MAP, "owner", namespace)
    assert "foregroundDeletion" in waiting["metadata"]["finalizers"]
    (marked,) = await take(
        cluster.watch(
            CONFIG_MAP, namespace, fields="metadata.name=child", resource_version=version
        ),
        1,
    )
    assert marked.object["metadata"]["deletionTimestamp"]
    assert await exists(cluster, CONFIG_MAP, namespace, "owner")
    await cluster.patch(
        CONFIG_MAP, "child", {"metadata": {"finalizers": None}}, namespace=namespace
    )
    await until_gone(cluster, CONFIG_MAP, namespace, "owner")


@pytest.mark.usefixtures("garbage_collected")
async def test_orphans_stay_and_forget_their_owner(cluster: Cluster, namespace: str) -> None:
    owner = await cluster.create(CONFIG_MAP, config_map(namespace, "owner"))
    await cluster.create(CONFIG_MAP, owned_by(owner, config_map(namespace, "child")))
    await cluster.delete(CONFIG_MAP, "owner", namespace, propagation="Orphan")
    await until_gone(cluster, CONFIG_MAP, namespace, "owner")
    child = await cluster.get(CONFIG_MAP, "child", namespace)
    assert not child["metadata"].get("ownerReferences")
    assert "deletionTimestamp" not in child["metadata"]


@pytest.mark.usefixtures("garbage_collected")
async def test_a_dependent_of_nobody_is_collected(cluster: Cluster, namespace: str) -> None:
    owner = await cluster.create(CONFIG_MAP, config_map(namespace, "owner"))
    await cluster.delete(CONFIG_MAP, "owner", namespace)
    await cluster.create(CONFIG_MAP, owned_by(owner, config_map(namespace, "late")))
    await until_gone(cluster, CONFIG_MAP, namespace, "late")


@pytest.mark.usefixtures("garbage_collected")
async def test_a_namespace_takes_everything_with_it(cluster: Cluster, namespace: str) -> None:
    inner = f"{namespace}-inner"
    await cluster.create(
        NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": inner}}
    )
    await cluster.create(CONFIG_MAP, config_map(inner, finalizers=[HOLD]))
    await cluster.create(POD, pod(inner))
    await cluster.delete(NAMESPACE, inner)
    leaving = await cluster.get(NAMESPACE, inner)
    assert leaving["status"]["phase"] == "Terminating"
    with pytest.raises(Forbidden, match="being terminated"):
        await cluster.create(CONFIG_MAP, config_map(inner, "late"))
    await until_gone(cluster, POD, inner, "lonely")
    await cluster.patch(CONFIG_MAP, "settings", {"metadata": {"finalizers": None}}, namespace=inner)
    await until_gone(cluster, NAMESPACE, None, inner)
