"""How much is asked of each service: what the autoscaler decides by.

Requests in flight are read off Envoy ten times a second and averaged over whatever time lies
between two questions; requests are counted. Those that wait for a pod are in flight too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from kedge.gateway.activator import Activator
from kedge.gateway.admin import AdminError, EnvoyAdmin
from kedge.gateway.revision import key_of
from kedge.lib.clock import SYSTEM_CLOCK, Clock

SAMPLE_SECONDS = 0.1
COUNT_EVERY = 5
"""Samples from one reading of the counters to the next."""
CALM_SECONDS = 3.0
"""After so long without a request Envoy, which goes through all it counts each time, is read only
as often as its counters are. A request that needs a pod is told of at once all the same."""

_GAUGES = r"/stats?type=Gauges&usedonly&filter=^cluster\.[^.]%2B\.upstream_rq_(pending_)?active$"
_COUNTERS = r"/stats?type=Counters&usedonly&filter=^cluster\.[^.]%2B\.upstream_rq_total$"
_CLUSTER = rb"cluster\.([^./]+/[^./]+/[^./]+)"
_IN_FLIGHT = re.compile(_CLUSTER + rb"\.upstream_rq_(?:pending_)?active: ([1-9]\d*)")
_TOTAL = re.compile(_CLUSTER + rb"\.upstream_rq_total: ([1-9]\d*)")


class Asked(NamedTuple):
    """What was asked of a service since the last question.

    Attributes:
        in_flight: requests at once, on average, held ones included.
        requests: how many began.
        held: how many wait for a pod now.
    """

    in_flight: float
    requests: int
    held: int


class Demand:
    """Samples one Envoy.

    Attributes:
        blind: Envoy could not be read when last tried; what is said of it then is too little.
    """

    def __init__(
        self, admin: EnvoyAdmin, activator: Activator, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.blind = True
        self._admin = admin
        self._activator = activator
        self._clock = clock
        self._sums: Counter[str] = Counter()
        self._samples = 0
        self._busy = clock.monotonic()
        self._totals: dict[str, int] = {}
        self._requests: Counter[str] = Counter()
        self._counted = False
        activator.on_wake(self._note_wake)

    def _note_wake(self, key: str) -> None:
        self._busy = self._clock.monotonic()

    def on_wake(self, callback: Callable[[str], None]) -> None:
        """Call `callback("namespace/service")` at once when a request finds no pod."""
        self._activator.on_wake(callback)

    def sample(self) -> dict[str, Asked]:
        """What was asked since the last call, by `namespace/service`; without those of which
        nothing was."""
        held = self._activator.held()
        sums, self._sums = self._sums, Counter()
        samples, self._samples = self._samples, 0
        requests, self._requests = self._requests, Counter()
        return {
            key: Asked(sums[key] / (samples or 1), requests[key], held.get(key, 0))
            for key in {*sums, *requests, *held}
        }

    async def run(self) -> None:
        """Until cancelled."""
        number = 0
        due = self._clock.monotonic()
        while True:
            count = number % COUNT_EVERY == 0
            calm = self._clock.monotonic() - self._busy > CALM_SECONDS
            if count or not calm:
                await self.look(count=count, stands_for=COUNT_EVERY if calm else 1)
            number += 1
            now = self._clock.monotonic()
            due = max(due + SAMPLE_SECONDS, now)
            await self._clock.sleep(due - now)

    async def look(self, *, count: bool, stands_for: int = 1) -> None:
        """Take one sample, in the place of so many; read the counters too if `count`."""
        try:
            gauges = await self._admin.get(_GAUGES)
            counters = await self._admin.get(_COUNTERS) if count else b""
        except AdminError:
            self.blind = True
            return
        self.blind = False
        self._samples += stands_for
        for cluster, value in _IN_FLIGHT.findall(gauges):
            self._sums[key_of(cluster.decode())] += int(value) * stands_for
            self._busy = self._clock.monotonic()
        if count:
            self._count({name.decode(): int(value) for name, value in _TOTAL.findall(counters)})

    def _count(self, totals: dict[str, int]) -> None:
        before, self._totals = self._totals, totals
        # What an Envoy had counted before this process began is not of now.
        known, self._counted = self._counted, True
        for cluster, total in totals.items():
            new = total - before.get(cluster, 0 if known else total)
            if new:
                self._busy = self._clock.monotonic()
                # A counter that fell is that of a new Envoy.
                self._requests[key_of(cluster)] += new if new > 0 else total
