"""Namespaces: those that are always there, and the end of one that was deleted."""

from __future__ import annotations

import asyncio
import logging

from kedge.api.scheme import NAMESPACE, SERVICE_ACCOUNT, kind_of
from kedge.cluster.base import EventType, Object
from kedge.cluster.errors import AlreadyExists, ApiError, Gone
from kedge.cluster.local.registry import LASTING_NAMESPACES, Registry
from kedge.cluster.local.requests import WriteOptions
from kedge.cluster.local.store import Record

log = logging.getLogger(__name__)

_OPTIONS = WriteOptions(field_manager="kedge-namespaces")


def create_initial(registry: Registry) -> None:
    """Make the namespaces that every cluster has, each with its `default` ServiceAccount."""
    for name in LASTING_NAMESPACES:
        if registry.store.get(NAMESPACE, "", name) is None:
            registry.create(NAMESPACE, "", {"metadata": {"name": name}}, _OPTIONS)
        create_default_account(registry, name)


def create_default_account(registry: Registry, namespace: str) -> None:
    if registry.store.get(SERVICE_ACCOUNT, namespace, "default") is None:
        try:
            registry.create(SERVICE_ACCOUNT, namespace, {"metadata": {"name": "default"}}, _OPTIONS)
        except AlreadyExists:
            return


class NamespaceKeeper:
    """Gives new namespaces their ServiceAccount and empties deleted ones; `run` until cancelled."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._store = registry.store

    async def run(self) -> None:
        while True:
            changes = self._store.follow(None)
            try:
                for stored in self._store.snapshot(NAMESPACE).records():
                    await self._keep(stored)
                while True:
                    for change in await changes.wait():
                        name = change.name if change.kind is NAMESPACE else change.namespace
                        if change.kind is NAMESPACE or change.type is EventType.DELETED:
                            record = self._store.get(NAMESPACE, "", name)
                            if record is not None:
                                await self._keep(record)
            except Gone:
                log.info("fell behind: looking at every namespace again")
            finally:
                changes.close()

    async def _keep(self, record: Record) -> None:
        try:
            if record.fields.get("status.phase") == "Terminating":
                await self._empty(record.name)
            else:
                create_default_account(self._registry, record.name)
        except ApiError as error:
            log.warning("namespace %s: %s", record.name, error)

    async def _empty(self, name: str) -> None:
        """Ask everything inside to go; let the namespace go when all has."""
        inside = self._store.in_namespace(name)
        while fresh := [obj for obj in inside if "deletionTimestamp" not in obj["metadata"]]:
            for obj in fresh:
                self._delete(obj)
                await asyncio.sleep(0)
            inside = self._store.in_namespace(name)
        record = self._store.get(NAMESPACE, "", name)
        if inside or record is None:
            return
        namespace = record.object
        namespace["spec"] = {**(namespace.get("spec") or {}), "finalizers": []}
        self._registry.replace(NAMESPACE, "", name, namespace, _OPTIONS, subresource="finalize")

    def _delete(self, obj: Object) -> None:
        kind, metadata = kind_of(obj), obj["metadata"]
        if kind is not None:
            self._registry.delete(kind, metadata["namespace"], metadata["name"])
