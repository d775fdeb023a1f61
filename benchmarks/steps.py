"""A load in steps against a service at zero: 0, 50, 5 and 0 clients; what follows it, and how fast.

    python -m benchmarks.steps [--seconds 60] [--keep FILE]

The clients are closed loops at the gateway's URL. Five times a second the requests in flight, the
replicas wanted and those ready are noted; docs/images/scaling-steps.svg shows them. The windows are
accelerated (a stable window of 15 s instead of 60). Any answer but 200 is counted and told.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from tests.e2e.running import RunningKedge, wait_for

from benchmarks.one_machine import machine
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
    text,
)  # fmt: skip
from kedge.api.scheme import DEPLOYMENT

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "scaling-steps.svg"
STEPS = (0, 50, 5, 0)
SERVICE_SECONDS = 0.1
TARGET = 10
"""Requests at once that a pod is given; seven tenths of it are aimed at."""
WINDOW = 15
CONFIG = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "config-autoscaler", "namespace": "kedge"},
    "data": {"stable-window": f"{WINDOW}s", "scale-to-zero-grace-period": "2s"},
}
MODEL = f"""
import asyncio
from kedge.server import Model, ModelServer
class Slow(Model):
    async def predict(self, payload, headers):
        await asyncio.sleep({SERVICE_SECONDS})
        return {{"predictions": payload["instances"]}}
