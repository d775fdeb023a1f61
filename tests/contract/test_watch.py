"""Watches: from now, from a version, through selectors, and from a version that is gone."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any, cast

import pytest
from tests.contract.conftest import HISTORY, Backend
from tests.contract.objects import SECONDS, config_map, pod, take

from kedge.api.scheme import CONFIG_MAP, POD
from kedge.cluster.base import Cluster, EventType, WatchEvent
from kedge.cluster.errors import Gone
from kedge.reconcile import Informer

pytestmark = pytest.mark.asyncio(loop_scope="session")

SELECTED = {"seen": "yes"}


def said(events: list[WatchEvent]) -> list[tuple[str, str]]:
    return [(event.type.value, event.object["metadata"]["name"]) for event in events]


async def test_a_watch_without_version_starts_with_what_is_there(
    cluster: Cluster, namespace: str
) -> None:
    await cluster.create(CONFIG_MAP, config_map(namespace, "a", labels=SELECTED))
    await cluster.create(CONFIG_MAP, config_map(namespace, "b", labels=SELECTED))
    events = cluster.watch(CONFIG_MAP, namespace, labels="seen=yes")
    found = await take(events, 2)
    assert sorted(said(found)) == [("ADDED", "a"), ("ADDED", "b")]
    assert found[0].object["apiVersion"] == "v1"
    assert found[0].object["kind"] == "ConfigMap"


async def test_a_watch_goes_on_from_a_list(cluster: Cluster, namespace: str) -> None:
    await cluster.create(CONFIG_MAP, config_map(namespace, "before", labels=SELECTED))
    version = (await cluster.list(CONFIG_MAP, namespace)).resource_version
    first = await cluster.create(CONFIG_MAP, config_map(namespace, "a", labels=SELECTED))
    await cluster.patch(CONFIG_MAP, "a", {"data": {"color": "red"}}, namespace=namespace)
    await cluster.delete(CONFIG_MAP, "a", namespace)
    found = await take(
        cluster.watch(CONFIG_MAP, namespace, labels="seen=yes", resource_version=version), 3
    )
    assert said(found) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    assert found[0].object == first
    assert found[2].object["data"] == {"color": "red"}
    versions = [int(event.object["metadata"]["resourceVersion"]) for event in found]
    assert versions == sorted(set(versions))
    again = await take(
        cluster.watch(CONFIG_MAP, namespace, labels="seen=yes", resource_version=str(versions[0])),
        2,
    )
    assert again == found[1:]


async def test_changes_arrive_while_watching(cluster: Cluster, namespace: str) -> None:
    version = (await cluster.list(CONFIG_MAP, namespace)).resource_version
    events = cluster.watch(CONFIG_MAP, namespace, labels="seen=yes", resource_version=version)
    async with asyncio.TaskGroup() as tasks:
        taking = tasks.create_task(take(events, 3))
        await asyncio.sleep(0)
        for name in ("a", "b", "c"):
            await cluster.create(CONFIG_MAP, config_map(namespace, name, labels=SELECTED))
    assert said(taking.result()) == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c")]


async def test_coming_into_and_leaving_a_selection(cluster: Cluster, namespace: str) -> None:
    await cluster.create(CONFIG_MAP, config_map(namespace, "a"))
    version = (await cluster.list(CONFIG_MAP, namespace)).resource_version

    async def label(value: str | None) -> None:
        patch = {"metadata": {"labels": {"seen": value}}}
        await cluster.patch(CONFIG_MAP, "a", patch, namespace=namespace)

    await label("no")
    await label("yes")
    await label(None)
    await cluster.patch(CONFIG_MAP, "a", {"data": {"color": "red"}}, namespace=namespace)
    await label("yes")
    await cluster.delete(CONFIG_MAP, "a", namespace)
    found = await take(
        cluster.watch(CONFIG_MAP, namespace, labels="seen=yes", resource_version=version), 4
    )
    assert [event.type.value for event in found] == ["ADDED", "DELETED", "ADDED", "DELETED"]


async def test_a_field_selector_follows_one_object(cluster: Cluster, namespace: str) -> None:
    version = (await cluster.list(POD, namespace)).resource_version
    await cluster.create(POD, pod(namespace, "other"))
    await cluster.create(POD, pod(namespace, "this"))
    await cluster.patch(
        POD, "this", {"status": {"phase": "Failed"}}, namespace=namespace, subresource="status"
    )
    by_name = cluster.watch(POD, namespace, fields="metadata.name=this", resource_version=version)
    assert said(await take(by_name, 2)) == [("ADDED", "this"), ("MODIFIED", "this")]
    by_phase = cluster.watch(
        POD, namespace, fields="status.phase=Pending", resource_version=version
    )
    assert said(await take(by_phase, 3)) == [
        ("ADDED", "other"),
        ("ADDED", "this"),
        ("DELETED", "this"),
    ]


async def test_other_namespaces_are_not_heard(cluster: Cluster, namespace: str) -> None:
    version = (await cluster.list(CONFIG_MAP, namespace)).resource_version
    await cluster.create(CONFIG_MAP, config_map("default", f"a-{namespace}", labels=SELECTED))
    await cluster.delete(CONFIG_MAP, f"a-{namespace}", "default")
    await cluster.create(CONFIG_MAP, config_map(namespace, "b", labels=SELECTED))
    found = await take(
        cluster.watch(CONFIG_MAP, namespace, labels="seen=yes", resource_version=version), 1
    )
    assert said(found) == [("ADDED", "b")]


async def test_a_version_that_is_gone_is_named_so(backend: Backend, namespace: str) -> None:
    if not backend.is_local:
        pytest.skip("a real API server forgets only after minutes")
    cluster = backend.cluster
    created = await cluster.create(CONFIG_MAP, config_map(namespace, "a"))
    for number in range(HISTORY + 2):
        await cluster.patch(CONFIG_MAP, "a", {"data": {"number": str(number)}}, namespace=namespace)
    events = cluster.watch(
        CONFIG_MAP, namespace, resource_version=created["metadata"]["resourceVersion"]
    )
    async with aclosing(cast(Any, events)):
        with pytest.raises(Gone, match="too old resource version"):
            await anext(events)


async def test_an_informer_follows(cluster: Cluster, namespace: str) -> None:
    await cluster.create(CONFIG_MAP, config_map(namespace, "a"))
    informer = Informer(cluster, CONFIG_MAP, namespace=namespace)
    seen = asyncio.Event()
    heard: list[tuple[EventType, str]] = []

    def hear(type: EventType, obj: dict[str, Any], old: dict[str, Any] | None) -> None:
        if obj["metadata"]["name"] in ("a", "b"):
            heard.append((type, obj["metadata"]["name"]))
        if type is EventType.DELETED:
            seen.set()

    informer.on_change(hear)
    running = asyncio.create_task(informer.run())
    async with asyncio.timeout(SECONDS):
        await informer.synced.wait()
        assert informer.get(namespace, "a") is not None
        informer.note_write(await cluster.create(CONFIG_MAP, config_map(namespace, "b")))
        assert informer.get(namespace, "b") is not None
        await cluster.delete(CONFIG_MAP, "a", namespace)
        await seen.wait()
    assert informer.get(namespace, "a") is None
    assert heard == [
        (EventType.ADDED, "a"),
        (EventType.ADDED, "b"),
        (EventType.DELETED, "a"),
    ]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
