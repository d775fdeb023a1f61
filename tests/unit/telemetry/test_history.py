"""Counts by the minute, and the file that keeps a day of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.settings.gateway import LATENCY_BUCKETS
from kedge.telemetry.counts import Counts, make_counts, unpack
from kedge.telemetry.history import History, Source

IRIS = Source("default", "iris", "predictor", "iris-predictor-00001-private")
OTHER = Source("ns", "other", "predictor", "other-predictor-00001-private")


def latency(**by_bound: int) -> list[int]:
    """`ms5=3`: three requests in the bucket that ends at 5 ms."""
    return [by_bound.get(f"ms{bound:g}", 0) for bound in LATENCY_BUCKETS]


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    history = History(tmp_path / "t.db")
    yield history
    history.close()


def test_quantiles() -> None:
    counts = Counts(latency=latency(ms10=100))
    assert counts.quantile(0.5) == pytest.approx(8.5)
    counts = Counts(latency=latency(ms1=98, ms1000=2))
    assert counts.quantile(0.5) == pytest.approx(0.5 + 0.5 * 50 / 98)
    assert counts.quantile(0.99) == pytest.approx(850)
    assert Counts().quantile(0.5) is None


@given(st.lists(st.integers(0, 1000), min_size=len(LATENCY_BUCKETS), max_size=len(LATENCY_BUCKETS)))
def test_quantiles_grow_and_counts_are_kept(latencies: list[int]) -> None:
    counts = Counts(latency=latencies)
    assert unpack(counts.pack()) == latencies
    if sum(latencies):
        found = [counts.quantile(share / 20) or 0.0 for share in range(1, 21)]
        assert found == sorted(found)
        used = [bound for bound, count in zip(LATENCY_BUCKETS, latencies, strict=True) if count]
        assert found[-1] == pytest.approx(used[-1])


def test_latencies_by_other_bounds_are_left_out() -> None:
    counts = make_counts(1, 2, 3, [1, 2])
    assert counts.requests == 6
    assert sum(counts.latency) == 0


def test_minutes_are_summed_by_source(history: History) -> None:
    history.add(60, [(IRIS, Counts(5, 1, 0, latency(ms1=6))), (OTHER, Counts(1))])
    history.add(120, [(IRIS, Counts(5, 0, 2, latency(ms5=7)))])
    found = history.since(0)
    assert found[IRIS] == Counts(10, 1, 2, latency(ms1=6, ms5=7))
    assert found[OTHER].requests == 1
    assert history.since(100)[IRIS].requests == 7
    assert list(history.since(0, "ns")) == [OTHER]
    assert list(history.since(0, "", "iris")) == [IRIS]
    assert history.since(0, "ns", "iris") == {}


def test_a_day_is_kept_and_not_too_much(history: History) -> None:
    for minute in range(30):
        history.add(minute * 3600, [(IRIS, Counts(1))])
    history.prune(29 * 3600)
    assert history.since(0)[IRIS].requests == 25
    history.prune(29 * 3600, most_rows=10)
    assert 9 <= history.since(0)[IRIS].requests <= 10


def test_a_file_that_cannot_be_read_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    path.write_bytes(b"no database at all" * 500)
    history = History(path)
    history.add(60, [(IRIS, Counts(1))])
    history.close()
    again = History(path)
    assert again.since(0)[IRIS].requests == 1
    again.close()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 9")
    newer.close()
    history = History(path)
    assert history.since(0) == {}
    history.close()


def test_a_file_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    path.mkdir()
    (path / "x").write_text("")
    history = History(path)
    history.add(60, [(IRIS, Counts(1))])
    assert history.since(0)[IRIS].requests == 1
    history.close()
