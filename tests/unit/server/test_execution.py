"""Where a model runs follows from what it was measured to take."""

from __future__ import annotations

import asyncio
import threading

import pytest

from kedge.protocol.errors import Overloaded
from kedge.server.execution import Gate, Pace, Worker


def test_a_quick_model_runs_inline() -> None:
    pace = Pace()
    pace.decide([0.5, 0.0001, 0.0001])  # The first run paid for lazy imports.
    assert pace.inline
    assert pace.rows == 50


def test_a_slow_model_does_not() -> None:
    pace = Pace()
    pace.decide([0.02, 0.02, 0.02])
    assert not pace.inline


def test_a_model_moves_when_it_turns_out_otherwise() -> None:
    pace = Pace()
    pace.decide([0.001, 0.001])
    for _ in range(9):
        pace.note(0.03)
    assert not pace.inline
    for _ in range(9):
        pace.note(0.001)
    assert pace.inline


def test_one_that_is_far_too_slow_is_not_tried_again() -> None:
    pace = Pace()
    pace.decide([0.001, 0.001])
    pace.note(0.2)
    assert not pace.inline


def test_a_measurement_that_was_held_up_is_set_right() -> None:
    pace = Pace()
    pace.decide([0.001, 0.001])
    pace.note(0.5, rows=64)
    assert pace.rows == 1
    pace.note(0.001, rows=16)
    assert pace.rows == 80


def test_wide_requests_teach_what_a_row_costs() -> None:
    pace = Pace()
    pace.decide([0.001, 0.001])
    assert pace.rows == 5
    pace.note(0.002, rows=100)  # Ran in the thread, and was mostly overhead after all.
    assert pace.rows == 250
    pace.note(2.0, rows=100_000)
    assert pace.rows == 250


def test_wide_requests_do_not_make_a_quick_model_slow() -> None:
    pace = Pace()
    pace.decide([0.001, 0.001])
    for _ in range(20):
        pace.note(1.0, rows=1000)
    assert pace.inline


async def test_a_worker_answers_from_its_thread() -> None:
    worker = Worker("m")
    answer, seconds = await worker.run(lambda: 7)
    assert answer == 7
    assert seconds >= 0
    worker.stop()
    worker.stop()


async def test_a_gate_lets_in_so_many_and_refuses_what_cannot_wait() -> None:
    gate = Gate("m", 1, 1)
    order: list[str] = []

    async def enter(name: str) -> None:
        async with gate:
            order.append(name)
            await asyncio.sleep(0)

    first, second, third = (asyncio.create_task(enter(name)) for name in "abc")
    await asyncio.wait([first, second, third])
    assert isinstance(third.exception(), Overloaded)
    gone = asyncio.create_task(enter("d"))
    waits = asyncio.create_task(enter("e"))
    await asyncio.sleep(0)
    waits.cancel()
    await asyncio.wait([gone, waits])
    await enter("f")
    assert order == ["a", "b", "d", "f"]


async def test_a_thread_that_hangs_is_given_up() -> None:
    worker = Worker("m")
    free = threading.Event()
    hangs = worker.submit(free.wait, lambda task: None)
    assert worker.abandon(hangs)
    assert (await worker.run(lambda: 7))[0] == 7
    free.set()
    cancelled = worker.submit(lambda: 1 / 0, lambda task: None)
    cancelled.cancel()
    with pytest.raises(ZeroDivisionError):
        await worker.run(lambda: 1 / 0)
    assert cancelled.error is None
    worker.stop()
