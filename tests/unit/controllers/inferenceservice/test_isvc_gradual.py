"""Gradual rollouts: the steps of Knative, on a clock turned by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.controllers.inferenceservice.gradual import Progress, go_on, read, write
from kedge.controllers.inferenceservice.traffic import Target, shares, spread

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def begin(percent: int = 100, before: dict[str, int] | None = None, **changes: object) -> Progress:
    options = {"duration": 120.0, "acknowledged": True, "now": START, **changes}
    found = go_on(None, "2", percent, before or {"1": 100}, **options)  # type: ignore[arg-type]  # keywords by name
    assert found is not None
    return found


def step(progress: Progress | None, now: float, percent: int = 100, latest: str = "2",
         *, acknowledged: bool = True) -> Progress | None:  # fmt: skip
    return go_on(
        progress, latest, percent, {}, duration=120, acknowledged=acknowledged, now=at(now)
    )


def test_the_example_of_the_specification() -> None:
    """100 %, 120 s, the gateway ready after 2 s: 59 steps of 2 % every 2 s."""
    progress: Progress | None = begin()
    assert progress is not None
    assert progress.shares == (("1", 99), ("2", 1))
    assert step(progress, 1, acknowledged=False) == progress
    progress = step(progress, 2)
    assert progress is not None
    assert (progress.step, progress.seconds, progress.due) == (2, 2.0, at(4))
    assert step(progress, 3.9) == progress
    progress = step(progress, 4)
    assert progress is not None
    assert progress.shares == (("1", 97), ("2", 3))
    # Seen late: all that was due in the meantime, no more.
    progress = step(progress, 60.5)
    assert progress is not None
    assert progress.shares == (("1", 41), ("2", 59))
    assert progress.due == at(62)
    assert step(progress, 200) is None


@pytest.mark.parametrize(
    ("why", "options"),
    [
        ("no duration", {"duration": 0.0}),
        ("one percent", {"percent": 1}),
        ("nothing", {"percent": 0}),
        ("it has the share already", {"before": {"1": 90, "2": 10}}),
    ],
)
def test_what_moves_at_once(why: str, options: dict[str, object]) -> None:
    given: dict[str, object] = {"percent": 100, "before": {"1": 100}, "duration": 120.0, **options}
    found = go_on(
        None, "2", acknowledged=True, now=START, **given,  # type: ignore[arg-type]  # keywords by name
    )  # fmt: skip
    assert found is None


def test_a_canary_takes_its_share_bit_by_bit() -> None:
    progress = begin(20)
    targets = [Target("2", 20, latest=True), Target("1", 80, tag="prev")]
    assert shares(spread(targets, progress.shares)) == {"2": 1, "1": 99}
    assert [target.tag for target in spread(targets, progress.shares)] == ["", "prev"]


def test_a_share_that_is_edited_on_the_way() -> None:
    progress = begin(50)
    more = step(progress, 1, 60)
    assert more is not None
    assert dict(more.shares)["2"] == 11
    less = step(progress, 1, 10)
    assert less is not None
    assert less.shares == (("1", 9), ("2", 1))
    assert step(progress, 1, 1) is None
    assert step(progress, 1, 0) is None


def test_a_further_revision_begins_on_top() -> None:
    progress = step(begin(), 2)
    progress = step(progress, 60)
    assert progress is not None
    third = step(progress, 61, latest="3")
    assert third is not None
    assert [name for name, _ in third.shares] == ["1", "2", "3"]
    assert dict(third.shares)["3"] == 1
    assert dict(third.shares)["2"] == dict(progress.shares)["2"] - 1
    assert third.since == at(61)
    # The second newest goes first.
    third = step(step(third, 62), 100, latest="3")
    assert third is not None
    assert dict(third.shares)["1"] == dict(progress.shares)["1"]


def test_the_state_survives_and_nonsense_is_forgotten() -> None:
    progress = step(begin(), 2)
    assert progress is not None
    assert read(write(progress)) == progress
    for text in (
        None, "", "{", "[]", '{"revisions":[],"since":"2026-01-01T00:00:00Z"}',
        '{"revisions":[["1",60],["2",60]],"since":"2026-01-01T00:00:00Z"}',
        '{"revisions":[["1",0]],"since":"2026-01-01T00:00:00Z"}',
        '{"revisions":[["1",9]],"since":"2026-01-01T00:00:00Z","step":-1}',
    ):  # fmt: skip
        assert read(text) is None, text


@given(
    st.integers(2, 100), st.floats(1, 1000),
    st.lists(st.tuples(st.floats(0.01, 50), st.booleans(), st.sampled_from("2345")), max_size=40),
)  # fmt: skip
def test_shares_always_add_up(
    percent: int, duration: float, events: list[tuple[float, bool, str]]
) -> None:
    progress: Progress | None = None
    now, latest = START, "1"
    for pause, acknowledged, name in events:
        now += timedelta(seconds=pause)
        latest = max(latest, name)
        before = {"1": 100} if progress is None else {}
        progress = go_on(
            progress, latest, percent, before, duration=duration, acknowledged=acknowledged,
            now=now,
        )  # fmt: skip
        if progress is not None:
            assert progress.total == percent
            assert progress.newest == latest
            assert all(share > 0 for _, share in progress.shares)
            assert len({name for name, _ in progress.shares}) == len(progress.shares)
