"""A queue of keys and the workers that reconcile them.

A key waits in the queue at most once and is never worked on twice at the same time: a key that is
enqueued while it is being reconciled is run once more afterwards. Every error means retry, with a
delay that grows per key, except a `TerminalError`, which waits for the next change.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

from kedge.cluster.errors import ApiError, Conflict, TooManyRequests, Unavailable
from kedge.lib.backoff import Backoff
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.lib.errors import TerminalError

log = logging.getLogger(__name__)

_LONGEST_REST = 0.5
"""Seconds for which a key is left alone at most, however many there are."""
_UNAVAILABLE_SECONDS = 1.0


class Key(NamedTuple):
    """What is to be reconciled; `namespace` is empty for cluster-scoped kinds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True)
class Result:
    """What a reconcile asks for when nothing failed.

    Attributes:
        requeue_after: seconds after which the key is run again even if nothing changes.
    """

    requeue_after: float | None = None


class Controller:
    """Runs `reconcile` for every enqueued key.

    Args:
        rest: seconds for which a key that was reconciled is left alone: its own writes come back
            as changes, and what changes together is looked at together. Where many keys are under
            way it is as many times as long, up to half a second. `enqueue_soon` waits as long.
    """

    def __init__(
        self,
        name: str,
        reconcile: Callable[[Key], Awaitable[Result | None]],
        *,
        workers: int = 4,
        backoff: Backoff = Backoff(),  # noqa: B008 (immutable)
        clock: Clock = SYSTEM_CLOCK,
        rest: float = 0.0,
    ) -> None:
        self.name = name
        self._reconcile = reconcile
        self._workers = workers
        self._backoff = backoff
        self._clock = clock
        self._rest = rest
        self._queue: deque[Key] = deque()
        self._queued: set[Key] = set()
        self._active: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._due: dict[Key, float] = {}
        self._soon: dict[Key, float] = {}
        self._rested: dict[Key, float] = {}
        self._schedule: list[tuple[float, Key]] = []
        self._work = asyncio.Semaphore(0)
        self._rescheduled = asyncio.Event()

    def enqueue(self, key: Key, after: float = 0.0) -> None:
        """Have `key` reconciled, now or `after` seconds from now (the earliest request counts)."""
        if after > 0:
            self._enqueue_later(key, self._clock.monotonic() + after)
        elif key not in self._queued:
            self._queued.add(key)
            if key not in self._active:
                self._offer(key)

    def enqueue_soon(self, key: Key, at_most: float = float("inf")) -> None:
        """Have `key` reconciled together with what else is about to change for it.

        A look for another reason, before that, has seen it too.
        """
        pause = min(self._pause, at_most)
        due = self._clock.monotonic() + pause
        if pause <= 0:
            self.enqueue(key)
        elif key not in self._queued and due < self._soon.get(key, float("inf")):
            self._soon[key] = due
            self._plan(due, key)

    @property
    def _pause(self) -> float:
        return min(self._rest * max(1, len(self._active)), max(self._rest, _LONGEST_REST))

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_schedule(), name=f"{self.name}:schedule")
            for number in range(self._workers):
                tasks.create_task(self._work_off(), name=f"{self.name}:{number}")

    def _offer(self, key: Key) -> None:
        self._queue.append(key)
        self._work.release()

    def _enqueue_later(self, key: Key, due: float) -> None:
        if due >= self._due.get(key, float("inf")):
            return
        self._due[key] = due
        self._plan(due, key)

    def _plan(self, due: float, key: Key) -> None:
        heapq.heappush(self._schedule, (due, key))
        if self._schedule[0] == (due, key):
            self._rescheduled.set()

    async def _watch_schedule(self) -> None:
        while True:
            self._rescheduled.clear()
            now = self._clock.monotonic()
            while self._schedule and self._schedule[0][0] <= now:
                due, key = heapq.heappop(self._schedule)
                if self._rested.get(key) == due:
                    del self._rested[key]
                    self._release(key)
                if self._due.get(key) == due:
                    del self._due[key]
                    self.enqueue(key)
                if self._soon.get(key) == due:
                    del self._soon[key]
                    self.enqueue(key)
            if not self._schedule:
                await self._rescheduled.wait()
            else:
                await self._sleep_until_rescheduled(self._schedule[0][0] - now)

    async def _sleep_until_rescheduled(self, seconds: float) -> None:
        waits = [
            asyncio.ensure_future(self._clock.sleep(seconds)),
            asyncio.ensure_future(self._rescheduled.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _work_off(self) -> None:
        while True:
            await self._work.acquire()
            key = self._queue.popleft()
            self._queued.discard(key)
            self._soon.pop(key, None)
            self._active.add(key)
            try:
                await self._attempt(key)
            finally:
                if self._rest > 0:
                    due = self._rested[key] = self._clock.monotonic() + self._pause
                    self._plan(due, key)
                else:
                    self._release(key)

    def _release(self, key: Key) -> None:
        self._active.discard(key)
        if key in self._queued:
            self._offer(key)

    async def _attempt(self, key: Key) -> None:
        try:
            result = await self._reconcile(key)
        except TerminalError as error:
            self._failures.pop(key, None)
            log.warning("%s %s: %s; waiting for a change", self.name, key, error)
        except Exception as error:
            self._retry(key, error)
        else:
            self._failures.pop(key, None)
            if result is not None and result.requeue_after is not None:
                self.enqueue(key, result.requeue_after)

    def _retry(self, key: Key, error: Exception) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = max(self._backoff.delay(failures), _asked_delay(error))
        if isinstance(error, Unavailable):
            # That the server is away says nothing against the key.
            delay = min(delay, _UNAVAILABLE_SECONDS)
        expected = isinstance(error, Conflict | Unavailable | TooManyRequests)
        log.log(
            logging.DEBUG if isinstance(error, Conflict) else logging.WARNING,
            "%s %s: %s: %s; attempt %d, again in %.3g s",
            self.name, key, type(error).__name__, error, failures, delay,
            exc_info=None if expected or isinstance(error, ApiError) else error,
        )  # fmt: skip
        self.enqueue(key, delay)


def _asked_delay(error: Exception) -> float:
    """The server's Retry-After, when it gave one."""
    details = error.details if isinstance(error, ApiError) else None
    return float((details or {}).get("retryAfterSeconds", 0))
