"""Durations as Go writes them."""

from __future__ import annotations

import pytest

from kedge.lib.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1m30s", 90), ("1.5h", 5400), ("250ms", 0.25), ("0", 0), ("-1m", -60)],
)  # fmt: skip
def test_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "90", "1x", "1m 30s", "1h2", "m1"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.6, "1m"), (90, "1m30s"), (3600, "1h"), (7260, "2h1m")]
)
def test_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
