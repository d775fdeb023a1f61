"""Bars as SVG text, by the standard library alone: throughput, latency, and what a server costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

_MARGIN, _WIDE, _BETWEEN = 32, 500, 40
_LABELS, _VALUES = 112, 64
_HEAD, _ROW, _BAR, _FOOT = 42, 21, 15, 22
_TOP = 92
_OWN, _PEER, _SKETCH = "#1769aa", "#aab4c2", "#d5dbe3"
_INK, _SOFT, _LINE = "#1c2430", "#5c6675", "#e6eaef"
_SKETCHES = ("asgi", "asgi-batching")
_NAMES = {"asgi": "ASGI sketch", "asgi-batching": "batching sketch"}


@dataclass(frozen=True)
class Panel:
    """Bars under a title: a value by server; more is better, or less."""

    title: str
    unit: str
    values: Mapping[str, float]
    more_is_better: bool = False

    @property
    def height(self) -> int:
        return _HEAD + len(self.values) * _ROW + _FOOT


def draw(found: Mapping[str, Any]) -> str:
    """Panels in two columns; empty where nothing was measured that they show."""
    shown = [panel for panel in panels(found) if len(panel.values) > 1]
    if not shown:
        return ""
    parts: list[str] = []
    y = _TOP
    for left in range(0, len(shown), 2):
        pair = shown[left : left + 2]
        for column, panel in enumerate(pair):
            parts += drawn(panel, _MARGIN + column * (_WIDE + _BETWEEN), y)
        y += max(panel.height for panel in pair)
    width, height = 2 * _MARGIN + 2 * _WIDE + _BETWEEN, y + 8
    about = found["machine"]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="Helvetica, Arial, sans-serif">'
        f'<rect width="{width}" height="{height}" fill="white"/>'
    )
    note = (
        f"{about['cpu']}, one core for the server and one for the load; medians of "
        f"{found['rounds']} rounds by turns; {about['date']}"
    )
    title = text(_MARGIN, 40, "Kedge's model server and its peers", size=22, bold=True)
    said = "scikit-learn iris SVC, Open Inference V2, two rows a request, 1,000 distinct bodies"
    lines = [title, text(_MARGIN, 60, said, fill=_SOFT), text(_MARGIN, 77, note, fill=_SOFT)]
    return "\n".join([head, *lines, *parts, "</svg>"]) + "\n"


def panels(found: Mapping[str, Any]) -> Iterator[Panel]:
    cases = {case["key"]: case["summary"] for case in found["cases"]}

    def of(key: str, figure: str, factor: float = 1.0) -> dict[str, float]:
        return {name: one[figure] * factor for name, one in cases.get(key, {}).items()}

    for clients in (1, 16, 64, 256):
        said = f"REST, {clients} client{'s' if clients > 1 else ''}"
        values = of(f"iris-rest-{clients}", "per_second")
        yield Panel(said, "requests per second", values, True)
    yield Panel("Latency of one client, median", "ms", of("iris-rest-1", "p50", 1e3))
    yield Panel("Latency at 64 clients, 99 %", "ms", of("iris-rest-64", "p99", 1e3))
    for clients in (1, 64):
        said = f"gRPC, {clients} client{'s' if clients > 1 else ''}"
        values = of(f"iris-grpc-{clients}", "per_second")
        yield Panel(said, "requests per second", values, True)
    yield Panel("CPU per request at 64 clients", "µs", of("iris-rest-64", "cpu_us"))
    yield Panel("16 MB tensor, binary, median", "ms", of("tensor-binary-16-rest", "p50", 1e3))
    started = {name: one for name, one in found["footprint"].items() if "start_seconds" in one}
    yield Panel(
        "Start to first answer", "s", {name: one["start_seconds"] for name, one in started.items()}
    )
    yield Panel(
        "Memory when idle, all processes", "MB (PSS)",
        {name: one["pss_mb"] for name, one in started.items()},
    )  # fmt: skip


def drawn(panel: Panel, x: float, y: float) -> Iterator[str]:
    better = "more is better" if panel.more_is_better else "less is better"
    yield text(x, y + 16, panel.title, size=15, bold=True)
    yield text(x, y + 33, f"{panel.unit}; {better}", size=11, fill=_SOFT)
    most = max(panel.values.values()) or 1.0
    room = _WIDE - _LABELS - _VALUES
    order = sorted(panel.values.items(), key=lambda one: one[1], reverse=panel.more_is_better)
    base = x + _LABELS
    height = len(order) * _ROW
    yield f'<rect x="{base}" y="{y + _HEAD}" width="1" height="{height}" fill="{_LINE}"/>'
    for row, (name, value) in enumerate(order):
        at = y + _HEAD + row * _ROW + (_ROW - _BAR) / 2
        own = name == "kedge"
        colour = _OWN if own else _SKETCH if name in _SKETCHES else _PEER
        wide = max(1.5, value / most * room)
        yield text(base - 8, at + _BAR - 3.5, _NAMES.get(name, name), anchor="end", bold=own)
        yield (
            f'<rect x="{base}" y="{at:.1f}" width="{wide:.1f}" height="{_BAR}" rx="2" '
            f'fill="{colour}"/>'
        )
        yield text(base + wide + 6, at + _BAR - 3.5, figure(value), bold=own)


def figure(value: float) -> str:
    """Three digits that matter."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def text(
    x: float, y: float, words: str, *, size: int = 12, anchor: str = "start", bold: bool = False,
    fill: str = _INK,
) -> str:  # fmt: skip
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
        f'fill="{fill}"{weight}>{escape(words)}</text>'
    )
