"""Where a model runs: on the event loop while it is quick, else in a worker thread of its own.

A thread costs a light model more than its prediction; a heavy one on the loop would make everyone
wait. So a model starts in the place its warm-up suggests, and moves when its measured median says
otherwise.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from statistics import median
from time import perf_counter
from typing import Any

from kedge.protocol.errors import Overloaded

MODEL_FAULTS = (Exception, SystemExit, asyncio.CancelledError)
"""What a model may raise: one that calls `sys.exit` ends its request, not the server."""
QUICK_SECONDS = 0.005
MOST_GIVEN_UP = 8
_WINDOW = 9
_FAR = 10


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
        expected = int(self.limit * rows / max(seconds, 1e-9))
        if rows > self._widest:
            self._widest = rows
            self.rows = max(1, expected)
        elif expected > self.rows:
            self.rows = expected  # The widest was held up by something else.
        if rows > self.rows:
            return
        recent = self._recent
        if seconds > self.limit * _FAR and self.inline:
            self.inline = False  # Everyone has waited for it; it may prove itself in the thread.
            recent.clear()
            return
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


class Task:
    """One piece of work for a thread.

    Attributes:
        answer: what it gave; None before, and when it raised or was cancelled.
        begun: a thread works on it, or has.
        error: what it raised.
        seconds: how long it took, without the wait.
    """

    __slots__ = ("answer", "begun", "cancelled", "done", "error", "seconds", "work")

    def __init__(self, work: Callable[[], Any], done: Callable[[Task], None]) -> None:
        self.work = work
        self.done = done
        self.answer: Any = None
        self.error: BaseException | None = None
        self.seconds = 0.0
        self.begun = False
        self.cancelled = False

    def cancel(self) -> None:
        """If it has not begun, it never will; `done` is called all the same."""
        self.cancelled = True

    def run(self) -> None:
        if self.cancelled:
            return
        self.begun = True
        started = perf_counter()
        try:
            self.answer = self.work()
        except BaseException as error:
            self.error = error
        self.seconds = perf_counter() - started


Inbox = SimpleQueue[Task | None]


class Worker:
    """One thread, made when first needed: frameworks are not asked two things at once.

    It is a daemon: a model that hangs keeps neither the server from answering others nor the
    process from ending.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._inbox: Inbox | None = None
        self._given_up: list[Task] = []

    def submit(self, work: Callable[[], Any], done: Callable[[Task], None]) -> Task:
        """Calls `done` on this event loop when `work` is."""
        task = Task(work, done)
        self._put(task)
        return task

    def _put(self, task: Task) -> None:
        if self._inbox is None:
            self._inbox = SimpleQueue()
            arguments = (self._inbox, asyncio.get_running_loop())
            threading.Thread(
                target=_work, args=arguments, name=f"model-{self._name}", daemon=True
            ).start()
        self._inbox.put(task)

    async def run(
        self, work: Callable[[], Any], deadline: float | None = None
    ) -> tuple[Any, float]:
        """The answer, and the seconds it took without the wait.

        Who is cancelled at his `deadline` leaves the thread to the work that it hangs in.
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        task = self.submit(work, lambda _: None if ended.done() else ended.set_result(None))
        try:
            await ended
        except asyncio.CancelledError:
            task.cancel()
            if deadline is not None and loop.time() >= deadline and task.begun:
                self.abandon(task)
            raise
        if task.error is not None:
            raise task.error
        return task.answer, task.seconds

    def abandon(self, task: Task) -> bool:
        """Leaves the thread to the task it hangs in, and goes on with a new one.

        Not for ever: when several hang, the model is beyond help, and more threads would only take
        memory.
        """
        if self._inbox is None or len(self._given_up) >= MOST_GIVEN_UP:
            return False
        done = task.done

        def returned(task: Task) -> None:
            self._given_up.remove(task)
            done(task)

        task.done = returned
        self._given_up.append(task)
        behind = _drained(self._inbox)
        self.stop()
        for one in behind:
            if one is task:
                self._given_up.remove(task)  # It had not begun, and never will.
            else:
                self._put(one)
        return True

    def stop(self) -> None:
        """Lets the thread end when it has done what it was given."""
        if self._inbox is not None:
            self._inbox.put(None)
            self._inbox = None


def _drained(inbox: Inbox) -> list[Task]:
    """What waits behind the work that a thread hangs in."""
    behind = []
    with suppress(Empty):
        while (task := inbox.get_nowait()) is not None:
            behind.append(task)
    return behind


def _work(inbox: Inbox, loop: asyncio.AbstractEventLoop) -> None:
    while (task := inbox.get()) is not None:
        task.run()
        try:
            loop.call_soon_threadsafe(task.done, task)
        except RuntimeError:
            return  # The loop is closed: nobody waits any more.
        del task


class Gate:
    """At most so many at once, and so many that wait; the rest is refused.

    Attributes:
        free: places that nobody has.
    """

    def __init__(self, name: str, at_once: int, waiting: int) -> None:
        self._name = name
        self.free = at_once
        self._most = waiting
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    async def enter(self) -> None:
        if self.free > 0:
            self.free -= 1
            return
        if len(self._waiters) >= self._most:
            raise overloaded(self._name, len(self._waiters))
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.leave()  # Its turn had come.
            elif turn in self._waiters:
                self._waiters.remove(turn)
            raise

    def leave(self) -> None:
        """The place goes to who waits longest."""
        while self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1

    async def __aenter__(self) -> None:
        await self.enter()

    async def __aexit__(self, *raised: object) -> None:
        self.leave()


def overloaded(name: str, waiting: int) -> Overloaded:
    return Overloaded(
        f"Model {name} has {waiting} requests waiting, which is all that this server holds.",
        fix="Try again later, or serve the model with more replicas.",
    )
