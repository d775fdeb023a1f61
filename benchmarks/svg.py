"""Charts as SVG text, by the standard library alone: panels, lines, stairs and words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import escape

INK, GREY, LOAD, WANTED, READY = "#20262e", "#8a93a0", "#5b8db8", "#c8641b", "#1b6b3a"
LEFT, WIDE = 64, 860
"""Of a picture: where its panels begin, and how wide they are."""


@dataclass(frozen=True)
class Frame:
    """A panel's place and scales."""

    top: float
    height: float
    start: int
    end: int
    most: float

    def x(self, second: float) -> float:
        return LEFT + (second - self.start) / (self.end - self.start) * WIDE

    def y(self, value: float) -> float:
        return self.top + self.height * (1 - value / self.most)


def page(parts: list[str], height: float) -> str:
    """The whole picture."""
    width = LEFT + WIDE + 40
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" font-family="sans-serif">'
        f'<rect width="{width}" height="{height}" fill="white"/>'
    )
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def axes(frame: Frame, title: str) -> Iterator[str]:
    yield text(16, frame.top - 8, title, size=13, bold=True)
    for value in (0.0, frame.most / 2, frame.most):
        y = frame.y(value)
        yield f'<path d="M{LEFT},{y:.1f} h{WIDE}" stroke="#e3e6ea"/>'
        yield text(LEFT - 8, y + 4, f"{value:g}", anchor="end", size=11, colour=GREY)
    span = frame.end - frame.start
    step = next(one for one in (30, 60, 3600, 7200, 10800) if span / one <= 12)
    first = math.ceil(frame.start / step) * step
    for second in range(first, frame.end + 1, step):
        x, hour, minute = frame.x(second), second // 3600, second % 3600 // 60
        label = f"{hour}:{minute:02}" + (f":{second % 60:02}" if step < 60 else "")
        yield text(x, frame.top + frame.height + 16, label, anchor="middle", size=11, colour=GREY)


def stairs(values: list[float], start: int, step: int) -> list[tuple[float, float]]:
    """Corners of a line that stays until it jumps; equal neighbours are one piece."""
    points: list[tuple[float, float]] = []
    for i, value in enumerate(values):
        if not points or points[-1][1] != value:
            if points:
                points.append((start + i * step, points[-1][1]))
            points.append((start + i * step, value))
    points.append((start + len(values) * step, values[-1]))
    return points


def line(
    frame: Frame, points: list[tuple[float, float]], colour: str, width: float, dashed: bool = False
) -> str:
    path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points)
    dash = ' stroke-dasharray="3 3"' if dashed else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dash}/>'


def text(
    x: float, y: float, words: str, *, size: int = 12, anchor: str = "start", colour: str = INK,
    bold: bool = False,
) -> str:  # fmt: skip
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
        f' fill="{colour}"{weight}>{escape(words)}</text>'
    )


def nice(value: float) -> float:
    """A round number not below `value`."""
    step: float = 10.0 ** math.floor(math.log10(max(value, 1)))
    return next(factor * step for factor in (1, 2, 4, 5, 6, 8, 10) if factor * step >= value)
