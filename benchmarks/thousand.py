"""A thousand services at zero on one machine: applied and settled, idle, and random ones asked.

    python -m benchmarks.thousand [--services 1000] [--limit 240] [--keep FILE]

Each service proves itself with one pod, which is let go of as soon as it has; settled means that
all are Ready and no pod is left. CPU and memory are the kernel's own figures of Kedge's processes;
what the machine as a whole worked includes the pods, and this program with its requests.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.e2e.running import RunningKedge, condition

from benchmarks.cold_start import TRAIN, percentile, service
from benchmarks.one_machine import TICK, cpu_seconds, machine, pss
from kedge.api.scheme import INFERENCE_SERVICE, POD

RESULTS = Path(__file__).parent / "results" / "thousand.json"
IDLE_SECONDS = 30.0
CALM_SECONDS = 10.0
"""After the last pod has gone, for what is written and sent about that."""
TOLD_SECONDS = 10.0
ASKED = 20
AT_ONCE = 4
PARTS = ("control", "data", "envoy")


class Unsettled(Exception):
    """The services took longer than they may."""


class Api:
    """The Kubernetes API of one Kedge; each thread keeps its connection, as kubectl does."""

    def __init__(self, kedge: RunningKedge) -> None:
        self._port = kedge.api_port
        self._trust = ssl.create_default_context(cafile=str(kedge.data_dir / "tls" / "ca.pem"))
        token = (kedge.data_dir / "token").read_text().strip()
        self._headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        self._local = threading.local()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPSConnection(
                "127.0.0.1", self._port, context=self._trust, timeout=60
            )
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, self._headers)
        with connection.getresponse() as answer:
            found = json.loads(answer.read())
        assert answer.status < 300, found
        return found

    def create(self, obj: dict[str, Any]) -> None:
        self.ask("POST", INFERENCE_SERVICE.path("default"), obj)

    def has_pods(self) -> bool:
        return bool(self.ask("GET", POD.path("default") + "?limit=1")["items"])

    def pods(self) -> list[Any]:
        found: list[Any] = self.ask("GET", POD.path("default"))["items"]
        return found

    def unready(self) -> Iterator[str]:
        """The services that are not Ready, with what they say."""
        for one in self.ask("GET", INFERENCE_SERVICE.path("default"))["items"]:
            ready = condition(one)
            if ready.get("status") != "True":
                yield f"{one['metadata']['name']}: {ready}"


def name_of(number: int) -> str:
    return f"service-{number:04d}"


def worked() -> float:
    """Seconds that all cores of the machine have worked."""
    user, nice, system, _, _, interrupts, soft, *_ = (
        int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + interrupts + soft) / TICK


def templates(data: int) -> list[int]:
    """The processes that pods are forked from: the data process's own children."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # It has ended.
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == data:
                found.append(int(process.name))
    return found


def cpu(kedge: RunningKedge) -> dict[str, float]:
    """CPU seconds of Kedge's lasting processes, and of the machine."""
    pids = {part: kedge.part(part) for part in PARTS}
    used = {part: cpu_seconds(pid) for part, pid in pids.items()}
    used["templates"] = sum(map(cpu_seconds, templates(pids["data"])))
    used["client"] = time.process_time()
    return {**used, "machine": worked()}


def since(before: dict[str, float], now: dict[str, float]) -> dict[str, float]:
    return {name: round(value - before[name], 1) for name, value in now.items()}


