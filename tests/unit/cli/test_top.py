"""Figures of `kedge top`, as people read them."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from kedge.cli.top import format_milliseconds, parse_since, table_of
from kedge.client.top import Usage, in_front


def usage(**fields: Any) -> Usage:
    known: dict[str, Any] = {
        "namespace": "default", "service": "iris", "component": "predictor", "requests": 1000,
        "per_second": 16.667, "refused": 3, "failed": 0, "p50": 0.421, "p99": 12.3, "ready": 1,
        "desired": 2,
    }  # fmt: skip
    return Usage(**{**known, **fields})


def test_a_row() -> None:
    header, rows = table_of([usage()], namespaces=False, components=False)
    assert header == ["NAME", "READY", "RATE", "5XX", "4XX", "P50", "P99", "REQUESTS"]
    assert rows == [["iris", "1/2", "17/s", "0", "0.3 %", "0.42 ms", "12 ms", "1000"]]
    quiet = usage(requests=0, per_second=0.0, refused=0, p50=None, p99=None)
    header, rows = table_of([quiet], namespaces=True, components=True)
    assert header[:3] == ["NAMESPACE", "NAME", "COMPONENT"]
    assert rows[0][3:] == ["1/2", "0/s", "0", "0", "-", "-", "0"]


def test_of_a_service_the_component_that_clients_ask() -> None:
    predictor, transformer = usage(), usage(component="transformer")
    other = usage(service="other")
    assert in_front([predictor, other, transformer]) == [transformer, other]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.04, "0.04 ms"), (3.14, "3.1 ms"), (99.6, "100 ms"), (1234, "1.2 s"), (45_000, "45 s")],
)
def test_times(value: float, text: str) -> None:
    assert format_milliseconds(value) == text


def test_since() -> None:
    assert parse_since("2h") == 7200
    for text in ("10s", "25h", "soon"):
        with pytest.raises(typer.BadParameter):
            parse_since(text)
