"""The decision of each tick, as the table of facts on Knative's autoscaler has it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedge.autoscaler.kpa import Decider, Load
from kedge.autoscaler.parameters import Parameters

ONE_EACH = Parameters(total=1, utilization=1)


def decide(
    stable: float,
    ready: int,
    parameters: Parameters = ONE_EACH,
    panic: float | None = None,
    decider: Decider | None = None,
    now: float = 0,
) -> int:
    load = Load(stable, stable if panic is None else panic)
    return (decider or Decider()).decide(now, load, ready, parameters).desired


def test_five_in_flight_at_a_target_of_one_are_eight_pods() -> None:
    assert decide(5, 8, Parameters(total=1)) == 8


@pytest.mark.parametrize(
    ("stable", "ready", "expected"),
    [
        (0, 1, 0),
        (0.01, 1, 1),
        (1, 1, 1),
        (1.01, 2, 2),
        (0, 10, 5),
        (0, 11, 5),
        (0, 3, 1),
        (7, 10, 7),
        (0, 0, 0),
    ],
)
def test_when_calm_the_load_is_divided_and_at_most_halved(
    stable: float, ready: int, expected: int
) -> None:
    assert decide(stable, ready) == expected


def test_a_burst_from_zero_is_answered_at_once() -> None:
    assert decide(700, 0, Parameters(total=100)) == 10


def test_no_more_than_the_rate_allows() -> None:
    assert decide(5000, 0) == 1000
    assert decide(5000, 2) == 2000
    assert decide(50, 3, Parameters(total=1, utilization=1, max_scale_up_rate=1.5)) == 5


def test_unreachable_may_go_to_zero_at_once() -> None:
    assert decide(0, 10, Parameters(total=1, utilization=1, reachable=False)) == 0


def test_one_ready_pod_panics_above_its_target() -> None:
    decider = Decider()
    assert not decider.decide(0, Load(1, 1), 1, ONE_EACH).panicking
    assert decider.decide(0, Load(1, 1.01), 1, ONE_EACH).panicking


def test_panic_uses_the_short_window_and_only_grows() -> None:
    decider = Decider()
    assert decide(1, 2, panic=4, decider=decider, now=0) == 4
    assert decide(1, 4, panic=2, decider=decider, now=2) == 4
    assert decide(6, 4, panic=2, decider=decider, now=4) == 6
    assert decide(1, 6, panic=0, decider=decider, now=6) == 6


def test_panic_ends_a_stable_window_after_it_was_last_needed() -> None:
    decider = Decider()
    decide(1, 2, panic=10, decider=decider, now=0)
    decide(10, 5, panic=10, decider=decider, now=20)
    assert decide(1, 10, panic=1, decider=decider, now=80) == 10
    assert decider.panicking
    assert decide(1, 10, panic=1, decider=decider, now=80.5) == 5
    assert not decider.panicking
    assert decide(1, 5, panic=1, decider=decider, now=82) == 2


def test_the_threshold_is_not_bounded_by_the_rate() -> None:
    slow = Parameters(total=1, utilization=1, max_scale_up_rate=1.1, panic_threshold=5)
    decider = Decider()
    decision = decider.decide(0, Load(1, 50), 10, slow)
    assert decision.panicking
    assert decision.desired == 11
    assert decision.limited == "up"


def test_taken_over_pods_stay_for_a_window() -> None:
    decider = Decider()
    decider.resume(100, 7)
    assert decide(0, 7, decider=decider, now=102) == 7
    assert decide(0, 7, decider=decider, now=160) == 7
    assert decide(0, 7, decider=decider, now=162) == 3
    lone = Decider()
    lone.resume(100, 1)
    assert decide(0, 1, decider=lone, now=102) == 0


def test_activation_scale_is_a_floor_under_any_load() -> None:
    parameters = Parameters(total=1, utilization=1, activation_scale=5)
    assert decide(0, 1, parameters) == 0
    assert decide(0.5, 1, parameters) == 5
    assert decide(7, 6, parameters) == 7
    decider = Decider()
    decision = decider.decide(0, Load(0.5, 3), 1, parameters)
    assert (decision.desired, decision.panicking, decision.limited) == (5, True, "activation")


def test_scale_down_waits_for_its_delay() -> None:
    parameters = Parameters(total=1, utilization=1, scale_down_delay=10)
    decider = Decider()
    assert decide(5, 5, parameters, decider=decider, now=0) == 5
    for now in (2, 4, 6, 8):
        assert decide(3, 5, parameters, decider=decider, now=now) == 5
    assert decide(3, 5, parameters, decider=decider, now=10) == 3
    assert decide(9, 5, parameters, decider=decider, now=12) == 9
    gone = Parameters(total=1, utilization=1, scale_down_delay=10, reachable=False)
    assert decide(0, 9, gone, decider=decider, now=14) == 0


LOADS = st.floats(0, 1e5, allow_nan=False)
PARAMETERS = st.builds(
    Parameters,
    total=st.floats(0.01, 1000),
    utilization=st.floats(0.01, 1),
    panic_threshold=st.floats(1.1, 10),
    max_scale_up_rate=st.floats(1.1, 1000),
    max_scale_down_rate=st.floats(1.01, 10),
    activation_scale=st.just(0) | st.integers(2, 20),
    scale_down_delay=st.just(0) | st.floats(0, 60),
    reachable=st.booleans(),
)
HISTORY = st.lists(st.tuples(LOADS, LOADS, st.integers(0, 500)), max_size=20)


@given(PARAMETERS, HISTORY)
def test_never_more_than_the_rate_or_the_past_and_never_too_few_at_once(
    parameters: Parameters, history: list[tuple[float, float, int]]
) -> None:
    decider, seen = Decider(), 0
    for tick, (stable, panic, ready) in enumerate(history):
        decision = decider.decide(tick * 2.0, Load(stable, panic), ready, parameters)
        base = max(1, ready)
        most = max(
            math.ceil(parameters.max_scale_up_rate * base), parameters.activation_scale, seen
        )
        assert 0 <= decision.desired <= most
        if parameters.reachable:
            assert decision.desired >= math.floor(base / parameters.max_scale_down_rate)
        if stable > 0:
            needed = math.ceil(stable / parameters.target)
            assert decision.desired >= min(needed, math.ceil(parameters.max_scale_up_rate * base))
        seen = max(seen, decision.desired)


@given(PARAMETERS, LOADS, LOADS, LOADS, LOADS, st.integers(0, 100))
def test_more_load_never_means_fewer_pods(
    parameters: Parameters, stable: float, panic: float, more: float, burst: float, ready: int
) -> None:
    low = Decider().decide(0, Load(stable, panic), ready, parameters)
    high = Decider().decide(0, Load(stable + more, panic + burst), ready, parameters)
    assert high.desired >= low.desired


@settings(max_examples=40)
@given(PARAMETERS, st.floats(0, 1000), st.integers(1, 5))
def test_the_same_load_comes_to_rest(parameters: Parameters, load: float, ready: int) -> None:
    """With pods that get ready at once, a steady load is answered by one number for good."""
    decider, now = Decider(), 0.0
    for _ in range(300):
        now += 2
        ready = decider.decide(now, Load(load, load), ready, parameters).desired
    settled = decider.decide(now + 2, Load(load, load), ready, parameters).desired
    assert settled == ready
    needed = math.ceil(load / parameters.target)
    assert settled >= needed or needed > parameters.max_scale_up_rate * ready
