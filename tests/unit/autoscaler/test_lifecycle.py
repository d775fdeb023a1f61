"""From a wanted number to replicas, as the table of facts on Knative has it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.autoscaler.lifecycle import Lifecycle, Phase, Scene, Step
from kedge.autoscaler.parameters import Parameters


class Story:
    """One Deployment: its pods are ready as soon as they are asked for, unless said."""

    def __init__(self, replicas: int = 1, ready: int | None = None, **parameters: Any) -> None:
        self.parameters = Parameters(**parameters)
        self.replicas = replicas
        self.ready = replicas if ready is None else ready
        self.life = Lifecycle(0, self.ready, replicas, proven=self.parameters.proven)
        self.watched_since: float | None = -1000.0

    def is_in(self, phase: Phase) -> bool:
        return self.life.phase is phase

    def at(self, now: float, desired: int | None, ready: int | None = None, keep: str = "") -> Step:
        if ready is not None:
            self.ready = ready
        scene = Scene(now, desired, self.ready, self.replicas, self.watched_since, keep)
        step = self.life.step(scene, self.parameters)
        self.replicas = step.replicas
        if ready is None:
            self.ready = step.replicas
        return step


def test_unknown_keeps_what_there_is() -> None:
    assert Story(3).at(0, None).replicas == 3
    assert Story(0).at(0, None).replicas == 0


def test_bounds() -> None:
    assert Story(1, min_scale=2, max_scale=5).at(0, 1).replicas == 2
    assert Story(1, min_scale=2, max_scale=5).at(0, 3).replicas == 3
    assert Story(1, min_scale=2, max_scale=5).at(0, 9).replicas == 5
    assert Story(1, max_scale=0).at(0, 900).replicas == 900
    assert Story(2, min_scale=2, reachable=False).at(0, 1).replicas == 1


def test_scale_to_zero_may_be_off() -> None:
    story = Story(1, scale_to_zero=False)
    assert story.at(1000, 0).replicas == 1


def test_active_for_less_than_a_window_keeps_one() -> None:
    story = Story(1)
    assert story.at(59, 0) == Step(1, 1, "it has been active for less than 1m", again=60)


def test_the_last_pod_goes_in_two_steps() -> None:
    story = Story(1)
    story.at(0, 1)
    marked = story.at(60, 0)
    assert (marked.replicas, marked.wanted) == (1, 0)
    assert story.is_in(Phase.INACTIVE)
    assert story.at(62, 0).replicas == 0


def test_the_gateway_must_have_been_in_the_way_for_the_grace_period() -> None:
    story = Story(1, grace=30)
    story.watched_since = 50.0
    story.at(60, 0)
    assert story.at(62, 0).replicas == 1
    assert story.at(79, 0).again == 80
    assert story.at(80, 0).replicas == 0


def test_the_grace_period_is_waited_for_when_nobody_watches() -> None:
    story = Story(1, grace=30)
    story.watched_since = None
    story.at(60, 0)
    assert story.at(89, 0).replicas == 1
    assert story.at(90, 0).replicas == 0


def test_retention_is_a_hard_minimum_but_not_for_the_unreachable() -> None:
    story = Story(1, retention=100)
    story.at(60, 0)
    assert story.at(159, 0).replicas == 1
    assert story.at(160, 0).replicas == 0
    gone = Story(1, retention=100, reachable=False)
    gone.at(10, 0)
    assert gone.at(12, 0).replicas == 0


def test_a_request_on_the_way_out_keeps_the_pod() -> None:
    story = Story(1, retention=100)
    story.at(60, 0)
    assert story.at(100, 1).replicas == 1
    assert story.is_in(Phase.ACTIVE)
    assert story.at(102, 0).replicas == 1
    story.at(160, 0)
    assert story.at(161, 0).replicas == 1
    assert story.at(261, 0).replicas == 0


def test_starting_is_waited_for_until_the_deadline() -> None:
    story = Story(0, progress_deadline=600)
    assert story.at(0, 1, ready=0).replicas == 1
    assert story.is_in(Phase.ACTIVATING)
    assert story.at(300, 0, ready=0).replicas == 1
    assert story.at(629, 0, ready=0).replicas == 1
    assert story.at(630, 0, ready=0).replicas == 0
    assert story.is_in(Phase.INACTIVE)


def test_while_somebody_waits_starting_is_not_given_up() -> None:
    story = Story(0, progress_deadline=60)
    for now in range(0, 500, 2):
        assert story.at(now, 1, ready=0).replicas == 1


def test_initial_scale_is_held_until_it_was_reached_once() -> None:
    story = Story(3, ready=0, initial_scale=3, proven=False)
    assert story.at(10, 0, ready=2).replicas == 3
    story.parameters = Parameters(initial_scale=3, proven=True)
    assert story.at(20, 0, ready=2).replicas == 3
    story.life.asked = True
    assert story.at(30, 0, ready=3) == Step(1, 1, "it has been active for less than 1m", again=90)


def test_a_proof_is_released_once_it_is_proven_and_nobody_has_asked() -> None:
    story = Story(1, ready=0, proven=False)
    assert story.at(1, None, ready=0).replicas == 1
    assert story.at(2, 0, ready=1).replicas == 1
    story.parameters = Parameters(proven=True)
    assert story.at(3, 0, ready=1).replicas == 0
    kept = Story(1, ready=0, proven=False)
    kept.parameters = Parameters(proven=True, min_scale=1)
    assert kept.at(3, 0, ready=1).replicas == 1


def test_a_proof_is_released_before_the_first_report_tells_that_nobody_asks() -> None:
    story = Story(1, proven=False)
    assert story.at(0, None).replicas == 1
    story.parameters = Parameters(proven=True)
    assert story.at(1, None, keep="no gateway has reported yet").replicas == 1
    assert story.at(2, None).replicas == 0


def test_a_proof_that_somebody_asked_stays() -> None:
    story = Story(1, proven=False)
    story.life.asked = True
    story.parameters = Parameters(proven=True)
    assert story.at(1, None).replicas == 1


def test_a_proof_that_was_given_up_is_not_begun_again_until_the_pods_are_others() -> None:
    story = Story(1, ready=0, proven=False, progress_deadline=60)
    assert story.at(89, 0, ready=0).replicas == 1
    assert story.at(90, 0, ready=0).replicas == 0
    assert story.at(500, 0, ready=0).replicas == 0
    story.life.renew(500, proven=False)
    assert story.at(502, 0, ready=0).replicas == 1


def test_no_first_pod_is_needed_where_initial_scale_is_zero() -> None:
    story = Story(0, initial_scale=0, proven=False)
    assert story.at(0, None, ready=0).replicas == 0
    assert story.at(2, 2, ready=0).replicas == 2


def test_no_pod_goes_while_something_keeps_it() -> None:
    story = Story(4)
    assert story.at(100, 2, keep="a gateway is missing") == Step(4, 4, "a gateway is missing")
    assert story.at(102, 6, keep="a gateway is missing").replicas == 6
    story.parameters = Parameters(min_scale=7)
    assert story.at(104, 1, keep="a gateway is missing").replicas == 7


@pytest.mark.parametrize(
    ("desired", "ready", "minimum", "phase"),
    [
        (0, 0, 0, Phase.INACTIVE),
        (1, 0, 0, Phase.ACTIVATING),
        (1, 1, 0, Phase.ACTIVE),
        (3, 1, 0, Phase.ACTIVE),
        (1, 1, 2, Phase.ACTIVATING),
        (1, 2, 2, Phase.ACTIVE),
    ],
)
def test_phases(desired: int, ready: int, minimum: int, phase: Phase) -> None:
    story = Story(0, min_scale=minimum)
    story.at(1, desired, ready=ready)
    assert story.is_in(phase)


PARAMETERS = st.builds(
    Parameters,
    min_scale=st.integers(0, 3),
    max_scale=st.just(0) | st.integers(3, 10),
    initial_scale=st.integers(0, 3),
    scale_to_zero=st.booleans(),
    grace=st.floats(1, 60),
    retention=st.floats(0, 60),
    progress_deadline=st.floats(1, 100),
    reachable=st.booleans(),
    proven=st.booleans(),
)
TICKS = st.lists(
    st.tuples(st.none() | st.integers(0, 20), st.integers(0, 10), st.booleans()), max_size=60
)


@given(PARAMETERS, st.integers(0, 5), TICKS)
def test_bounds_hold_and_what_is_wanted_is_never_more_than_asked_for(
    parameters: Parameters, replicas: int, ticks: list[tuple[int | None, int, bool]]
) -> None:
    life = Lifecycle(0, 0, replicas, proven=parameters.proven)
    now = 0.0
    for desired, ready, kept in ticks:
        now += 2
        ready = min(ready, replicas)
        scene = Scene(now, desired, ready, replicas, 0.0, "keep" if kept else "")
        step = life.step(scene, parameters)
        least = parameters.min_scale if parameters.reachable else 0
        proof = parameters.initial_scale if parameters.reachable else 0
        assert step.replicas >= 0
        assert step.replicas >= min(least, parameters.max_scale or least)
        ceiling = parameters.max_scale or 1000
        assert step.replicas <= max(ceiling, replicas, proof)
        if kept:
            assert step.replicas >= replicas
        if desired:
            assert step.replicas >= min(desired, ceiling)
        if step.again is not None:
            assert step.again >= 0
        replicas = step.replicas


@given(PARAMETERS, st.integers(1, 5))
def test_without_requests_everything_that_may_go_goes(parameters: Parameters, pods: int) -> None:
    """Whatever was before: with nobody asking, the least is reached and kept."""
    life = Lifecycle(0, pods, pods, proven=parameters.proven)
    replicas, now = pods, 0.0
    for _ in range(400):
        now += 2
        step = life.step(Scene(now, min(replicas // 2, 10), replicas, replicas, 0.0), parameters)
        replicas = step.replicas
    least = parameters.min_scale if parameters.reachable else 0
    if not parameters.proven and parameters.reachable:
        least = max(least, parameters.initial_scale)
    if least == 0 and not parameters.scale_to_zero:
        least = 1
    assert replicas == least
