"""What pods use of CPU and memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Protocol

from kedge.lib.clock import SYSTEM_CLOCK, Clock

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_USER, _SYSTEM, _RESIDENT = 11, 12, 21
"""Fields of /proc/PID/stat after the program's name."""

Usage = Mapping[str, Decimal]
"""`cpu` in cores, `memory` in bytes."""


class PodUsage(Protocol):
    """Tells what a pod uses now."""

    def of(self, uid: str) -> Usage | None:
        """None when it is not known, or not known yet."""
        ...


class UnknownUsage:
    """For a cluster where nobody measures pods."""

    def of(self, uid: str) -> Usage | None:
        return None


class ProcessUsage:
    """Usage of pods that are processes of this machine.

    Args:
        processes: the ids of a pod's processes.
    """

    def __init__(
        self, processes: Callable[[str], Iterable[int]], *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._processes = processes
        self._clock = clock
        self._before: dict[str, tuple[float, dict[int, int]]] = {}

    def of(self, uid: str) -> Usage | None:
        """Over the time since the last call; so nothing at the first."""
        now = self._clock.monotonic()
        ticks: dict[int, int] = {}
        memory = 0
        for pid in self._processes(uid):
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks[pid] = int(fields[_USER]) + int(fields[_SYSTEM])
                memory += int(fields[_RESIDENT]) * _PAGE
        if not ticks:
            self._before.pop(uid, None)
            return None
        before = self._before.get(uid)
        self._before[uid] = now, ticks
        if before is None or now <= before[0]:
            return None
        spent = sum(count - before[1].get(pid, 0) for pid, count in ticks.items())
        cores = Decimal(spent) / _TICKS / Decimal(str(now - before[0]))
        return {"cpu": cores, "memory": Decimal(memory)}
