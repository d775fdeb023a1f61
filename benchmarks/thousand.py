"""A thousand services at zero on one machine: applied and settled, idle, and a random one asked.

    python -m benchmarks.thousand [--services 1000] [--keep FILE]

Each service proves itself with one pod, which is let go of as soon as it has; settled means that
all are Ready and no pod is left. CPU and memory are the kernel's own figures of Kedge's processes.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.e2e.running import RunningKedge, condition, wait_for

from benchmarks.cold_start import TRAIN, percentile, service
from benchmarks.one_machine import cpu_seconds, machine, pss
from kedge.api.scheme import INFERENCE_SERVICE, POD

IDLE_SECONDS = 30.0
ASKED = 20
PARTS = ("control", "data", "envoy")


def name_of(number: int) -> str:
    return f"service-{number:04d}"


def settle(kedge: RunningKedge, count: int, model: Path) -> dict[str, Any]:
    """Apply all, and wait until all are Ready and no pod is left."""
    began = time.perf_counter()
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda number: kedge.apply(service("sklearn", model, name_of(number))),
                range(count),
            )
        )
    applied = time.perf_counter() - began
    told = 0.0

    def settled() -> bool:
        nonlocal told
        time.sleep(1)
        pods = len(kedge.objects(POD))
        # A list of a thousand services is work too: only when all may be done.
        ready = (
            0
            if pods
            else sum(
                condition(one).get("status") == "True" for one in kedge.objects(INFERENCE_SERVICE)
            )
        )
        if time.perf_counter() - told > 5:
            told = time.perf_counter()
            print(f"{told - began:6.1f} s: {pods} pods, {ready} ready", flush=True)
        return ready == count and pods == 0

    wait_for(settled, 1200, kedge.logs)
    return {
        "applied_seconds": round(applied, 1),
        "settled_seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": {part: round(cpu_seconds(kedge.part(part)), 1) for part in PARTS},
    }


def idle(kedge: RunningKedge) -> dict[str, Any]:
    """What Kedge takes when nobody asks."""
    pids = {part: kedge.part(part) for part in PARTS}
    before = {part: cpu_seconds(pid) for part, pid in pids.items()}
    time.sleep(IDLE_SECONDS)
    return {
        "cpu_percent": {
            part: round((cpu_seconds(pid) - before[part]) / IDLE_SECONDS * 100, 2)
            for part, pid in pids.items()
        },
        "memory_mb": {part: round(pss(pid) / 1e6, 1) for part, pid in pids.items()},
    }


def ask(kedge: RunningKedge, name: str) -> float:
    """Milliseconds until a service answers."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{kedge.port}/serving/default/{name}/v1/models/{name}:predict",
        data=json.dumps({"instances": [[6.8, 2.8, 4.8, 1.4]]}).encode(),
        headers={"content-type": "application/json"},
    )
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()
    return (time.perf_counter() - began) * 1000


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--keep", type=Path, default=None, help="where the results go, as JSON")
    options = parser.parse_args(argv)
    results: dict[str, Any] = {**machine(), "command": "python -m benchmarks.thousand"}
    with tempfile.TemporaryDirectory(prefix="kedge-thousand-") as temporary:
        model = Path(temporary) / "model"
        model.mkdir()
        subprocess.run([sys.executable, "-c", TRAIN["sklearn"], str(model)], check=True)
        kedge = RunningKedge(Path(temporary) / "kedge")
        kedge.start()
        try:
            results["services"] = options.services
            results |= settle(kedge, options.services, model)
            results["idle"] = idle(kedge)
            names = random.Random(7).choices(range(options.services), k=ASKED)
            taken = [ask(kedge, name_of(number)) for number in names]
            results["answer_ms"] = {
                "median": round(statistics.median(taken), 1),
                "p99": round(percentile(taken, 0.99), 1),
            }
        finally:
            kedge.stop()
    print(json.dumps(results, indent=2))
    if options.keep is not None:
        options.keep.write_text(json.dumps(results, indent=2) + "\n")
    return results


if __name__ == "__main__":
    main()
