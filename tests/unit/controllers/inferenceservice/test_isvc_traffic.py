"""Shares of revisions: the table of KServe's rules, and where Kedge does better."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.controllers.inferenceservice.children.httproute import Backend
from kedge.controllers.inferenceservice.children.service import Ports
from kedge.controllers.inferenceservice.routing import decide, withdraw
from kedge.controllers.inferenceservice.traffic import Rollout, advance, plan_traffic, shares


def rollout(created: str, ready: str, rolled: str = "", previous: str = "") -> Rollout:
    return Rollout(created, ready, rolled, previous)


@pytest.mark.parametrize(
    ("situation", "state", "percent", "current", "expected"),
    [
        ("first, not ready yet", rollout("1", ""), 10, {}, {"1": 100}),
        ("first, any percent", rollout("1", "1"), 10, {"1": 100}, {"1": 100}),
        ("update with 10", rollout("2", "2", "1"), 10, {"1": 100}, {"2": 10, "1": 90}),
        ("not ready yet", rollout("2", "1", "1"), 10, {"1": 100}, {"1": 100}),
        ("raise to 50", rollout("2", "2", "1"), 50, {"2": 10, "1": 90}, {"2": 50, "1": 50}),
        ("second change", rollout("3", "3", "1"), 10, {"2": 10, "1": 90}, {"3": 10, "1": 90}),
        ("third fails", rollout("3", "2", "1"), 10, {"2": 10, "1": 90}, {"2": 10, "1": 90}),
        ("third fails, more", rollout("3", "2", "1"), 50, {"2": 10, "1": 90}, {"2": 10, "1": 90}),
        ("promote", rollout("2", "2", "1"), None, {"2": 10, "1": 90}, {"2": 100}),
        ("promote by 100", rollout("2", "2", "1"), 100, {"2": 10, "1": 90}, {"2": 100}),
        ("back mid-way", rollout("2", "2", "1"), 0, {"2": 10, "1": 90}, {"2": 0, "1": 100}),
        ("back after promotion", rollout("2", "2", "2", "1"), 0, {"2": 100}, {"2": 0, "1": 100}),
        ("nothing to go back to", rollout("1", "1", "1"), 0, {"1": 100}, {"1": 100}),
        ("canary after rollback", rollout("3", "2", "1", "1"), 20, {"1": 100}, {"2": 0, "1": 100}),
        ("half-rolled, then edit", rollout("3", "2", "1"), None, {"2": 10, "1": 90},
         {"2": 10, "1": 90}),
    ],
)  # fmt: skip
def test_shares(
    situation: str,
    state: Rollout,
    percent: int | None,
    current: dict[str, int],
    expected: dict[str, int],
) -> None:
    _, targets = plan_traffic(state, percent, current)
    assert shares(targets) == expected


def test_tags() -> None:
    _, targets = plan_traffic(rollout("2", "2", "1"), 10, {"1": 100}, tag_latest=True)
    assert [(t.revision, t.tag, t.latest) for t in targets] == [
        ("2", "latest", True), ("1", "prev", False),
    ]  # fmt: skip


def test_history_moves_with_all_the_requests_only() -> None:
    state = rollout("2", "2", "1")
    assert advance(state, {"2": 50, "1": 50}) == state
    assert advance(state, {"2": 100}) == rollout("2", "2", "2", "1")
    rolled_back, _ = plan_traffic(rollout("2", "2", "2", "1"), 0, {"2": 100})
    assert rolled_back == rollout("2", "2", "1", "1")
    assert advance(rolled_back, {"2": 0, "1": 100}) == rolled_back


revisions = st.sampled_from(["", "1", "2", "3"])


@given(
    revisions, revisions, revisions, revisions,
    st.none() | st.integers(0, 100),
    st.dictionaries(st.sampled_from("123"), st.integers(0, 100)),
)  # fmt: skip
def test_shares_always_make_a_whole(
    created: str,
    ready: str,
    rolled: str,
    previous: str,
    percent: int | None,
    current: dict[str, int],
) -> None:
    state = Rollout(created, ready, rolled, previous)
    _, targets = plan_traffic(state, percent, current)
    if created or ready:
        assert sum(target.percent for target in targets) == 100
        assert all(target.revision for target in targets)


def to(**weights: int) -> list[Backend]:
    return [Backend(name, weight, Ports(80, None)) for name, weight in weights.items()]


@pytest.mark.parametrize(
    ("why", "current", "desired", "ready", "known", "result", "pending"),
    [
        ("nothing routed yet", to(), to(a=100), "", "", to(a=100), ""),
        ("same", to(a=100), to(a=100), "a", "a", to(a=100), ""),
        ("not ready", to(a=100), to(b=100), "a", "b", to(a=100), "b"),
        ("not known", to(a=100), to(b=100), "ab", "", to(a=100), "b"),
        ("ready and known", to(a=100), to(b=100), "ab", "b", to(b=100), ""),
        ("what serves is dead", to(a=100), to(b=100), "b", "", to(b=100), ""),
        ("more for one that serves", to(a=50, b=50), to(a=10, b=90), "ab", "", to(a=10, b=90), ""),
        ("more for one that fails", to(a=50, b=50), to(a=10, b=90), "a", "", to(a=50, b=50), "b"),
        ("less needs nothing", to(a=50, b=50), to(a=100, b=0), "a", "", to(a=100, b=0), ""),
    ],
)
def test_capacity_before_weight(
    why: str,
    current: list[Backend],
    desired: list[Backend],
    ready: str,
    known: str,
    result: list[Backend],
    pending: str,
) -> None:
    decision = decide(current, desired, set(ready), set(ready), set(known))
    assert list(decision.backends) == result
    assert [backend.service for backend in decision.pending] == list(pending)
    assert decision.complete is not bool(pending)


def test_what_fails_gives_its_share_away() -> None:
    assert withdraw(to(a=10, b=90), {"a"}) == to(a=0, b=100)
    assert withdraw(to(a=10, b=60, c=30), {"a"}) == to(a=0, b=70, c=30)
    assert withdraw(to(a=100), {"a"}) == to(a=100)
    assert withdraw(to(a=10, b=90), {"a", "b"}) == to(a=10, b=90)
