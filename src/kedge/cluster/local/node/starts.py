"""What a container's start was made of: from the pod's first sight to its first good probe.

A program that tells its moments (`notices`) has its part divided; of any other one duration is
known. The pod carries it as a condition, written together with Ready.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kedge.cluster.base import Object

CONDITION = "serving.kedge.dev/Started"
"""Type of the pod condition that tells the phases."""

PHASES = ("prepare", "process", "framework", "weights", "inference", "ready")
"""Volumes and namespaces; until the program runs; its imports; the model's files; its first
inference; until the probe that found it ready."""

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


def make_start(
    seen: float, asked: float, ready: float, warm: bool, moments: Mapping[str, float]
) -> Start:
    """The phases between moments of the monotonic clock.

    Args:
        seen: when the agent first saw the pod.
        asked: when the container was to start.
        moments: what the container told.
    """
    ends = {"prepare": asked, **moments, "ready": ready}
    phases: dict[str, float] = {}
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
