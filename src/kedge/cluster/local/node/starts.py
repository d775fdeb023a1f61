"""What a container's start was made of: from the pod's first sight to its first good probe.

A program that tells its moments (`notices`) has its part divided; of any other one duration is
known. The pod carries it as a condition, written together with Ready.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kedge.cluster.base import Object
from kedge.lib.clock import SYSTEM_CLOCK, Clock

CONDITION = "serving.kedge.dev/Started"
"""Type of the pod condition that tells the phases."""

PHASES = ("scheduled", "prepare", "process", "framework", "weights", "inference", "ready")
"""From the request that woke it until the agent saw the pod; volumes and namespaces; until the
program runs; its imports; the model's files; its first inference; until the probe that found it
ready."""

_REMEMBERED = 60.0
"""Seconds after which a wake has nothing to do with a new pod."""

_PART = re.compile(r"(\w+) ([\d.]+) ms")


@dataclass(frozen=True)
class Start:
    """One start.

    Attributes:
        warm: forked from a template.
        phases: name -> seconds, in order.
    """

    warm: bool
    phases: Mapping[str, float]

    @property
    def seconds(self) -> float:
        return sum(self.phases.values())

    @property
    def message(self) -> str:
        """As the condition has it; `read` understands it."""
        return ", ".join(f"{name} {value * 1000:.1f} ms" for name, value in self.phases.items())


class Wakes:
    """When services at zero were asked, so that a pod's start can tell since when it was wanted."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._woken: dict[str, float] = {}

    def note(self, key: str) -> None:
        """A request found no pod of `namespace/service`."""
        now = self._clock.monotonic()
        if now - self._woken.get(key, -_REMEMBERED) >= _REMEMBERED:
            self._woken[key] = now

    def asked(self, pod: Object) -> float | None:
        """When the pod's service was asked; the pods after it are not of that request."""
        metadata = pod["metadata"]
        for owner in metadata.get("ownerReferences") or []:
            if owner.get("kind") == "ReplicaSet":
                deployment = str(owner["name"]).rpartition("-")[0]
                key = f"{metadata.get('namespace')}/{deployment}-private"
                woken = self._woken.pop(key, None)
                if woken is not None and self._clock.monotonic() - woken < _REMEMBERED:
                    return woken
        return None


def make_start(
    seen: float,
    asked: float,
    ready: float,
    warm: bool,
    moments: Mapping[str, float],
    woken: float | None = None,
) -> Start:
    """The phases between moments of the monotonic clock.

    Args:
        seen: when the agent first saw the pod.
        woken: when a request asked for it.
        asked: when the container was to start.
        moments: what the container told.
    """
    ends = {"prepare": asked, **moments, "ready": ready}
    phases = {} if woken is None else {"scheduled": max(0.0, seen - woken)}
    last = seen
    for name in PHASES:
        if name in ends:
            phases[name] = max(0.0, ends[name] - last)
            last = max(last, ends[name])
    return Start(warm, phases)


def read(pod: Object) -> Start | None:
    """What a pod's condition tells; None when it tells nothing."""
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition.get("type") == CONDITION:
            found = _PART.findall(condition.get("message") or "")
            phases = {name: float(value) / 1000 for name, value in found}
            return Start(condition.get("reason") == "Forked", phases)
    return None
