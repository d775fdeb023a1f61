"""A cluster of which only one namespace is seen.

For a process that may look into that namespace alone: whoever asks for all namespaces is given
this one. What belongs to no namespace, and what is asked for by its namespace, is as it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from kedge.api.scheme import Kind
from kedge.cluster.base import FIELD_MANAGER, Cluster, Object, ObjectList, PatchType, WatchEvent


class NarrowedCluster:
    """`cluster`, where a list or watch over all namespaces is one of `namespace`."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace

    def _narrow(self, kind: Kind, namespace: str | None) -> str | None:
        return namespace or (self._namespace if kind.namespaced else None)

    async def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
    ) -> ObjectList:
        return await self._cluster.list(
            kind, self._narrow(kind, namespace), labels=labels, fields=fields
        )

    def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
        resource_version: str | None = None,
    ) -> AsyncIterator[WatchEvent]:
        return self._cluster.watch(
            kind,
            self._narrow(kind, namespace),
            labels=labels,
            fields=fields,
            resource_version=resource_version,
        )

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        return await self._cluster.get(kind, name, namespace)

    async def create(self, kind: Kind, obj: Object) -> Object:
        return await self._cluster.create(kind, obj)

    async def replace(self, kind: Kind, obj: Object) -> Object:
        return await self._cluster.replace(kind, obj)

    async def apply(
        self, kind: Kind, obj: Object, *, field_manager: str = FIELD_MANAGER, force: bool = True
    ) -> Object:
        return await self._cluster.apply(kind, obj, field_manager=field_manager, force=force)

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Any,
        *,
        namespace: str | None = None,
        type: PatchType = PatchType.MERGE,
        subresource: str | None = None,
    ) -> Object:
        return await self._cluster.patch(
            kind, name, patch, namespace=namespace, type=type, subresource=subresource
        )

    async def replace_status(self, kind: Kind, obj: Object) -> Object:
        return await self._cluster.replace_status(kind, obj)

    async def scale(
        self, kind: Kind, name: str, namespace: str, replicas: int, *, field_manager: str
    ) -> None:
        await self._cluster.scale(kind, name, namespace, replicas, field_manager=field_manager)

    async def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str | None = None,
        *,
        propagation: str = "Background",
        uid: str | None = None,
        grace_seconds: int | None = None,
    ) -> None:
        await self._cluster.delete(
            kind, name, namespace, propagation=propagation, uid=uid, grace_seconds=grace_seconds
        )

    def logs(
        self,
        name: str,
        namespace: str,
        *,
        container: str | None = None,
        follow: bool = False,
        previous: bool = False,
        tail: int | None = None,
    ) -> AsyncIterator[bytes]:
        return self._cluster.logs(
            name, namespace, container=container, follow=follow, previous=previous, tail=tail
        )
