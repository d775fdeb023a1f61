"""Averages over seconds, as the table of facts on Knative's windows has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.autoscaler.windows import Series


def filled(values: dict[int, float], stable: int = 60, panic: int = 6) -> Series:
    series = Series(stable, panic)
    for second, value in values.items():
        series.record(second, value)
    return series


def test_a_young_series_is_averaged_over_its_life_only() -> None:
    series = filled({100: 4, 101: 8})
    assert series.average(series.stable, 101) == 6
    assert series.average(series.panic, 101) == 6


def test_a_full_window_drops_its_oldest_second() -> None:
    series = filled({second: float(second) for second in range(70)})
    assert series.average(series.stable, 69) == sum(range(10, 70)) / 60
    assert series.average(series.panic, 69) == sum(range(64, 70)) / 6


def test_values_of_one_second_add_up() -> None:
    series = filled({100: 4})
    series.record(100, 3)
    assert series.average(series.stable, 100) == 7


def test_gaps_count_as_nothing() -> None:
    series = filled({100: 10, 104: 10})
    assert series.average(series.stable, 104) == 4


def test_seconds_that_have_run_out_go_from_sum_and_divisor() -> None:
    series = filled({100 + i: 6.0 for i in range(6)})
    # The last write is 2 s old: 2 of the 6 buckets have expired.
    assert series.average(series.panic, 107) == 6
    series = filled({100: 60, 101: 0, 102: 0, 103: 0, 104: 0, 105: 0})
    assert series.average(series.panic, 105) == 10
    assert series.average(series.panic, 106) == 0


def test_nothing_for_a_whole_window_begins_anew() -> None:
    series = filled({100: 60, 101: 60})
    assert series.average(series.panic, 107) == 0
    assert series.average(series.stable, 107) == 60
    series.record(107, 5)
    assert series.average(series.panic, 107) == 5
    assert series.average(series.stable, 107) == pytest.approx(125 / 8, abs=1e-6)
    series.record(300, 9)
    assert series.average(series.stable, 300) == 9


def test_averages_have_six_digits() -> None:
    series = filled({100: 1, 101: 0, 102: 0})
    assert series.average(series.stable, 102) == 0.333333


def test_covered_seconds_count_as_nothing_and_keep_the_window() -> None:
    series = filled({100: 60})
    series.cover(159)
    assert series.average(series.stable, 159) == 1
    series.cover(400)
    series.record(401, 60)
    assert series.average(series.stable, 401) == 1
    assert series.average(series.panic, 401) == 10


def test_data_is_there_for_a_window() -> None:
    series = Series(60, 6)
    assert not series.has_data(0)
    series.record(100, 0)
    assert series.has_data(159)
    assert not series.has_data(160)


def test_the_newest_second_weighs_most() -> None:
    series = filled({100 + i: 1.0 for i in range(60)})
    assert series.weighted_average(series.stable, 159) == pytest.approx(1, abs=1e-4)
    series = filled({100: 1}, panic=6)
    share = 1 - (1 - 0.9999) ** (1 / 6)
    assert series.weighted_average(series.panic, 100) == pytest.approx(share, abs=1e-6)
    assert series.weighted_average(series.panic, 102) == pytest.approx(
        share * (1 - share) ** 2, abs=1e-6
    )
    assert series.weighted_average(series.stable, 100) == pytest.approx(0.2, abs=1e-6)


def test_what_is_too_old_is_dropped() -> None:
    series = filled({100: 1})
    series.record(40, 5)
    assert series.average(series.stable, 100) == 1
    series.record(99, 5)
    assert series.average(series.stable, 100) == 3
    assert series.newest_load() == 100


@given(
    st.dictionaries(st.integers(0, 200), st.floats(0, 1e6), min_size=1),
    st.integers(1, 60),
    st.integers(0, 80),
)
def test_averages_are_what_a_plain_list_says(
    values: dict[int, float], panic: int, pause: int
) -> None:
    """Against the rule written down plainly; an average is never above the largest value."""
    series = Series(60, panic)
    firsts = {60: 0, panic: 0}
    last: int | None = None
    for second in sorted(values):
        series.record(second, values[second])
        for length in firsts:
            if last is None or second - last >= length:
                firsts[length] = second
        last = second
    assert last is not None
    now = last + pause
    for window in (series.stable, series.panic):
        length = window.length
        found = series.average(window, now)
        if pause >= length:
            assert found == 0
            continue
        inside = [value for second, value in values.items() if second > now - length]
        valid = max(1, min(last - firsts[length] + 1, length - pause))
        assert found == pytest.approx(sum(inside) / valid, rel=1e-6, abs=1e-6)
        assert found <= max(values.values()) * (1 + 1e-6) + 1e-6
        assert series.weighted_average(window, now) <= max(values.values()) * (1 + 1e-6) + 1e-6
