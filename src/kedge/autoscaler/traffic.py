"""What the gateways report, put into whole seconds and summed over gateways.

Reports come about once a second, never quite on it. Each gateway fills its seconds one after the
other, so that two reports in one second make no peak; only a gateway that runs away from the clock
is put right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from kedge.autoscaler.wire import Report, Signal, Wake

_WHOLE = 0.9
"""Reports that together are at least this long fill a second."""
_FORGET = 300.0
"""Seconds after which a gateway that never came back is taken to be gone, if others are there."""
_SILENT = 5.0
"""Seconds without a report after which a gateway counts as missing."""

Recorder = Callable[[str, range, float, float], None]
"""`record(key, seconds, in flight, requests a second)`."""


@dataclass
class _Gateway:
    connections: int = 0
    lost_at: float = 0.0
    heard_at: float = 0.0
    slot: int | None = None
    elapsed: float = 0.0
    sums: dict[str, list[float]] = field(default_factory=dict)
    latest: dict[str, Signal] = field(default_factory=dict)

    def take_slots(self, now: float) -> range:
        """The seconds that what was gathered is for."""
        count = max(1, round(self.elapsed))
        newest = math.floor(now)
        start = newest - count + 1 if self.slot is None else self.slot + 1
        end = start + count - 1
        if end < newest - 1:
            # Behind: what was reported lately goes for what was skipped, if that is short.
            end = newest
            start = max(start, end - 2 * count)
        elif end > newest + 1:
            start, end = newest + 1, newest + 1
        self.slot = end
        return range(start, end + 1)


class Traffic:
    """Every gateway that has been heard of.

    Args:
        record: told each key's values by whole seconds.

    Attributes:
        complete_since: since when every gateway has been heard of without a break, as `missing`
            last saw it; None while one is not.
    """

    def __init__(self, record: Recorder) -> None:
        self._record = record
        self._gateways: dict[str, _Gateway] = {}
        self.complete_since: float | None = None

    @property
    def until(self) -> int | None:
        """The newest second of which any gateway has told."""
        slots = [one.slot for one in self._gateways.values() if one.slot is not None]
        return max(slots, default=None)

    def last_second(self, now: float) -> int:
        """The last second that is over, for averages: the newest reported one, if that is new.

        Whether a report came just before or after a decision must not move an average.
        """
        until, second = self.until, math.floor(now)
        return until if until is not None and abs(second - until) <= 1 else second

    def connect(self, name: str) -> None:
        gateway = self._gateways.setdefault(name, _Gateway())
        gateway.connections += 1
        gateway.sums.clear()
        gateway.elapsed = 0.0

    def disconnect(self, name: str, now: float) -> None:
        """The stream broke; the gateway may still be sending requests to pods."""
        gateway = self._gateways.get(name)
        if gateway is None:
            return
        gateway.connections -= 1
        gateway.lost_at = now
        if gateway.connections <= 0:
            gateway.slot = None
            gateway.latest = {}

    def forget(self, name: str) -> None:
        """The gateway has ended."""
        self._gateways.pop(name, None)

    def missing(self, now: float) -> str:
        """Why no pod may go now: a gateway that should be heard of is not; empty when all are."""
        present = [name for name, one in self._gateways.items() if one.connections > 0]
        for name, one in list(self._gateways.items()):
            if one.connections <= 0 and present and now - one.lost_at > _FORGET:
                del self._gateways[name]
        lost = [name for name in self._gateways if name not in present]
        silent = [name for name in present if self._is_silent(self._gateways[name], now)]
        why = ""
        if lost:
            why = f"the gateway {lost[0]} is missing: no pod goes until it is back"
        elif not present:
            why = "no gateway has reported yet: no pod goes"
        elif silent:
            why = f"the gateway {silent[0]} does not report: no pod goes"
        if why:
            self.complete_since = None
        elif self.complete_since is None:
            self.complete_since = now
        return why

    def _is_silent(self, gateway: _Gateway, now: float) -> bool:
        return gateway.slot is None or now - gateway.heard_at > _SILENT

    def watched_since(self, now: float) -> float | None:
        """Since when every gateway has been heard of without a break."""
        return None if self.missing(now) else self.complete_since

    def latest(self, key: str) -> Signal:
        """What was last said of a key, all gateways together."""
        in_flight = rate = held = 0.0
        for one in self._gateways.values():
            said = one.latest.get(key)
            if said is not None:
                in_flight, rate, held = in_flight + said[0], rate + said[1], held + said[2]
        return in_flight, rate, held

    def take_wake(self, name: str, wake: Wake) -> None:
        gateway = self._gateways[name]
        in_flight, rate, held = gateway.latest.get(wake.key, (0.0, 0.0, 0.0))
        gateway.latest[wake.key] = (in_flight, rate, max(held, wake.held))

    def take(self, name: str, report: Report, now: float) -> None:
        """Record a report, once those gathered make a second."""
        gateway = self._gateways[name]
        gateway.elapsed += report.seconds
        gateway.heard_at = now
        gateway.latest = dict(report.revisions)
        for key, (in_flight, rate, _) in report.revisions.items():
            sums = gateway.sums.setdefault(key, [0.0, 0.0])
            sums[0] += in_flight * report.seconds
            sums[1] += rate * report.seconds
        if gateway.elapsed < _WHOLE:
            return
        slots = gateway.take_slots(now)
        sums_taken, elapsed = gateway.sums, gateway.elapsed
        gateway.sums, gateway.elapsed = {}, 0.0
        for key, (in_flight_seconds, requests) in sums_taken.items():
            self._record(key, slots, in_flight_seconds / elapsed, requests / elapsed)

    @property
    def names(self) -> list[str]:
        return sorted(self._gateways)


def is_demand(signal: Signal) -> bool:
    """Whether anybody asks."""
    in_flight, rate, held = signal
    return in_flight > 0 or rate > 0 or held > 0
