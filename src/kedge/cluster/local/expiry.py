"""Events are news: an hour after the last time one happened it is deleted, as on Kubernetes."""

from __future__ import annotations

from datetime import timedelta

from kedge.api.scheme import EVENT
from kedge.cluster.base import Object
from kedge.cluster.errors import ApiError
from kedge.cluster.local.registry import Registry
from kedge.lib.clock import SYSTEM_CLOCK, Clock, format_time

LIFETIME = timedelta(hours=1)
_PERIOD_SECONDS = 60.0


class EventExpiry:
    """Deletes old Events; `run` until cancelled."""

    def __init__(self, registry: Registry, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._registry = registry
        self._clock = clock

    async def run(self) -> None:
        while True:
            await self._clock.sleep(_PERIOD_SECONDS)
            await self.expire()

    async def expire(self) -> None:
        """Delete the Events that are too old now."""
        oldest = format_time(self._clock.now() - LIFETIME)
        async for page in self._registry.store.snapshot(EVENT).pages():
            for record in page:
                if _last_time(record.object) < oldest:
                    try:
                        self._registry.delete(EVENT, record.namespace, record.name)
                    except ApiError:
                        continue  # Somebody else deleted it.


def _last_time(event: Object) -> str:
    """RFC 3339 times in UTC sort as text."""
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"]["creationTimestamp"]
    )
