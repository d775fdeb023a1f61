"""One cache per kind, shared by every controller of a process."""

from __future__ import annotations

import asyncio

from kedge.api.scheme import Kind
from kedge.cluster.base import Cluster
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.reconcile.informer import Informer


class Informers:
    """Makes informers over all namespaces and runs them together."""

    def __init__(self, cluster: Cluster, clock: Clock = SYSTEM_CLOCK) -> None:
        self._cluster = cluster
        self._clock = clock
        self._informers: dict[Kind, Informer] = {}
        self._tasks: asyncio.TaskGroup | None = None

    def of(self, kind: Kind) -> Informer:
        """The informer of a kind; asked for while running, it starts at once."""
        informer = self._informers.get(kind)
        if informer is None:
            informer = Informer(self._cluster, kind, clock=self._clock)
            self._informers[kind] = informer
            if self._tasks is not None:
                self._start(self._tasks, informer)
        return informer

    async def synced(self) -> None:
        """Wait until every informer asked for so far has listed once."""
        for informer in list(self._informers.values()):
            await informer.synced.wait()

    async def run(self) -> None:
        """Follow the server until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for informer in self._informers.values():
                self._start(tasks, informer)
            await asyncio.Event().wait()

    def _start(self, tasks: asyncio.TaskGroup, informer: Informer) -> None:
        tasks.create_task(informer.run(), name=f"informer:{informer.kind}")
