"""Where a model runs follows from what it was measured to take."""

from __future__ import annotations

from kedge.server.execution import Pace, Worker


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
        pace.note(0.05)
    assert not pace.inline
    for _ in range(9):
        pace.note(0.001)
    assert pace.inline


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
    worker: Worker[int] = Worker("m")
    answer, seconds = await worker.run(lambda: 7)
    assert answer == 7
    assert seconds >= 0
    worker.stop()
    worker.stop()
