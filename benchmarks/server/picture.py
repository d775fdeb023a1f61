"""Bars as SVG text, by the standard library alone: requests a second, by server and clients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from xml.sax.saxutils import escape

_LEFT, _WIDE, _BAR, _GAP, _TOP = 120, 520, 16, 34, 64
_GREY, _OWN, _INK = "#b8c0cc", "#1769aa", "#20262e"


def draw(found: Mapping[str, Any]) -> str:
    """One panel per number of clients, servers under one another; empty without such cases."""
    panels = [case for case in found["cases"] if case["group"] in ("iris", "grpc")]
    panels = [case for case in panels if case["summary"]]
    if not panels:
        return ""
    parts: list[str] = []
    y = _TOP
    for case in panels:
        parts += panel(case, y)
        y += _GAP + len(case["summary"]) * (_BAR + 4)
    about = found["machine"]
    note = f"{about['cpu']}, one core for the server, one for the load; {about['date']}"
    parts.append(text(16, y + 4, note, size=11))
    width, height = _LEFT + _WIDE + 120, y + 20
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif">'
        f'<rect width="{width}" height="{height}" fill="white"/>'
    )
    title = text(16, 26, "scikit-learn iris, V2, two rows a request: requests per second", size=16)
    return "\n".join([head, title, *parts, "</svg>"]) + "\n"


def panel(case: Mapping[str, Any], y: int) -> Iterator[str]:
    one = case["clients"]
    how = "gRPC" if case["group"] == "grpc" else "REST"
    yield text(16, y - 6, f"{how}, {one} client{'s' if one > 1 else ''}", size=13, bold=True)
    rates = {name: one["per_second"] for name, one in case["summary"].items()}
    most = max(rates.values())
    for row, (name, rate) in enumerate(rates.items()):
        at = y + row * (_BAR + 4)
        colour = _OWN if name == "kedge" else _GREY
        wide = max(1.0, rate / most * _WIDE)
        yield text(_LEFT - 8, at + _BAR - 4, name, anchor="end")
        yield f'<rect x="{_LEFT}" y="{at}" width="{wide:.1f}" height="{_BAR}" fill="{colour}"/>'
        yield text(_LEFT + wide + 6, at + _BAR - 4, f"{rate:,.0f}")


def text(
    x: float, y: float, words: str, *, size: int = 12, anchor: str = "start", bold: bool = False
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y}" font-size="{size}" text-anchor="{anchor}" '
        f'fill="{_INK}"{weight}>{escape(words)}</text>'
    )
