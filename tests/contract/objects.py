"""Objects that the contract is tried with, and how to wait for what becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from kedge.api.scheme import Kind
from kedge.cluster.base import Cluster, EventType, Object, WatchEvent
from kedge.cluster.errors import NotFound

SECONDS = 20.0


def config_map(
    namespace: str, name: str = "settings", data: dict[str, str] | None = None, **metadata: Any
) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": namespace, "name": name, **metadata},
        "data": data if data is not None else {"color": "blue"},
    }


def pod(namespace: str, name: str = "lonely", **metadata: Any) -> Object:
    """A pod that nothing schedules."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, **metadata},
        "spec": {
            "schedulerName": "nobody",
            "automountServiceAccountToken": False,
            "containers": [{"name": "main", "image": "image:1"}],
        },
    }


def deployment(namespace: str, name: str = "web", replicas: int | None = 0) -> Object:
    labels = {"app": name}
    spec: dict[str, Any] = {
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {
                "containers": [
                    {
                        "name": "main",
                        "image": "image:1",
                        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                    }
                ]
            },
        },
    }
    if replicas is not None:
        spec["replicas"] = replicas
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": namespace, "name": name},
        "spec": spec,
    }


def owned_by(owner: Object, obj: Object, **more: Any) -> Object:
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        **more,
    }
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": [reference]}}


async def exists(cluster: Cluster, kind: Kind, namespace: str | None, name: str) -> bool:
    try:
        await cluster.get(kind, name, namespace)
    except NotFound:
        return False
    return True


async def take(events: AsyncIterator[WatchEvent], count: int) -> list[WatchEvent]:
    """The next events of a watch, apart from bookmarks; then the watch is over."""
    found: list[WatchEvent] = []
    async with asyncio.timeout(SECONDS), aclosing(cast(Any, events)):
        while len(found) < count:
            event = await anext(events)
            if event.type is not EventType.BOOKMARK:
                found.append(event)
    return found


async def until_gone(cluster: Cluster, kind: Kind, namespace: str | None, name: str) -> None:
    async with asyncio.timeout(SECONDS):
        listed = await cluster.list(kind, namespace, fields=f"metadata.name={name}")
        if not listed.items:
            return
        events = cluster.watch(
            kind,
            namespace,
            fields=f"metadata.name={name}",
            resource_version=listed.resource_version,
        )
        async with aclosing(cast(Any, events)):
            async for event in events:
                if event.type is EventType.DELETED:
                    return
