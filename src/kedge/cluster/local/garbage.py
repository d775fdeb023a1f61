"""Deletes what has lost its owner, and lets owners go when their dependents have gone.

As Kubernetes does it: an object whose owners are all gone is deleted; an owner deleted in the
foreground waits for the dependents that block it; an orphaning owner first lets its dependents go.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from kedge.api.scheme import KINDS, Kind, kind_of
from kedge.cluster.base import EventType, Object
from kedge.cluster.errors import ApiError, Conflict, Gone, NotFound
from kedge.cluster.local.deletion import FOREGROUND, ORPHAN
from kedge.cluster.local.registry import Registry
from kedge.cluster.local.requests import DeleteOptions, Propagation, WriteOptions
from kedge.cluster.local.store import Change

log = logging.getLogger(__name__)

_OPTIONS = WriteOptions(field_manager="kedge-garbage-collector")


class GarbageCollector:
    """Follows every change in the store; `run` until cancelled."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._store = registry.store

    async def run(self) -> None:
        while True:
            changes = self._store.follow(None)
            try:
                await self._sweep()
                while True:
                    for change in await changes.wait():
                        await self._guarded(change)
            except Gone:
                log.info("fell behind: looking at every object again")
            finally:
                changes.close()

    async def _sweep(self) -> None:
        """What may have been left when the process last ended."""
        for uid in self._store.owner_uids():
            if not self._store.has_uid(uid):
                await self._owner_is_gone(uid)
        for kind in KINDS:
            async for page in self._store.snapshot(kind).pages():
                for record in page:
                    if b'"deletionTimestamp"' in record.body:
                        await self._settle(kind, record.object)

    async def _guarded(self, change: Change) -> None:
        try:
            await self._take(change)
        except ApiError as error:
            log.warning("%s %s/%s: %s", change.kind, change.namespace, change.name, error)

    async def _take(self, change: Change) -> None:
        owned = b'"ownerReferences"' in change.body
        if change.type is EventType.DELETED:
            obj = change.object
            await self._owner_is_gone(obj["metadata"]["uid"])
            if owned:
                await self._settle_owners(obj)
            return
        if change.type is EventType.ADDED and owned:
            obj = change.object
            owners = _owners(obj)
            if owners and not any(self._store.has_uid(owner["uid"]) for owner in owners):
                self._collect(obj)
        if b'"deletionTimestamp"' in change.body:
            await self._settle(change.kind, change.object)

    async def _owner_is_gone(self, uid: str) -> None:
        for dependent in self._store.dependents(uid):
            owners = _owners(dependent)
            if any(self._store.has_uid(owner["uid"]) for owner in owners):
                left = [owner for owner in owners if self._store.has_uid(owner["uid"])]
                self._disown(dependent, left)
            else:
                self._collect(dependent)
            await asyncio.sleep(0)

    async def _settle_owners(self, dependent: Object) -> None:
        """An owner that waits for its dependents may have waited for this one."""
        for owner in _owners(dependent):
            kind = kind_of(owner)
            if kind is None:
                continue
            namespace = dependent["metadata"].get("namespace", "") if kind.namespaced else ""
            record = self._store.get(kind, namespace, owner.get("name", ""))
            if record is not None and record.uid == owner["uid"]:
                await self._settle(kind, record.object)

    async def _settle(self, kind: Kind, owner: Object) -> None:
        """Do what the finalizers of a deleted owner ask of the collector."""
        metadata = owner["metadata"]
        finalizers = metadata.get("finalizers") or ()
        if "deletionTimestamp" not in metadata:
            return
        if ORPHAN in finalizers:
            for dependent in self._store.dependents(metadata["uid"]):
                left = [one for one in _owners(dependent) if one["uid"] != metadata["uid"]]
                self._disown(dependent, left)
                await asyncio.sleep(0)
            self._drop_finalizer(kind, owner, ORPHAN)
        elif FOREGROUND in finalizers:
            await self._delete_dependents(metadata["uid"])
            if not any(map(_blocks(metadata["uid"]), self._store.dependents(metadata["uid"]))):
                self._drop_finalizer(kind, owner, FOREGROUND)

    async def _delete_dependents(self, uid: str) -> None:
        for dependent in self._store.dependents(uid):
            if "deletionTimestamp" in dependent["metadata"]:
                continue
            has_own = bool(self._store.dependents(dependent["metadata"]["uid"]))
            self._collect(dependent, "Foreground" if has_own else "Background")
            await asyncio.sleep(0)

    def _collect(self, obj: Object, propagation: Propagation = "Background") -> None:
        kind, metadata = kind_of(obj), obj["metadata"]
        finalizers = metadata.get("finalizers") or ()
        if kind is None or "deletionTimestamp" in metadata:
            return
        if ORPHAN in finalizers or FOREGROUND in finalizers:
            chosen: Propagation | None = None
        else:
            chosen = propagation
        options = DeleteOptions(propagation=chosen, uid=metadata["uid"])
        try:
            self._registry.delete(kind, metadata.get("namespace", ""), metadata["name"], options)
        except (NotFound, Conflict):
            pass  # Gone already, or another object of that name.
        except ApiError as error:
            log.warning("cannot delete %s %s: %s", kind, metadata["name"], error)

    def _disown(self, obj: Object, owners: list[dict[str, Any]]) -> None:
        metadata = {**obj["metadata"], "ownerReferences": owners}
        if not owners:
            del metadata["ownerReferences"]
        self._write({**obj, "metadata": metadata})

    def _drop_finalizer(self, kind: Kind, obj: Object, finalizer: str) -> None:
        metadata = obj["metadata"]
        record = self._store.get(kind, metadata.get("namespace", ""), metadata["name"])
        if record is None or record.uid != metadata["uid"]:
            return
        stored = record.object
        left = [one for one in stored["metadata"].get("finalizers") or () if one != finalizer]
        self._write({**stored, "metadata": {**stored["metadata"], "finalizers": left}})

    def _write(self, obj: Object) -> None:
        kind, metadata = kind_of(obj), obj["metadata"]
        if kind is None:
            return
        if not metadata.get("finalizers"):
            metadata.pop("finalizers", None)
        try:
            self._registry.replace(
                kind, metadata.get("namespace", ""), metadata["name"], obj, _OPTIONS
            )
        except (NotFound, Conflict):
            pass  # It changed meanwhile: the change itself brings us back.
        except ApiError as error:
            log.warning("cannot update %s %s: %s", kind, metadata["name"], error)


def _owners(obj: Object) -> list[dict[str, Any]]:
    return [
        owner
        for owner in obj["metadata"].get("ownerReferences") or ()
        if isinstance(owner, dict) and owner.get("uid")
    ]


def _blocks(uid: str) -> Any:
    def blocks(dependent: Object) -> bool:
        return any(
            owner["uid"] == uid and owner.get("blockOwnerDeletion") for owner in _owners(dependent)
        )

    return blocks
