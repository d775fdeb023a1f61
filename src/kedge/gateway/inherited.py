"""Requests that an earlier activator sent to pods: they hold slots until they have ended.

An activator that was killed took its table of slots with it, and its requests go on. Envoy knows
them: each activator sends through a lane (`activation.LANES`) of its own, so whatever is in flight
in the other lanes is of an earlier one.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable

from kedge.gateway.activation import LANES
from kedge.gateway.activator import Activator
from kedge.gateway.admin import AdminError, EnvoyAdmin
from kedge.lib.clock import SYSTEM_CLOCK, Clock

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 5.0
"""How long an Envoy that is there is waited for, before it is thought to have nothing in flight."""
_HOSTS = "/clusters?format=json&filter=^kedge/pods-"


class Inheritance:
    """What of an earlier activator is still in pods; calls `changed` when some of it ended."""

    def __init__(
        self,
        admin: EnvoyAdmin,
        activator: Activator,
        clock: Clock = SYSTEM_CLOCK,
        *,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._admin = admin
        self._activator = activator
        self._clock = clock
        self._changed = changed
        self._lane = LANES[0]

    async def take(self) -> str:
        """Count what is in flight; the lane that this activator shall send through."""
        lanes = await self._read_patiently()
        self._lane = min(LANES, key=lambda lane: lanes[lane].total())
        if lanes[self._lane]:
            log.warning("Requests of %d earlier activators are in flight; their pods may get more"
                        " requests than they shall have", len(LANES))  # fmt: skip
        self._note(lanes)
        return self._lane

    async def run(self) -> None:
        """Until all of it has ended."""
        while self._activator.inherited:
            await self._clock.sleep(LOOK_SECONDS)
            try:
                self._note(await self._read())
            except AdminError as error:
                if error.away:
                    self._note({})

    def _note(self, lanes: dict[str, Counter[str]]) -> None:
        before, found = self._activator.inherited, Counter[str]()
        for lane, hosts in lanes.items():
            if lane != self._lane:
                found.update(hosts)
        self._activator.inherited = found
        self._activator.pods_changed({*before, *found})
        if before != found:
            self._changed()

    async def _read_patiently(self) -> dict[str, Counter[str]]:
        deadline = self._clock.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return await self._read()
            except AdminError as error:
                if error.away or self._clock.monotonic() > deadline:
                    return {lane: Counter() for lane in LANES}
            await self._clock.sleep(LOOK_SECONDS)

    async def _read(self) -> dict[str, Counter[str]]:
        """Requests in flight, by lane and address."""
        return parse_hosts(await self._admin.get(_HOSTS))


def parse_hosts(text: bytes) -> dict[str, Counter[str]]:
    """Of Envoy's list of clusters: requests in flight, by lane and address of the pod."""
    lanes: dict[str, Counter[str]] = {lane: Counter() for lane in LANES}
    for cluster in json.loads(text).get("cluster_statuses", ()):
        hosts = lanes.get(cluster["name"])
        for host in cluster.get("host_statuses", ()) if hosts is not None else ():
            address = host["address"]["socket_address"]["address"]
            gauges = {one["name"]: int(one.get("value", 0)) for one in host["stats"]}
            active = gauges.get("rq_active", 0) + gauges.get("rq_pending_active", 0)
            if active and hosts is not None:
                hosts[address] += active
    return lanes
