"""How fast an autoscaler may change its mind, and the number of pods. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_DEFAULT_UP: dict[str, Any] = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ],
}
_DEFAULT_DOWN: dict[str, Any] = {
    "stabilizationWindowSeconds": 300,
    "selectPolicy": "Max",
    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
}
_LONGEST = 3600.0


@dataclass
class Memory:
    """What an autoscaler wanted and did, by the second.

    Attributes:
        wishes: time and wanted number.
        changes: time and difference.
    """

    wishes: list[tuple[float, int]] = field(default_factory=list)
    changes: list[tuple[float, int]] = field(default_factory=list)

    def forget_old(self, now: float) -> None:
        for entries in (self.wishes, self.changes):
            entries[:] = [entry for entry in entries if entry[0] > now - _LONGEST]


def temper(
    behavior: Mapping[str, Any] | None, current: int, wanted: int, memory: Memory, now: float
) -> int:
    """The number to go to now, of a number that is wanted now."""
    memory.forget_old(now)
    memory.wishes.append((now, wanted))
    given = behavior or {}
    up = {**_DEFAULT_UP, **(given.get("scaleUp") or {})}
    down = {**_DEFAULT_DOWN, **(given.get("scaleDown") or {})}
    # Up only as far as it was wanted all the while, down only as far likewise.
    steady = max(current, min(_recent(memory, now, up)))
    steady = min(steady, max(_recent(memory, now, down)))
    if steady > current:
        return min(steady, _most(up, current, memory, now))
    return max(steady, _least(down, current, memory, now))


def _recent(memory: Memory, now: float, rules: Mapping[str, Any]) -> list[int]:
    since = now - float(rules["stabilizationWindowSeconds"])
    return [wish for time, wish in memory.wishes if time >= since]


def _most(rules: Mapping[str, Any], current: int, memory: Memory, now: float) -> int:
    limits = []
    for policy in rules["policies"]:
        start = current - _changed(memory, now, policy["periodSeconds"], up=True)
        if policy["type"] == "Pods":
            limits.append(start + int(policy["value"]))
        else:
            limits.append(-(-start * (100 + int(policy["value"])) // 100))
    return _select(rules, limits, current, larger=max)


def _least(rules: Mapping[str, Any], current: int, memory: Memory, now: float) -> int:
    limits = []
    for policy in rules["policies"]:
        start = current + _changed(memory, now, policy["periodSeconds"], up=False)
        if policy["type"] == "Pods":
            limits.append(start - int(policy["value"]))
        else:
            limits.append(start * (100 - int(policy["value"])) // 100)
    return _select(rules, limits, current, larger=min)


def _select(rules: Mapping[str, Any], limits: list[int], current: int, *, larger: Any) -> int:
    """`larger` picks the limit that allows the larger change."""
    if rules["selectPolicy"] == "Disabled" or not limits:
        return current
    smaller = min if larger is max else max
    return int((larger if rules["selectPolicy"] == "Max" else smaller)(limits))


def _changed(memory: Memory, now: float, period: float, *, up: bool) -> int:
    """By how many pods the number grew, or shrank, within the period."""
    return sum(
        abs(change) for time, change in memory.changes if time > now - period and (change > 0) == up
    )
