"""A day of traffic against the autoscaler's algorithm, simulated: what it costs and what it misses.

`python -m benchmarks.autoscaler_day` runs the day under several settings, prints a table and draws
docs/images/autoscaler-day.svg. The algorithm is the one that runs (`kedge.autoscaler.target`), fed
second by second; only pods and requests are made up. The day is the same every time.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.svg import (
    GREY,
    LEFT,
    LOAD,
    READY,
    WANTED,
    WIDE,
    Frame,
    axes,
    line,
    nice,
    page,
    stairs,
    text,
)  # fmt: skip
from kedge.autoscaler.parameters import parse_parameters
from kedge.autoscaler.target import Target
from kedge.settings.autoscaler import AutoscalerConfig

DAY = 86400
SERVICE_SECONDS = 0.2
"""How long a pod computes for one request."""
LIMIT = 10
"""Requests at once that a pod bears."""
START_SECONDS = 3
"""From a pod that is asked for to a pod that answers."""
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "autoscaler-day.svg"


def rate_at(second: int) -> float:
    """Requests a second: a night without any, a peak at midday, an evening, three bursts."""
    hour = second / 3600
    if hour < 5 or hour >= 23.5:
        return 0.0
    daily: float = max(0.0, math.sin((hour - 5) / 18.5 * math.pi)) ** 1.5 * 500
    evening = 350 * math.exp(-((hour - 20) ** 2) / 1.2)
    bursts = sum(
        float(height)
        for start, length, height in ((7.5, 90, 200), (11, 300, 300), (16, 20, 400))
        if start * 3600 <= second < start * 3600 + length
    )
    return daily + evening + bursts


def arrivals() -> list[int]:
    """Requests of each second, and a lonely one now and then in the night."""
    chance = random.Random(20260101)
    counts = []
    for second in range(DAY):
        mean = rate_at(second)
        count = round(chance.gauss(mean, math.sqrt(mean))) if mean > 0 else 0
        counts.append(max(0, count))
    for hour in (1.0, 2.6, 2.61, 4.2):
        counts[int(hour * 3600)] = 1
    return counts


@dataclass
class Run:
    """One day under one setting.

    Attributes:
        in_flight, wanted, ready: second by second.
        late: requests that came in seconds in which more was in flight than the ready pods bear;
            held: those of them that found no pod at all.
    """

    name: str
    annotations: dict[str, str]
    in_flight: list[float] = field(default_factory=list)
    wanted: list[int] = field(default_factory=list)
    ready: list[int] = field(default_factory=list)
    requests: int = 0
    late: int = 0
    late_seconds: int = 0
    held: int = 0

    @property
    def pod_hours(self) -> float:
        """Pods that were asked for, ready or not."""
        return sum(self.wanted) / 3600

    @property
    def changes(self) -> int:
        return sum(a != b for a, b in zip(self.wanted, self.wanted[1:], strict=False))


SETTINGS: tuple[tuple[str, dict[str, str]], ...] = (
    ("default", {}),
    ("window 20 s", {"window": "20s"}),
    ("window 5 min", {"window": "5m"}),
    ("no panic", {"panic-threshold-percentage": "1000"}),
    ("utilisation 90 %", {"target-utilization-percentage": "90"}),
    ("weighted", {"metric-aggregation-algorithm": "weighted-exponential"}),
    ("delay 10 min", {"scale-down-delay": "10m"}),
    ("min-scale 2", {"min-scale": "2"}),
)


def simulate(name: str, annotations: dict[str, str], counts: list[int]) -> Run:
    """One day."""
    run = Run(name, annotations)
    target = make_target(annotations)
    starting: deque[tuple[int, int]] = deque()
    backlog = 0
    for second, count in enumerate(counts):
        while starting and starting[0][0] <= second:
            target.ready = min(target.replicas, starting.popleft()[1])
        target.ready = min(target.ready, target.replicas)
        served, in_flight = serve(backlog + count, target.ready)
        note(run, target, in_flight, count)
        backlog += count - served
        before = target.replicas
        decide(target, second, in_flight, count)
        if target.replicas > before:
            starting.append((second + START_SECONDS, target.replicas))
    return run


def make_target(annotations: dict[str, str]) -> Target:
    given = {"target": str(LIMIT), **annotations}
    metadata: dict[str, Any] = {
        "name": "day",
        "namespace": "simulated",
        "annotations": {
            **{f"autoscaling.knative.dev/{key}": value for key, value in given.items()},
            "serving.kedge.dev/proven": "true",
        },
    }
    deployment = {"metadata": metadata, "spec": {"replicas": 0}}
    return Target(deployment, parse_parameters(deployment, AutoscalerConfig()), 0.0)


def serve(waiting: int, ready: int) -> tuple[int, float]:
    """Requests answered within a second, and those in flight on average."""
    capacity = int(ready * LIMIT / SERVICE_SECONDS)
    served = min(waiting, capacity)
    return served, served * SERVICE_SECONDS + (waiting - served)


def note(run: Run, target: Target, in_flight: float, count: int) -> None:
    run.in_flight.append(in_flight)
    run.wanted.append(target.replicas)
    run.ready.append(target.ready)
    run.requests += count
    if in_flight > target.ready * LIMIT:
        run.late_seconds += 1
        run.late += count
    if not target.ready:
        run.held += count


def decide(target: Target, second: int, in_flight: float, count: int) -> None:
    """What the loop does: record each second, decide every other one, at once where none is."""
    now = float(second + 1)
    if in_flight:
        target.cover(second - 1)
        target.record(range(second, second + 1), in_flight, float(count))
    else:
        target.cover(second)
    if second % 2 == 0 or (in_flight and not target.ready):
        step = target.decide(now, second, in_flight, watched_since=-1000.0, keep="")
        target.replicas = step.replicas
        if step.replicas == 0:
            target.rest()


def ideal(counts: list[int]) -> list[int]:
    """Pods that an oracle would have: enough for each second at the default utilisation."""
    return [math.ceil(count * SERVICE_SECONDS / (LIMIT * 0.7)) for count in counts]


def table(runs: list[Run], counts: list[int]) -> str:
    oracle = sum(ideal(counts)) / 3600
    peak = max(ideal(counts)) * 24
    lines = [
        f"{sum(counts):,} requests; an oracle needs {oracle:.1f} pod-hours,"
        f" a fixed number for the peak {peak:.0f}",
        "",
        "| setting | pod-hours | of the oracle's | late requests | late seconds | held | changes |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for run in runs:
        lines.append(
            f"| {run.name} | {run.pod_hours:.1f} | {run.pod_hours / oracle:.2f} |"
            f" {100 * run.late / run.requests:.2f} % | {run.late_seconds} | {run.held} |"
            f" {run.changes} |"
        )
    return "\n".join(lines)


# The picture


def draw(run: Run, counts: list[int], runs: list[Run]) -> str:
    """The whole picture as SVG."""
    parts = [text(16, 26, "One day, simulated: what is asked, and the pods that answer", size=17)]
    parts.append(
        text(16, 46, f"{run.requests:,} requests of {SERVICE_SECONDS} s; a pod bears {LIMIT} at"
             f" once and takes {START_SECONDS} s to start; default settings", colour=GREY)
    )  # fmt: skip
    parts += load_panel(Frame(84, 120, 0, DAY, nice(max(bucketed(run.in_flight, 60, max)))), run)
    parts += pods_panel(Frame(246, 150, 0, DAY, nice(max(run.wanted))), run, counts, 60, "a day")
    burst = 11 * 3600
    frame = Frame(450, 130, burst - 60, burst + 540, nice(max(run.wanted[burst : burst + 540])))
    title = "a burst of five minutes at 11:00: up at once, down only when it has been calm"
    parts += pods_panel(frame, run, counts, 1, title)
    lonely = int(2.6 * 3600)
    frame = Frame(634, 70, lonely - 60, lonely + 240, 2)
    title = "two lonely requests in the night: from zero, and back"
    parts += pods_panel(frame, run, counts, 1, title)
    bottom, height = 758, 30 + 20 * len(runs)
    parts += bars(runs, counts, bottom)
    return page(parts, bottom + height + 30)


def load_panel(frame: Frame, run: Run) -> Iterator[str]:
    yield from axes(frame, "requests in flight, each minute's most")
    points = bucketed(run.in_flight, 60, max)
    yield line(frame, [(i * 60.0, value) for i, value in enumerate(points)], LOAD, 1.2)


def pods_panel(frame: Frame, run: Run, counts: list[int], step: int, title: str) -> Iterator[str]:
    yield from axes(frame, f"pods: {title}")
    span = slice(frame.start, frame.end)
    needed = bucketed([float(one) for one in ideal(counts)[span]], step, max)
    yield line(frame, stairs(needed, frame.start, step), GREY, 1, dashed=True)
    for values, colour, width in ((run.wanted, WANTED, 1.6), (run.ready, READY, 1.6)):
        seen = bucketed([float(one) for one in values[span]], step, max)
        yield line(frame, stairs(seen, frame.start, step), colour, width)
    x = LEFT + WIDE - 250
    for name, colour in (("wanted", WANTED), ("ready", READY), ("needed that second", GREY)):
        yield text(x, frame.top - 8, name, colour=colour, size=12, bold=True)
        x += 14 + 7 * len(name)


def bars(runs: list[Run], counts: list[int], top: float) -> Iterator[str]:
    """Cost and misses of every setting."""
    oracle = sum(ideal(counts)) / 3600
    most = max(run.pod_hours for run in runs)
    worst = max(run.late / run.requests for run in runs)
    yield text(16, top, "settings: pod-hours of the day", size=13, bold=True)
    yield text(580, top, "requests in seconds with too few pods", size=13, bold=True)
    for row, run in enumerate(runs):
        y = top + 14 + row * 20
        share = run.late / run.requests
        yield text(130, y + 12, run.name, anchor="end")
        yield bar(140, y, run.pod_hours / most * 220, WANTED)
        cost = f"{run.pod_hours:.0f} ({run.pod_hours / oracle:.2f} of the oracle's)"
        yield text(146 + run.pod_hours / most * 220, y + 12, cost, size=11)
        yield bar(580, y, share / worst * 250, LOAD)
        yield text(586 + share / worst * 250, y + 12, f"{100 * share:.2f} %", size=11)


def bucketed(values: list[float], step: int, of: Any) -> list[float]:
    return [of(values[i : i + step]) for i in range(0, len(values), step)]


def bar(x: float, y: float, width: float, colour: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{max(1, width):.1f}" height="15" fill="{colour}"/>'


def main() -> None:
    counts = arrivals()
    runs = [simulate(name, settings, counts) for name, settings in SETTINGS]
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(draw(runs[0], counts, runs))
    print(table(runs, counts))


if __name__ == "__main__":
    main()
