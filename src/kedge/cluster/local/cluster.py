"""The `Cluster` contract in process, over the registry and the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from kedge.api.scheme import EVENT, POD, Kind
from kedge.cluster.base import (
    FIELD_MANAGER,
    EventType,
    Object,
    ObjectList,
    PatchType,
    WatchEvent,
)
from kedge.cluster.errors import BadRequest
from kedge.cluster.local.admission import Admission
from kedge.cluster.local.expiry import EventExpiry
from kedge.cluster.local.garbage import GarbageCollector
from kedge.cluster.local.namespaces import NamespaceKeeper, create_initial
from kedge.cluster.local.podlogs import LogOptions, PodLogs
from kedge.cluster.local.registry import Registry
from kedge.cluster.local.requests import DeleteOptions, Propagation, WriteOptions
from kedge.cluster.local.selection import Selection
from kedge.cluster.local.store import Store
from kedge.cluster.slim import slim_down
from kedge.lib.clock import SYSTEM_CLOCK, Clock

_PROPAGATIONS: dict[str, Propagation] = {
    "Background": "Background",
    "Foreground": "Foreground",
    "Orphan": "Orphan",
}


class LocalCluster:
    """A `kedge.cluster.base.Cluster` on this machine.

    Args:
        store: where the objects are.
        admission: asked before every create and update.
        slim: leave out who manages which field, for those who keep caches; `get` shows it.
        pods_dir: the node agent's folder of pods, where their logs are.

    Attributes:
        registry: the way of every write; the HTTP façade shares it.
        pod_logs: the way to logs; the façade shares it.
    """

    def __init__(
        self,
        store: Store,
        admission: Admission,
        *,
        slim: bool = False,
        pods_dir: Path | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._slim = slim
        self.registry = Registry(store, admission, clock=clock)
        self.pod_logs = PodLogs(pods_dir, clock=clock)
        self._store = store
        self._clock = clock
        create_initial(self.registry)

    async def run(self) -> None:
        """What goes on behind the objects: garbage, namespaces, old events, checkpoints."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._store.run())
            tasks.create_task(GarbageCollector(self.registry).run())
            tasks.create_task(NamespaceKeeper(self.registry).run())
            tasks.create_task(EventExpiry(self.registry, clock=self._clock).run())

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        return self.registry.read(kind, _namespace(kind, namespace), name).object

    async def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
    ) -> ObjectList:
        selection = Selection.parse(kind, namespace, labels, fields)
        about = selection.fields.value_of("involvedObject.uid") if kind == EVENT else None
        snapshot = self._store.snapshot(kind, selection.namespace, about=about)
        items = []
        async for page in snapshot.pages():
            items += [self._shown(record.object) for record in page if selection.has(record)]
        return ObjectList(items, str(snapshot.version))

    def _shown(self, obj: Object) -> Object:
        if self._slim:
            slim_down(obj)
        return obj

    async def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
        resource_version: str | None = None,
    ) -> AsyncIterator[WatchEvent]:
        selection = Selection.parse(kind, namespace, labels, fields)
        since = parse_version(resource_version)
        changes = self._store.follow(kind, since)
        try:
            if since is None:
                async for page in self._store.snapshot(kind, selection.namespace).pages():
                    for record in page:
                        if selection.has(record):
                            yield WatchEvent(EventType.ADDED, self._shown(record.object))
            while True:
                for change in await changes.wait():
                    event = selection.event(change)
                    if event is not None:
                        yield WatchEvent(event, change.slim if self._slim else change.object)
        finally:
            changes.close()

    async def create(self, kind: Kind, obj: Object) -> Object:
        return self._shown(self.registry.create(kind, _namespace_of(kind, obj), obj).object)

    async def replace(self, kind: Kind, obj: Object) -> Object:
        name = _name_of(obj)
        return self._shown(self.registry.replace(kind, _namespace_of(kind, obj), name, obj).object)

    async def apply(
        self, kind: Kind, obj: Object, *, field_manager: str = FIELD_MANAGER, force: bool = True
    ) -> Object:
        options = WriteOptions(field_manager=field_manager)
        written = self.registry.patch(
            kind, _namespace_of(kind, obj), _name_of(obj), obj, PatchType.APPLY, options,
            force=force,
        )  # fmt: skip
        return self._shown(written.object)

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
        written = self.registry.patch(
            kind, _namespace(kind, namespace), name, patch, type, subresource=subresource or "",
            force=True,
        )  # fmt: skip
        return self._shown(written.object)

    async def replace_status(self, kind: Kind, obj: Object) -> Object:
        namespace, name = _namespace_of(kind, obj), _name_of(obj)
        written = self.registry.replace(kind, namespace, name, obj, subresource="status")
        return self._shown(written.object)

    async def scale(
        self, kind: Kind, name: str, namespace: str, replicas: int, *, field_manager: str
    ) -> None:
        options = WriteOptions(field_manager=field_manager)
        self.registry.scale(kind, namespace, name, {"spec": {"replicas": replicas}}, options)

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
        if propagation not in _PROPAGATIONS:
            raise BadRequest(
                f"propagation {propagation!r} is unknown. Fix: Use one of {list(_PROPAGATIONS)}."
            )
        options = DeleteOptions(
            propagation=_PROPAGATIONS[propagation], uid=uid, grace_seconds=grace_seconds
        )
        self.registry.delete(kind, _namespace(kind, namespace), name, options)

    async def logs(
        self,
        name: str,
        namespace: str,
        *,
        container: str | None = None,
        follow: bool = False,
        previous: bool = False,
        tail: int | None = None,
    ) -> AsyncIterator[bytes]:
        options = LogOptions(container=container, follow=follow, previous=previous, tail=tail)
        async for piece in self.read_log(name, namespace, options):
            yield piece

    def read_log(self, name: str, namespace: str, options: LogOptions) -> AsyncIterator[bytes]:
        """A pod's log; what cannot be read is refused before the first piece."""
        pod = self.registry.read(POD, namespace, name).object

        def read_pod() -> Object | None:
            record = self._store.get(POD, namespace, name)
            return record.object if record is not None else None

        return self.pod_logs.open(pod, read_pod, options)


def parse_version(text: str | None) -> int | None:
    """A resourceVersion as a number; None when there is none or it is 0, that is, any."""
    if text in (None, "", "0"):
        return None
    if text is None or not text.isdecimal():
        raise BadRequest(f"resourceVersion: Invalid value: {text!r}")
    return int(text)


def _namespace(kind: Kind, namespace: str | None) -> str:
    if not kind.namespaced:
        return ""
    if not namespace:
        raise BadRequest(f"{kind} lives in a namespace. Fix: Name one.")
    return namespace


def _metadata(obj: Object) -> dict[str, Any]:
    metadata = obj.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _namespace_of(kind: Kind, obj: Object) -> str:
    return _namespace(kind, _metadata(obj).get("namespace"))


def _name_of(obj: Object) -> str:
    name = _metadata(obj).get("name")
    if not name:
        raise BadRequest("the object has no metadata.name. Fix: Give it one.")
    return str(name)
