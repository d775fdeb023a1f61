"""Models whose `predict` is a generator: what it yields, one after the other."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from kedge.server.batching import took_too_long
from kedge.server.execution import Worker

if TYPE_CHECKING:
    from kedge.server.repository import Entry

END: Final = object()

Given = TypeVar("Given")


async def settled(outcome: Any) -> Any:
    """What a step gave, synchronous or not."""
    return await outcome if inspect.isawaitable(outcome) else outcome


class Talk:
    """One request with many answers: its place at the model, its deadline, its generator.

    A deadline ends it whatever it is at: waiting for its place, for the model, or for a client that
    does not read. Then place and generator are given back at once.
    """

    def __init__(self, entry: Entry, seconds: float) -> None:
        self._entry = entry
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self.deadline = self._loop.time() + seconds if seconds else None
        self._results: AsyncGenerator[Any, None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._asking = False
        self._inside = False
        self._holds = False
        self._over = False

    async def begin(self, predict: Callable[[], Awaitable[Any]]) -> None:
        """Waits for a place at the model, and asks it for its generator."""
        entry = self._entry
        entry.hold()
        self._holds = True
        if entry.gate is not None:
            await self.ask(entry.gate.enter)
        self._inside = True
        entry.metrics.in_flight += 1
        if self.deadline is not None:
            self._timer = self._loop.call_at(self.deadline, self._overdue)
        self._results = each(entry.worker, await self.ask(predict), self.deadline)

    async def next(self, finish: Callable[[Any], Awaitable[Given]]) -> Given | object:
        """What `finish` makes of the next item; `END` after the last."""

        async def step() -> Given | object:
            results = self._results
            assert results is not None
            item = await anext(results, END)
            return END if item is END else await finish(item)

        return await self.ask(step)

    async def ask(self, step: Callable[[], Awaitable[Given]]) -> Given:
        """What `step` gives, in time."""
        if self._over:
            raise took_too_long(self._entry.model.name, self._seconds)
        self._asking = True
        limit = asyncio.timeout_at(self.deadline)
        try:
            async with limit:
                return await step()
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise took_too_long(self._entry.model.name, self._seconds) from error
        finally:
            self._asking = False

    def _overdue(self) -> None:
        """Nobody asks for the next answer: the client does not read those it has."""
        self._over = True
        if not self._asking:
            self._closing = self._loop.create_task(self.end())

    async def end(self) -> None:
        """Gives everything back. May be called again."""
        if self._timer is not None:
            self._timer.cancel()
        results, self._results = self._results, None
        inside, self._inside = self._inside, False
        try:
            if results is not None:
                await results.aclose()
        finally:
            if inside:
                self._entry.metrics.in_flight -= 1
                if self._entry.gate is not None:
                    self._entry.gate.leave()
            if self._holds:
                self._holds = False
                self._entry.release()


async def each(
    worker: Worker, results: Any, deadline: float | None = None
) -> AsyncGenerator[Any, None]:
    """The items of a generator; a synchronous one runs in the model's thread, and ends there."""
    if isinstance(results, AsyncIterator):
        try:
            async for item in results:
                yield item
        finally:
            if isinstance(results, AsyncGenerator):
                await results.aclose()
        return
    turns = _Turns(results)
    try:
        while True:
            item, _ = await worker.run(turns.next, deadline)
            if item is END:
                return
            yield item
    finally:
        turns.over = True
        worker.submit(turns.close, lambda _: None)


class _Turns:
    """A plain generator in a thread; it is closed there, too, even when that thread was given up.

    Attributes:
        over: nobody will ask for the next item.
    """

    def __init__(self, results: Generator[Any, Any, Any]) -> None:
        self._results = results
        self.over = False

    def next(self) -> Any:
        item = next(self._results, END)
        if self.over:
            self._results.close()
        return item

    def close(self) -> None:
        with suppress(ValueError):  # It is being asked in the thread that was given up.
            self._results.close()
