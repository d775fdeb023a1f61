"""Adds up what the gateways count, and says what it came to by service."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kedge.api.scheme import DEPLOYMENT, SERVICE, Kind
from kedge.cluster.base import Cluster
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.reconcile import Informer
from kedge.telemetry.counts import Counts, make_counts
from kedge.telemetry.history import History, Source

log = logging.getLogger(__name__)

SERVICE_LABEL = "serving.kserve.io/inferenceservice"
COMPONENT_LABEL = "component"
RECENT_SECONDS = 60.0
_PRUNE_EVERY = 60
"""Minutes between two prunings."""

Counted = tuple[int, int, int, Sequence[int]]
"""Answered 2xx, 4xx, 5xx, and latencies by bucket."""


@dataclass(frozen=True)
class Pods:
    """Pods asked for and pods ready of one component."""

    desired: int = 0
    ready: int = 0


class Telemetry:
    """Everything that is known of requests.

    Args:
        history: where minutes are kept.
        services, deployments: caches that somebody else runs; of its own when None.
    """

    def __init__(
        self,
        cluster: Cluster,
        history: History,
        clock: Clock = SYSTEM_CLOCK,
        *,
        services: Informer | None = None,
        deployments: Informer | None = None,
    ) -> None:
        self._clock = clock
        self._history = history
        self._own: list[Informer] = []

        def own(kind: Kind) -> Informer:
            self._own.append(Informer(cluster, kind, labels=SERVICE_LABEL, clock=clock))
            return self._own[-1]

        self._services = services or own(SERVICE)
        self._deployments = deployments or own(DEPLOYMENT)
        self._minute: dict[Source, Counts] = {}
        self._minute_at = self._this_minute()
        self._recent: deque[tuple[float, float, Source, Counts]] = deque()
        self._minutes = 0
        self.totals: dict[Source, Counts] = {}

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for informer in self._own:
                tasks.create_task(informer.run())
            tasks.create_task(self._keep())

    def take(self, seconds: float, revisions: Mapping[str, Counted]) -> None:
        """What a gateway has counted within the last seconds, by `namespace/private service`."""
        now = self._clock.monotonic()
        for key, counted in revisions.items():
            source, counts = self._source(key), make_counts(*counted)
            for totals in (self._minute, self.totals):
                totals.setdefault(source, Counts()).add(counts)
            self._recent.append((now, seconds, source, counts))
        while self._recent and self._recent[0][0] < now - 2 * RECENT_SECONDS:
            self._recent.popleft()

    def _source(self, key: str) -> Source:
        namespace, _, name = key.partition("/")
        found = self._services.get(namespace, name)
        labels = (found or {}).get("metadata", {}).get("labels") or {}
        return Source(
            namespace, labels.get(SERVICE_LABEL, ""), labels.get(COMPONENT_LABEL, ""), name
        )

    async def top(self, namespace: str, service: str, seconds: float) -> list[dict[str, Any]]:
        """By component: how many requests came in the last seconds, and what became of them."""
        counts = await self._counts(namespace, service, seconds)
        pods = self.pods(namespace, service)
        items = []
        for place in sorted({*counts, *pods}):
            one = counts.get(place, Counts())
            has = pods.get(place, Pods())
            items.append({
                "namespace": place[0], "service": place[1], "component": place[2],
                "requests": one.requests, "refused": one.refused, "failed": one.failed,
                "requestsPerSecond": round(one.requests / seconds, 4),
                "p50": one.quantile(0.5), "p99": one.quantile(0.99),
                "desired": has.desired, "ready": has.ready,
            })  # fmt: skip
        return items

    async def _counts(
        self, namespace: str, service: str, seconds: float
    ) -> dict[tuple[str, str, str], Counts]:
        found: dict[Source, Counts] = {}
        if seconds <= RECENT_SECONDS:
            oldest = self._clock.monotonic() - seconds
            for at, _, source, counts in self._recent:
                if at > oldest:
                    found.setdefault(source, Counts()).add(counts)
        else:
            since = self._clock.now().timestamp() - seconds
            found = await asyncio.to_thread(self._history.since, since, namespace, service)
            for source, counts in self._minute.items():
                found.setdefault(source, Counts()).add(counts)
        summed: dict[tuple[str, str, str], Counts] = {}
        for source, counts in found.items():
            asked = namespace in ("", source.namespace) and service in ("", source.service)
            if source.service and asked:
                summed.setdefault(source[:3], Counts()).add(counts)
        return summed

    def pods(self, namespace: str = "", service: str = "") -> dict[tuple[str, str, str], Pods]:
        """Pods by component."""
        found: dict[tuple[str, str, str], Pods] = {}
        for deployment in self._deployments.list(namespace or None):
            metadata, status = deployment["metadata"], deployment.get("status") or {}
            labels = metadata.get("labels") or {}
            if service not in ("", labels[SERVICE_LABEL]):
                continue
            place = (metadata["namespace"], labels[SERVICE_LABEL], labels.get(COMPONENT_LABEL, ""))
            before = found.get(place, Pods())
            found[place] = Pods(
                before.desired + int(deployment["spec"].get("replicas", 1)),
                before.ready + int(status.get("readyReplicas") or 0),
            )
        return found

    async def _keep(self) -> None:
        while True:
            await self._clock.sleep(60 - self._clock.now().timestamp() % 60)
            await self.close_minute()

    async def close_minute(self) -> None:
        """Write the minute that is over, and forget what nobody can ask for any more."""
        counts, self._minute = self._minute, {}
        at, self._minute_at = self._minute_at, self._this_minute()
        self._minutes += 1
        prune = self._minutes % _PRUNE_EVERY == 1
        try:
            if counts:
                await asyncio.to_thread(self._history.add, at, list(counts.items()))
            if prune:
                await asyncio.to_thread(self._history.prune, self._clock.now().timestamp())
        except sqlite3.Error as error:
            # A full disk loses figures, and nothing else.
            log.warning("a minute of counts is lost: %s", error)
        if prune:
            for source in list(self.totals):
                if self._services.get(source.namespace, source.backend) is None:
                    del self.totals[source]

    def _this_minute(self) -> int:
        return int(self._clock.now().timestamp()) // 60 * 60
