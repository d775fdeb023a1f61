"""The phases of a start: divided, told, read back."""

from __future__ import annotations

from kedge.cluster.local.node.starts import CONDITION, Start, make_start, read


def test_phases_are_the_time_between_moments() -> None:
    told = {"process": 10.05, "framework": 10.06, "weights": 10.09, "inference": 10.1}
    start = make_start(10.0, 10.02, 10.12, True, told)
    assert list(start.phases) == [
        "prepare", "process", "framework", "weights", "inference", "ready"
    ]  # fmt: skip
    assert round(start.phases["weights"], 3) == 0.03
    assert round(start.seconds, 6) == 0.12


def test_a_program_that_tells_nothing_has_one_phase_until_it_is_ready() -> None:
    start = make_start(1.0, 1.5, 4.0, False, {})
    assert start.phases == {"prepare": 0.5, "ready": 2.5}


def test_a_moment_out_of_order_makes_no_negative_phase() -> None:
    start = make_start(1.0, 1.5, 2.0, False, {"process": 1.2, "ready": 1.9})
    assert start.phases["process"] == 0.0
    assert start.seconds == 1.0


def test_the_condition_is_read_back() -> None:
    start = make_start(0.0, 0.01, 0.1, True, {"process": 0.03})
    condition = {"type": CONDITION, "reason": "Forked", "message": start.message}
    assert read({"status": {"conditions": [condition]}}) == Start(
        True, {"prepare": 0.01, "process": 0.02, "ready": 0.07}
    )
    assert read({"status": {}}) is None