def settle(kedge: RunningKedge, count: int, model: Path, limit: float) -> dict[str, Any]:
    """Apply all, and wait until all are Ready and no pod is left."""
    api = Api(kedge)
    before, began = cpu(kedge), time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        manifests = (service("sklearn", model, name_of(number)) for number in range(count))
        list(pool.map(api.create, manifests))
    applied = time.perf_counter() - began
    print(f"{applied:6.1f} s: {count} services are applied", flush=True)
    told = began
    while api.has_pods() or next(api.unready(), None):
        passed = time.perf_counter() - began
        if passed > limit:
            left = len(api.pods())
            waiting = list(api.unready())
            raise Unsettled(
                f"after {passed:.0f} s {left} pods are there and {len(waiting)} of {count} services"
                f" are not Ready: {waiting[:3]}\n{kedge.logs()}"
            )
        if time.perf_counter() - told > TOLD_SECONDS:
            told = time.perf_counter()
            pods = api.pods()
            running = sum(bool(pod["spec"].get("nodeName")) for pod in pods)
            print(
                f"{passed:6.1f} s: {running} pods run, {len(pods) - running} wait;"
                f" CPU seconds {since(before, cpu(kedge))}",
                flush=True,
            )
        time.sleep(0.5)
    settled = time.perf_counter() - began
    used = since(before, cpu(kedge))
    print(f"{settled:6.1f} s: all are Ready, no pod is left; CPU seconds {used}", flush=True)
    return {
        "applied_seconds": round(applied, 1),
        "settled_seconds": round(settled, 1),
        "cpu_seconds": used,
        "cpu_ms_a_service": round(used["machine"] / count * 1000),
    }


def idle(kedge: RunningKedge) -> dict[str, Any]:
    """What Kedge takes when nobody asks."""
    time.sleep(CALM_SECONDS)
    before = cpu(kedge)
    time.sleep(IDLE_SECONDS)
    used = since(before, cpu(kedge))
    assert kedge.process is not None
    memory = {"supervisor": pss(kedge.process.pid)}
    memory |= {part: pss(kedge.part(part)) for part in PARTS}
    memory["templates"] = sum(map(pss, templates(kedge.part("data"))))
    return {
        "cpu_percent": {
            part: round(used[part] / IDLE_SECONDS * 100, 2) for part in (*PARTS, "templates")
        },
        "memory_mb": {part: round(size / 1e6, 1) for part, size in memory.items()},
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


def ask_some(kedge: RunningKedge, count: int) -> dict[str, Any]:
    """Milliseconds until random services answer, one after the other, each from zero."""
    names = random.Random(7).sample(range(count), k=min(ASKED, count))
    taken = [ask(kedge, name_of(number)) for number in names]
    return {
        "asked": len(taken),
        "median": round(statistics.median(taken), 1),
        "p99": round(percentile(taken, 0.99), 1),
    }


def measure(count: int, limit: float) -> dict[str, Any]:
    """A Kedge of its own, measured and stopped."""
    with tempfile.TemporaryDirectory(prefix="kedge-thousand-") as temporary:
        model = Path(temporary) / "model"
        model.mkdir()
        subprocess.run([sys.executable, "-c", TRAIN["sklearn"], str(model)], check=True)
        kedge = RunningKedge(Path(temporary) / "kedge")
        try:
            kedge.start()
            results = settle(kedge, count, model, limit)
            results["idle"] = idle(kedge)
            print(f"idle: {results['idle']}", flush=True)
            results["answer_ms"] = ask_some(kedge, count)
            print(f"answers: {results['answer_ms']}", flush=True)
        finally:
            try:
                kedge.stop()
            except subprocess.TimeoutExpired:
                kedge.kill()
    return results


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--limit", type=float, default=240, help="seconds until all are settled")
    parser.add_argument("--keep", type=Path, default=None, help="where the results go, as JSON")
    options = parser.parse_args(argv)
    command = {"command": "python -m benchmarks.thousand", "load_before": os.getloadavg()[0]}
    results = {**machine(), **command, "services": options.services}
    results |= measure(options.services, options.limit)
    print(json.dumps(results, indent=2))
    keep = options.keep or (RESULTS if options.services == 1000 else None)
    if keep is not None:
        keep.write_text(json.dumps(results, indent=2) + "\n")
    return results


if __name__ == "__main__":
    main()
