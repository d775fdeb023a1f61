"""How many pods a load needs: Knative's algorithm. Pure; the time is an argument.

Two averages of one signal are divided by what a pod is given: the stable one decides when things
are calm, the short one as soon as it asks for so many times more pods than are ready. In that
panic the number only grows, until it has been calm for a stable window.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from kedge.autoscaler.parameters import Parameters

GRANULARITY = 2.0
"""Seconds between two decisions; the scale-down delay remembers in steps of it."""


@dataclass(frozen=True, slots=True)
class Load:
    """A signal's averages over the stable window and over the short one."""

    stable: float
    panic: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What the load asks for.

    Attributes:
        desired: how many pods.
        load: the averages it was concluded from.
        panicking: the short window decides.
        limited: what kept the number from following the load: `up`, `down`, `panic`, `delay`,
            `activation` or nothing.
    """

    desired: int
    load: Load
    panicking: bool = False
    limited: str = ""


class Decider:
    """Decides for one Deployment, tick by tick."""

    __slots__ = ("_delay", "_most_in_panic", "_panic_since")

    def __init__(self) -> None:
        self._panic_since: float | None = None
        self._most_in_panic = 0
        self._delay = _DelayWindow()

    def resume(self, now: float, pods: int) -> None:
        """Take over pods that were there before us: none may go before a whole window is known."""
        if pods > 1:
            self._panic_since = now
            self._most_in_panic = pods

    @property
    def panicking(self) -> bool:
        return self._panic_since is not None

    @property
    def at_rest(self) -> bool:
        """Whether the next decision depends on nothing but the load."""
        return self._panic_since is None and self._delay.at_rest

    def calm_at(self, parameters: Parameters) -> float | None:
        """When the panic ends if the load stays low."""
        if self._panic_since is None:
            return None
        return self._panic_since + parameters.stable_window

    def decide(self, now: float, load: Load, ready: int, parameters: Parameters) -> Decision:
        """The number of pods for a load, with so many pods ready."""
        base = max(1, ready)
        most = math.ceil(parameters.max_scale_up_rate * base)
        least = math.floor(base / parameters.max_scale_down_rate) if parameters.reachable else 0
        for_stable = math.ceil(load.stable / parameters.target)
        for_panic = math.ceil(load.panic / parameters.target)
        stable, why_stable = _bound(for_stable, least, most, parameters)
        panic, why_panic = _bound(for_panic, least, most, parameters)
        self._follow_panic(now, for_panic / base >= parameters.panic_threshold, parameters)
        desired, limited = stable, why_stable
        if self._panic_since is not None:
            wanted = max(stable, panic)
            self._most_in_panic = max(self._most_in_panic, wanted)
            desired = self._most_in_panic
            limited = why_stable if stable >= panic else why_panic
            limited = "panic" if desired > wanted else limited
        if parameters.reachable and parameters.scale_down_delay > 0:
            delayed = self._delay.take(now, desired, parameters.scale_down_delay)
            limited = "delay" if delayed > desired else limited
            desired = delayed
        return Decision(desired, load, self.panicking, limited)

    def _follow_panic(self, now: float, over: bool, parameters: Parameters) -> None:
        if over:
            self._panic_since = now
        elif self._panic_since is not None and self._panic_since + parameters.stable_window < now:
            self._panic_since = None
            self._most_in_panic = 0


def _bound(needed: int, least: int, most: int, parameters: Parameters) -> tuple[int, str]:
    """The number that may be gone to now, and what made it another than `needed`."""
    bounded = min(max(needed, least), most)
    if needed > 0 and bounded < parameters.activation_scale:
        return parameters.activation_scale, "activation"
    if bounded == needed:
        return bounded, ""
    return bounded, "up" if bounded < needed else "down"


class _DelayWindow:
    """The largest number wanted within the last seconds, in steps of `GRANULARITY`."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: deque[tuple[int, int]] = deque()

    @property
    def at_rest(self) -> bool:
        return len(self._entries) <= 1

    def take(self, now: float, value: int, delay: float) -> int:
        step = math.floor(now / GRANULARITY)
        oldest = step - math.ceil(delay / GRANULARITY)
        while self._entries and self._entries[0][0] <= oldest:
            self._entries.popleft()
        while self._entries and self._entries[-1][1] <= value:
            self._entries.pop()
        self._entries.append((step, value))
        return self._entries[0][1]
