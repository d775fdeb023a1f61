"""Where a model runs: on the event loop while it is quick, else in a worker thread of its own.

A thread costs a light model more than its prediction; a heavy one on the loop would make everyone
wait. So a model starts in the place its warm-up suggests, and moves when its measured median says
otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from time import perf_counter
from typing import Generic, TypeVar

Answer = TypeVar("Answer")

QUICK_SECONDS = 0.005
_WINDOW = 9


class Pace:
    """Whether a model is quick enough to run where the request is.

    Attributes:
        inline: the present decision for a request of ordinary size.
        rows: the most rows that are expected to stay within the limit. One row's time is mostly
            the framework's overhead, so this starts low and grows with the widest request seen.
    """

    __slots__ = ("_recent", "_widest", "inline", "limit", "rows")

    def __init__(self, limit: float = QUICK_SECONDS) -> None:
        self.inline = False
        self.limit = limit
        self.rows = 1
        self._widest = 0
        self._recent: list[float] = []

    def note(self, seconds: float, rows: int = 1) -> None:
        """Counts one run; every few runs the decision is taken anew."""
        if rows > self._widest:
            self._widest = rows
            self.rows = max(1, int(self.limit * rows / max(seconds, 1e-9)))
        if rows > self.rows:
            return
        recent = self._recent
        recent.append(seconds)
        if len(recent) >= _WINDOW:
            self.inline = median(recent) < self.limit
            recent.clear()

    def decide(self, durations: list[float]) -> None:
        """Takes the decision from runs made on purpose; the first one paid for lazy set-up."""
        settled = durations[1:] or durations
        self.inline = bool(settled) and median(settled) < self.limit
        if settled:
            self.note(median(settled))


class Worker(Generic[Answer]):
    """One thread, made when first needed: frameworks are not asked two things at once."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, work: Callable[[], Answer]) -> tuple[Answer, float]:
        """The answer, and the seconds it took without the wait."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"model-{self._name}")
        return await asyncio.get_running_loop().run_in_executor(self._pool, _timed, work)

    def stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def _timed(work: Callable[[], Answer]) -> tuple[Answer, float]:
    started = perf_counter()
    answer = work()
    return answer, perf_counter() - started
