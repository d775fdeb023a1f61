"""A clock that moves only when told to."""

from __future__ import annotations

import asyncio
import heapq
from datetime import UTC, datetime, timedelta

_START = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """A `kedge.lib.clock.Clock` for tests: `await clock.advance(5)` wakes who slept that long.

    Args:
        start: the wall-clock time at monotonic zero.
        rounds: turns of the event loop that `settle` gives to the code under test.
    """

    def __init__(self, start: datetime = _START, rounds: int = 25) -> None:
        self._start = start
        self._rounds = rounds
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._elapsed + seconds, self._count, future))
        await future

    async def settle(self) -> None:
        """Let everything run that can run without time passing."""
        for _ in range(self._rounds):
            await asyncio.sleep(0)

    async def advance(self, seconds: float) -> None:
        """Move time, waking sleepers in order, each with the time it asked for."""
        await self.settle()
        target = self._elapsed + seconds
        while self._sleepers and self._sleepers[0][0] <= target:
            due, _, future = heapq.heappop(self._sleepers)
            if future.done():
                continue
            self._elapsed = due
            future.set_result(None)
            await self.settle()
        self._elapsed = target
        await self.settle()
