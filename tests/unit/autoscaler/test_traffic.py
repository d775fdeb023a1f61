"""Reports become whole seconds, whatever the moment at which they come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.autoscaler.traffic import Traffic
from kedge.autoscaler.windows import Series
from kedge.autoscaler.wire import Report, Wake

KEY = "ns/a"


class Record:
    def __init__(self) -> None:
        self.seconds: dict[int, float] = {}
        self.rates: dict[int, float] = {}
        self.traffic = Traffic(self)

    def __call__(self, key: str, seconds: range, in_flight: float, rate: float) -> None:
        assert key == KEY
        for second in seconds:
            self.seconds[second] = self.seconds.get(second, 0.0) + in_flight
            self.rates[second] = self.rates.get(second, 0.0) + rate

    def report(self, now: float, in_flight: float, seconds: float = 1.0, name: str = "g") -> None:
        signals = {KEY: (in_flight, in_flight, 0.0)} if in_flight else {}
        self.traffic.take(name, Report(seconds, signals), now)


def test_two_reports_in_one_second_make_no_peak() -> None:
    record = Record()
    record.traffic.connect("g")
    for now in (10.02, 10.99, 12.01, 12.98, 13.99, 15.03):
        record.report(now, 7)
    assert record.seconds == dict.fromkeys(range(10, 16), 7)


def test_parts_of_a_second_are_one_average() -> None:
    record = Record()
    record.traffic.connect("g")
    record.report(10, 4)
    record.report(10.2, 100, seconds=0.2)
    assert record.seconds == {10: 4}
    record.report(11, 50, seconds=0.8)
    assert record.seconds == {10: 4, 11: pytest.approx(60)}


def test_a_long_report_fills_the_seconds_it_is_about() -> None:
    record = Record()
    record.traffic.connect("g")
    record.report(10, 4)
    record.report(13, 6, seconds=3.0)
    assert record.seconds == {10: 4, 11: 6, 12: 6, 13: 6}


def test_gateways_add_up() -> None:
    record = Record()
    for name in ("a", "b"):
        record.traffic.connect(name)
    record.report(10, 4, name="a")
    record.report(10.5, 6, name="b")
    assert record.seconds == {10: 10}
    assert record.traffic.latest(KEY) == (10, 10, 0)


def test_a_wake_counts_until_the_next_report() -> None:
    record = Record()
    record.traffic.connect("g")
    record.traffic.take_wake("g", Wake(KEY, 3))
    assert record.traffic.latest(KEY) == (0, 0, 3)
    record.report(10, 0)
    assert record.traffic.latest(KEY) == (0, 0, 0)


def test_missing_gateways() -> None:
    traffic = Record().traffic
    assert "no gateway has reported yet" in traffic.missing(0)
    traffic.connect("g")
    assert "g does not report" in traffic.missing(0)
    traffic.take("g", Report(1, {}), 1)
    assert traffic.missing(1) == ""
    assert traffic.watched_since(5) == 1
    assert "g does not report" in traffic.missing(7)
    traffic.take("g", Report(1, {}), 8)
    assert traffic.watched_since(9) == 9
    traffic.connect("h")
    traffic.take("h", Report(1, {}), 9)
    traffic.disconnect("h", 10)
    assert "the gateway h is missing" in traffic.missing(10)
    traffic.take("g", Report(1, {}), 400)
    assert traffic.missing(400) == ""
    traffic.disconnect("g", 401)
    assert "the gateway g is missing" in traffic.missing(5000)
    traffic.connect("g")
    assert "g does not report" in traffic.missing(5000)
    traffic.forget("g")
    assert "no gateway" in traffic.missing(5001)


@given(
    st.lists(st.floats(0.85, 1.25), min_size=70, max_size=120),
    st.floats(0.5, 100),
    st.floats(0, 0.999),
)
def test_a_steady_load_is_steady_whenever_reports_come(
    pauses: list[float], load: float, start: float
) -> None:
    """Reports jitter by a quarter of a second; the minute's average is the load, within 5 %."""
    series = Series(60, 6)

    def record(key: str, seconds: range, in_flight: float, rate: float) -> None:
        for second in seconds:
            series.record(second, in_flight)

    traffic = Traffic(record)
    traffic.connect("g")
    now = 100 + start
    for pause in pauses:
        now += pause
        traffic.take("g", Report(pause, {KEY: (load, load, 0.0)}), now)
    assert series.average(series.stable, int(now)) == pytest.approx(load, rel=0.05)
