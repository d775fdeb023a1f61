"""The queue: once per key, never twice at once, retries that slow down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from kedge.cluster.errors import TooManyRequests, Unavailable
from kedge.lib.backoff import Backoff
from kedge.lib.errors import TerminalError
from kedge.reconcile import Controller, Key, Result
from kedge.testing.clock import FakeClock

A = Key("ns", "a")
B = Key("ns", "b")


@asynccontextmanager
async def running(
    reconcile: Callable[[Key], Awaitable[Result | None]], clock: FakeClock, workers: int = 2
) -> AsyncIterator[Controller]:
    controller = Controller(
        "test", reconcile, workers=workers, backoff=Backoff(initial=1.0, limit=8.0), clock=clock
    )
    task = asyncio.create_task(controller.run())
    try:
        yield controller
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Recorder:
    """A reconciler that notes when it was called and answers as told."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.calls: list[tuple[float, str]] = []
        self.answers: list[Result | Exception | None] = []
        self.gate: asyncio.Event | None = None

    async def __call__(self, key: Key) -> Result | None:
        self.calls.append((self.clock.monotonic(), key.name))
        if self.gate is not None:
            await self.gate.wait()
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_a_key_enqueued_many_times_runs_once() -> None:
    clock = FakeClock()
    work = Recorder(clock)
    async with running(work, clock) as controller:
        for _ in range(3):
            controller.enqueue(A)
        controller.enqueue(B)
        await clock.settle()
    assert work.calls == [(0, "a"), (0, "b")]


async def test_keys_may_be_enqueued_before_the_controller_runs() -> None:
    clock = FakeClock()
    work = Recorder(clock)
    controller = Controller("test", work, clock=clock)
    controller.enqueue(A)
    controller.enqueue(B, after=2)
    task = asyncio.create_task(controller.run())
    await clock.advance(3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert work.calls == [(0, "a"), (2, "b")]


async def test_a_key_in_work_is_not_run_twice_at_once_but_once_more_after() -> None:
    clock = FakeClock()
    work = Recorder(clock)
    work.gate = asyncio.Event()
    async with running(work, clock) as controller:
        controller.enqueue(A)
        await clock.settle()
        controller.enqueue(A)
        controller.enqueue(A)
        await clock.settle()
        assert len(work.calls) == 1
        work.gate.set()
        await clock.settle()
    assert len(work.calls) == 2


async def test_different_keys_run_side_by_side() -> None:
    clock = FakeClock()
    work = Recorder(clock)
    work.gate = asyncio.Event()
    async with running(work, clock) as controller:
        controller.enqueue(A)
        controller.enqueue(B)
        await clock.settle()
        assert len(work.calls) == 2


async def test_what_comes_together_is_looked_at_together() -> None:
    clock = FakeClock()
    work = Recorder(clock)
    controller = Controller("test", work, clock=clock, rest=0.2)
    task = asyncio.create_task(controller.run())
    controller.enqueue_soon(A)
    controller.enqueue_soon(A)
    await clock.advance(0.1)
    assert work.calls == []
    controller.enqueue_soon(B, at_most=0.05)
    controller.enqueue_soon(A)
    await clock.advance(1)
    assert [name for _, name in work.calls] == ["b", "a"]
    assert [round(when, 2) for when, _ in work.calls] == [0.15, 0.2]
    # A change that follows a look waits out the rest, and one that is asked for does too.
    controller.enqueue(A)
    await clock.advance(0.1)
    controller.enqueue_soon(A)
    controller.enqueue(A)
    await clock.advance(1)
    assert [round(when, 2) for when, name in work.calls if name == "a"] == [0.2, 1.1, 1.3]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_earliest_delay_counts() -> None:
    clock = FakeClock()
    work = Recorder(clock)
    async with running(work, clock) as controller:
        controller.enqueue(A, after=10)
        controller.enqueue(A, after=3)
        controller.enqueue(A, after=7)
        controller.enqueue(B, after=5)
        await clock.advance(20)
    assert work.calls == [(3, "a"), (5, "b")]


async def test_errors_are_retried_with_growing_delay_and_success_resets_it() -> None:
    clock = FakeClock()
    work = Recorder(clock)
    work.answers = [ValueError("1"), ValueError("2"), ValueError("3"), None, ValueError("4")]
    async with running(work, clock) as controller:
        controller.enqueue(A)
        await clock.advance(50)
        controller.enqueue(A)
        await clock.advance(1)
    assert [when for when, _ in work.calls] == [0, 1, 3, 7, 50, 51]


async def test_a_terminal_error_waits_for_a_change() -> None:
    clock = FakeClock()
    work = Recorder(clock)
    work.answers = [TerminalError("no")]
    async with running(work, clock) as controller:
        controller.enqueue(A)
        await clock.advance(100)
        assert len(work.calls) == 1
        controller.enqueue(A)
        await clock.settle()
    assert len(work.calls) == 2


async def test_requeue_after_runs_the_key_again() -> None:
    clock = FakeClock()
    work = Recorder(clock)
    work.answers = [Result(requeue_after=30), Result(requeue_after=0)]
    async with running(work, clock) as controller:
        controller.enqueue(A)
        await clock.advance(31)
    assert [when for when, _ in work.calls] == [0, 30, 30]


async def test_the_servers_retry_after_is_respected() -> None:
    clock = FakeClock()
    work = Recorder(clock)
    work.answers = [TooManyRequests("slow down", details={"retryAfterSeconds": 5})]
    async with running(work, clock) as controller:
        controller.enqueue(A)
        await clock.advance(6)
    assert [when for when, _ in work.calls] == [0, 5]


async def test_a_server_that_was_away_is_tried_again_soon() -> None:
    clock = FakeClock()
    work = Recorder(clock)
    work.answers = [Unavailable("away") for _ in range(4)]
    async with running(work, clock) as controller:
        controller.enqueue(A)
        await clock.advance(10)
    assert [when for when, _ in work.calls] == [0, 1, 2, 3, 4]


async def test_a_key_rests_and_then_sees_all_that_changed() -> None:
    clock, seen = FakeClock(), []

    async def reconcile(key: Key) -> None:
        seen.append(clock.monotonic())

    controller = Controller("test", reconcile, clock=clock, rest=1.0)
    running = asyncio.create_task(controller.run())
    key = Key("ns", "one")
    controller.enqueue(key)
    await clock.settle()
    for _ in range(3):
        controller.enqueue(key)
        await clock.advance(0.2)
    assert seen == [0.0]
    await clock.advance(0.4)
    assert seen == [0.0, 1.0]
    await clock.advance(5)
    assert seen == [0.0, 1.0]
    controller.enqueue(key)
    await clock.settle()
    assert len(seen) == 3
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
