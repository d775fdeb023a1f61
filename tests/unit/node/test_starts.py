"""The phases of a start: divided, told, read back."""

from __future__ import annotations

from kedge.cluster.base import Object
from kedge.cluster.local.node.starts import CONDITION, Start, Wakes, make_start, read
from kedge.testing.clock import FakeClock


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


def pod(deployment: str) -> Object:
    owner = {"kind": "ReplicaSet", "name": f"{deployment}-5d9c7f"}
    return {"metadata": {"namespace": "ns", "name": "p", "ownerReferences": [owner]}}


async def test_a_wake_belongs_to_the_next_pod_of_its_service() -> None:
    clock = FakeClock()
    wakes = Wakes(clock)
    await clock.advance(5)
    wakes.note("ns/iris-predictor-00001-private")
    await clock.advance(1)
    wakes.note("ns/iris-predictor-00001-private")
    assert wakes.asked(pod("other")) is None
    assert wakes.asked(pod("iris-predictor-00001")) == 5.0
    assert wakes.asked(pod("iris-predictor-00001")) is None
    wakes.note("ns/iris-predictor-00001-private")
    await clock.advance(100)
    assert wakes.asked(pod("iris-predictor-00001")) is None


def test_the_request_that_woke_it_comes_first() -> None:
    start = make_start(1.0, 1.5, 2.0, True, {}, woken=0.75)
    assert next(iter(start.phases.items())) == ("scheduled", 0.25)
