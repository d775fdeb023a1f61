"""Events: what a person should know about an object, as `kubectl describe` shows it.

The same thing said again about the same object is one Event with a higher count. Its name is made
from what it says, so the counting goes on after a restart.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from typing import Any, Literal

from kedge.api.scheme import EVENT
from kedge.cluster.base import Cluster, Object
from kedge.cluster.errors import AlreadyExists, NotFound
from kedge.lib.clock import SYSTEM_CLOCK, Clock, format_time

log = logging.getLogger(__name__)

_MESSAGE_LIMIT = 1024
_REMEMBERED = 4096


class EventRecorder:
    """Writes events in the name of one component."""

    def __init__(self, cluster: Cluster, component: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self._cluster = cluster
        self._component = component
        self._clock = clock
        self._counts: OrderedDict[tuple[str, str], int] = OrderedDict()

    async def record(
        self, obj: Object, type: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None:
        """Tell about `obj`. Never raises: no work may fail because an event could not be told."""
        try:
            await self._record(self._make_event(obj, type, reason, message[:_MESSAGE_LIMIT]))
        except Exception as error:
            log.warning("event %s for %s: %s", reason, obj["metadata"].get("name"), error)

    async def _record(self, event: Object) -> None:
        namespace, name = event["metadata"]["namespace"], event["metadata"]["name"]
        count = self._counts.get((namespace, name), 0)
        if not count:
            try:
                await self._cluster.create(EVENT, event)
            except AlreadyExists:
                stored = await self._cluster.get(EVENT, name, namespace)
                count = int(stored.get("count") or 1)
        if count:
            await self._count(event, count + 1)
        self._counts[namespace, name] = count + 1
        self._counts.move_to_end((namespace, name))
        if len(self._counts) > _REMEMBERED:
            self._counts.popitem(last=False)

    async def _count(self, event: Object, count: int) -> None:
        namespace, name = event["metadata"]["namespace"], event["metadata"]["name"]
        patch = {"count": count, "lastTimestamp": event["lastTimestamp"]}
        try:
            await self._cluster.patch(EVENT, name, patch, namespace=namespace)
        except NotFound:
            await self._cluster.create(EVENT, {**event, "count": count})

    def _make_event(self, obj: Object, type: str, reason: str, message: str) -> Object:
        involved = _reference(obj)
        now = format_time(self._clock.now())
        said = "\0".join([self._component, involved.get("uid", ""), type, reason, message])
        digest = hashlib.sha256(said.encode()).hexdigest()[:16]
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{involved['name'][:230]}.{digest}",
                "namespace": involved.get("namespace", "default"),
            },
            "involvedObject": involved,
            "reason": reason,
            "message": message,
            "type": type,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": "",
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }


def _reference(obj: Object) -> dict[str, Any]:
    metadata = obj["metadata"]
    fields = {
        "apiVersion": obj.get("apiVersion"),
        "kind": obj.get("kind"),
        "namespace": metadata.get("namespace"),
        "name": metadata["name"],
        "uid": metadata.get("uid"),
        "resourceVersion": metadata.get("resourceVersion"),
    }
    return {name: value for name, value in fields.items() if value}