ModelServer().start([Slow("slow")])
"""
SERVICE: dict[str, Any] = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "steps"},
    "spec": {
        "predictor": {
            "minReplicas": 0,
            "maxReplicas": 10,
            "scaleTarget": TARGET,
            "containers": [{"name": "main", "image": "kedge/python", "args": ["-c", MODEL]}],
        }
    },
}


@dataclass
class Seen:
    """What was noted: seconds since the start, and at each of them the three numbers.

    Attributes:
        slowest: seconds of the slowest request of each step, by the step's index.
    """

    times: list[float] = field(default_factory=list)
    in_flight: list[int] = field(default_factory=list)
    wanted: list[int] = field(default_factory=list)
    ready: list[int] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)
    slowest: dict[int, float] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)


class Load:
    """Closed-loop clients, as many as the step says."""

    def __init__(self, url: str, seen: Seen) -> None:
        self.url = url
        self.seen = seen
        self.in_flight = 0
        self.clients = 0
        self.step = 0

    async def run(self, stop: asyncio.Event) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=60)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            asyncio.TaskGroup() as tasks,
        ):
            for number in range(max(STEPS)):
                tasks.create_task(self._client(session, number, stop))

    async def _client(
        self, session: aiohttp.ClientSession, number: int, stop: asyncio.Event
    ) -> None:
        while not stop.is_set():
            if number >= self.clients:
                await asyncio.sleep(0.05)
                continue
            began, step = time.perf_counter(), self.step
            self.in_flight += 1
            try:
                async with session.post(self.url, json={"instances": [1]}) as answer:
                    await answer.read()
                    self.seen.answers[answer.status] += 1
            except (aiohttp.ClientError, TimeoutError):
                self.seen.answers[0] += 1
            self.in_flight -= 1
            taken = time.perf_counter() - began
            self.seen.latencies.append(taken)
            self.seen.slowest[step] = max(taken, self.seen.slowest.get(step, 0.0))


async def observe(kedge: RunningKedge, load: Load, began: float, stop: asyncio.Event) -> None:
    while not stop.is_set():
        found = await asyncio.to_thread(kedge.stored, DEPLOYMENT, "steps-predictor-00001")
        seen = load.seen
        seen.times.append(time.perf_counter() - began)
        seen.in_flight.append(load.in_flight)
        seen.wanted.append(int(found["spec"]["replicas"]))
        seen.ready.append(int(found.get("status", {}).get("readyReplicas", 0)))
        await asyncio.sleep(0.2)


async def drive(kedge: RunningKedge, seconds: float) -> tuple[Seen, list[float]]:
    """All steps; what was seen, and when each began."""
    url = f"http://127.0.0.1:{kedge.port}/serving/default/steps/v1/models/slow:predict"
    load, stop, began = Load(url, Seen()), asyncio.Event(), time.perf_counter()
    starts = []
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(load.run(stop))
        tasks.create_task(observe(kedge, load, began, stop))
        for step, clients in enumerate(STEPS):
            starts.append(time.perf_counter() - began)
            load.step, load.clients = step, clients
            print(f"{starts[-1]:6.1f} s: {clients} clients", flush=True)
            await asyncio.sleep(seconds if clients else 10)
        await asyncio.to_thread(
            wait_for, lambda: not load.seen.ready[-1], 6 * WINDOW, "no way back to zero"
        )
        await asyncio.sleep(3)
        stop.set()
    return load.seen, starts


def summary(seen: Seen, starts: list[float]) -> dict[str, Any]:
    burst = next(
        (at for at, ready in zip(seen.times, seen.ready, strict=True) if at > starts[1] and ready),
        float("nan"),
    )
    needed = -(-STEPS[1] // TARGET)
    enough = next(
        (
            at
            for at, ready in zip(seen.times, seen.ready, strict=True)
            if at > starts[1] and ready >= needed
        ),
        float("nan"),
    )
    gone = next(
        (
            at
            for at, ready in zip(seen.times, seen.ready, strict=True)
            if at > starts[3] and not ready
        ),
        float("nan"),
    )
    return {
        "answers": dict(seen.answers),
        "p50_ms": round(1000 * statistics.median(seen.latencies), 1),
        "p99_ms": round(1000 * statistics.quantiles(seen.latencies, n=100)[98], 1),
        "slowest_ms_by_step": {STEPS[i]: round(1000 * one) for i, one in seen.slowest.items()},
        "first_pod_after_s": round(burst - starts[1], 2),
        f"{needed}_pods_after_s": round(enough - starts[1], 2),
        "most_wanted": max(seen.wanted),
        "at_zero_after_s": round(gone - starts[3], 1),
    }


def draw(seen: Seen, starts: list[float], told: dict[str, Any]) -> str:
    end = int(seen.times[-1]) + 1
    steps = " → ".join(map(str, STEPS))
    parts = [
        text(16, 26, f"A service at zero under {steps} clients", size=17),
        text(
            16, 46, f"{sum(seen.answers.values()):,} requests, {told['failed']} failed; a request"
            f" takes {SERVICE_SECONDS} s, a pod is given {TARGET} at once; windows of {WINDOW} s",
            colour=GREY,
        ),
    ]  # fmt: skip
    frame = Frame(84, 130, 0, end, nice(max(seen.in_flight)))
    parts += axes(frame, "requests in flight")
    parts.append(line(frame, points(seen.times, seen.in_flight), LOAD, 1.2))
    frame = Frame(272, 150, 0, end, nice(max(seen.wanted)))
    parts += axes(frame, "pods")
    for values, colour in ((seen.wanted, WANTED), (seen.ready, READY)):
        parts.append(line(frame, points(seen.times, values), colour, 1.8))
    x = float(LEFT + WIDE - 110)
    for name, colour in (("wanted", WANTED), ("ready", READY)):
        parts.append(text(x, frame.top - 8, name, colour=colour, bold=True))
        x += 14 + 7 * len(name)
    return page(parts, 470)


def points(times: list[float], values: list[int]) -> list[tuple[float, float]]:
    """Corners of a line that stays until it jumps."""
    return list(_corners(times, values))


def _corners(times: list[float], values: list[int]) -> Iterator[tuple[float, float]]:
    last: float | None = None
    for at, value in zip(times, values, strict=True):
        if last is not None and value != last:
            yield at, last
        if value != last:
            yield at, float(value)
        last = float(value)
    if last is not None:
        yield times[-1], last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each step with clients")
    parser.add_argument("--keep", type=Path, help="write what was seen here, as JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kedge = RunningKedge(Path(folder) / "kedge")
        kedge.start()
        try:
            kedge.apply(CONFIG, namespace="kedge")
            kedge.apply(SERVICE)
            kedge.until_ready("steps")
            place = "steps-predictor-00001"
            wait_for(lambda: kedge.stored(DEPLOYMENT, place)["spec"]["replicas"] == 0, 60)
            seen, starts = asyncio.run(drive(kedge, given.seconds))
        finally:
            kedge.stop()
    told = summary(seen, starts)
    told["failed"] = sum(count for status, count in seen.answers.items() if status != 200)
    PICTURE.write_text(draw(seen, starts, told))
    print(json.dumps(told, indent=1))
    if given.keep:
        given.keep.write_text(json.dumps({"machine": machine(), **told}, indent=1) + "\n")


if __name__ == "__main__":
    main()
