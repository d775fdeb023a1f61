"""A node agent that runs nothing: pods become Ready when and if the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from kedge.api.scheme import NODE, POD
from kedge.cluster.base import Cluster, EventType, Object
from kedge.cluster.errors import AlreadyExists, NotFound
from kedge.lib.clock import SYSTEM_CLOCK, Clock, format_time
from kedge.reconcile import Controller, Informer, Key, Result

DEFAULT_ALLOCATABLE = {"cpu": "4", "memory": "8Gi", "pods": "110"}


class FakeKubelet:
    """One node whose pods start and stop at once, without processes.

    Args:
        allocatable: what the node offers.
        labels: the node's labels.
        starts: decides whether a pod becomes Ready; by default every one does.
        drain_seconds: how long a deleted pod takes to go.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        name: str = "local",
        allocatable: dict[str, str] | None = None,
        labels: dict[str, str] | None = None,
        starts: Callable[[Object], bool] = lambda pod: True,
        drain_seconds: float = 0.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.name = name
        self.starts = starts
        self._cluster = cluster
        self._allocatable = allocatable or DEFAULT_ALLOCATABLE
        self._labels = labels or {}
        self._drain_seconds = drain_seconds
        self._clock = clock
        self._addresses = 0
        self._leaving: dict[str, float] = {}
        self._pods = Informer(cluster, POD, clock=clock)
        self._controller = Controller("fake-kubelet", self._reconcile, clock=clock)
        self._pods.on_change(self._changed)

    async def run(self) -> None:
        await self._register()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pods.run())
            tasks.create_task(self._controller.run())

    def look_again(self) -> None:
        """Ask `starts` about every pod anew."""
        for pod in self._pods.list():
            self._changed(EventType.MODIFIED, pod, None)

    async def _register(self) -> None:
        labels = {"kubernetes.io/hostname": self.name, **self._labels}
        node: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": labels},
            "status": {
                "capacity": self._allocatable,
                "allocatable": self._allocatable,
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
        try:
            await self._cluster.create(NODE, node)
        except AlreadyExists:
            await self._cluster.replace(NODE, node)
        await self._cluster.replace_status(NODE, node)

    def _changed(self, type: EventType, pod: Object, old: Object | None) -> None:
        if (pod.get("spec") or {}).get("nodeName") == self.name:
            metadata = pod["metadata"]
            self._controller.enqueue(Key(metadata["namespace"], metadata["name"]))

    async def _reconcile(self, key: Key) -> Result | None:
        pod = self._pods.get(key.namespace, key.name)
        if pod is None:
            return None
        if "deletionTimestamp" in pod["metadata"]:
            return await self._stop(pod)
        await self._write_status(pod)
        return None

    async def _stop(self, pod: Object) -> Result | None:
        metadata = pod["metadata"]
        now = self._clock.monotonic()
        left = self._leaving.setdefault(metadata["uid"], now + self._drain_seconds) - now
        if left > 0:
            return Result(requeue_after=left)
        self._leaving.pop(metadata["uid"])
        try:
            await self._cluster.delete(
                POD, metadata["name"], metadata["namespace"], uid=metadata["uid"], grace_seconds=0
            )
        except NotFound:
            return None
        return None

    async def _write_status(self, pod: Object) -> None:
        status = pod.get("status") or {}
        wanted = "True" if self.starts(pod) else "False"
        if any((one["type"], one["status"]) == ("Ready", wanted)
               for one in status.get("conditions") or ()):  # fmt: skip
            return
        if not status.get("podIP"):
            self._addresses += 1
        address = f"127.1.{self._addresses // 250}.{self._addresses % 250 + 1}"
        others = [one for one in status.get("conditions") or () if one["type"] != "Ready"]
        now = format_time(self._clock.now())
        ready = {"type": "Ready", "status": wanted, "lastTransitionTime": now}
        metadata = pod["metadata"]
        patch = {
            "metadata": {"uid": metadata["uid"]},
            "status": {
                "phase": "Running",
                "podIP": status.get("podIP") or address,
                "conditions": [*others, ready],
            },
        }
        try:
            await self._cluster.patch(
                POD, metadata["name"], patch, namespace=metadata["namespace"], subresource="status"
            )
        except NotFound:
            return
