"""Cold starts: services at zero pods are asked; from the request to its answer, and by phase.

    python -m benchmarks.cold_start [--turns 30] [--models sklearn,onnx,pytorch] [--keep FILE]

Every turn waits until the last pod is gone and sends one request at the gateway. The phases are
the pod's own, as its condition `serving.kedge.dev/Started` tells them; before them lies what the
control plane took from the request to the pod, after them what the gateway took from the pod's
readiness to the answer. Memory is the kernel's proportional share, summed over Kedge's processes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.e2e.running import RunningKedge, wait_for

from benchmarks.one_machine import machine, pss, tree
from kedge.api.scheme import DEPLOYMENT, POD
from kedge.cluster.local.node.starts import PHASES, read

WINDOWS = {
    "stable-window": "6s", "panic-window-percentage": "20", "scale-to-zero-grace-period": "1s",
}  # fmt: skip
"""As short as they may be: what is measured is the way up, not the wait before the way down."""

TRAIN = {
    "sklearn": """
import joblib, sys
from sklearn.datasets import load_iris
from sklearn.svm import SVC
data = load_iris()
joblib.dump(SVC(gamma="scale").fit(data.data, data.target), sys.argv[1] + "/model.joblib")
""",
    "onnx": """
import sys
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
data = load_iris()
model = LogisticRegression(max_iter=1000).fit(data.data, data.target)
onnx = to_onnx(model, data.data[:1].astype("float32"), options={"zipmap": False})
open(sys.argv[1] + "/model.onnx", "wb").write(onnx.SerializeToString())
""",
    "pytorch": """
import sys, torch
model = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3))
torch.jit.save(torch.jit.trace(model.eval(), torch.zeros(1, 4)), sys.argv[1] + "/model.pt")
""",
}
BODIES = {
    "sklearn": ("v1/models/cold:predict", {"instances": [[6.8, 2.8, 4.8, 1.4]]}),
    "onnx": (
        "v2/models/cold/infer",
        {"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [6, 2, 4, 1]}]},
    ),
    "pytorch": (
        "v2/models/cold/infer",
        {"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [6, 2, 4, 1]}]},
    ),
}


def service(format: str, model: Path, name: str = "cold") -> dict[str, Any]:
    """A service that goes to zero."""
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {
            "predictor": {
                "minReplicas": 0,
                "model": {"modelFormat": {"name": format}, "storageUri": f"file://{model}"},
            }
        },
    }


def windows(values: dict[str, str]) -> dict[str, Any]:
    """The autoscaler's configuration."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "config-autoscaler"},
        "data": values,
    }


def until_zero(kedge: RunningKedge, seconds: float = 90) -> None:
    """Until the last pod is gone."""
    wait_for(lambda: not kedge.objects(POD), seconds, kedge.logs)


def ask(kedge: RunningKedge, format: str) -> float:
    """Seconds until one request is answered."""
    path, body = BODIES[format]
    request = urllib.request.Request(
        f"http://127.0.0.1:{kedge.port}/serving/default/cold/{path}",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()
    return time.perf_counter() - began


def turn(kedge: RunningKedge, format: str) -> dict[str, float]:
    """One cold start: milliseconds by phase."""
    total = ask(kedge, format) * 1000
    start = wait_for(lambda: next(filter(None, map(read, kedge.objects(POD))), None), 10)
    assert start is not None
    phases = {name: start.phases.get(name, 0.0) * 1000 for name in PHASES}
    rest = total - sum(phases.values())
    return {"total": total, "outside the pod": rest, **phases, "forked": float(start.warm)}


def measure(kedge: RunningKedge, format: str, folder: Path, turns: int) -> dict[str, Any]:
    """All turns of one model, and the memory before, with and after a pod."""
    model = folder / format
    model.mkdir()
    subprocess.run([sys.executable, "-c", TRAIN[format], str(model)], check=True)
    kedge.apply(service(format, model))
    kedge.until_ready("cold")
    until_zero(kedge)
    at_zero = memory(kedge)
    taken = []
    for number in range(turns):
        taken.append(turn(kedge, format))
        print(format, number, {k: round(v, 1) for k, v in taken[-1].items()}, flush=True)
        if number == 0:
            with_pod = memory(kedge)
        until_zero(kedge)
    after = memory(kedge)
    result = {
        "turns": turns,
        "forked": sum(one["forked"] for one in taken) / turns,
        "milliseconds": {
            name: {
                "median": round(statistics.median(one[name] for one in taken), 1),
                "p99": round(percentile([one[name] for one in taken], 0.99), 1),
            }
            for name in taken[0]
            if name != "forked"
        },
        "memory_mb": {"at zero": at_zero, "with a pod": with_pod, "at zero again": after},
        "holds_the_model_at_zero": holders(kedge, model),
    }
    kedge.delete("cold")
    return result


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def memory(kedge: RunningKedge) -> dict[str, float]:
    """Megabytes by kind of process."""
    assert kedge.process is not None
    found: dict[str, float] = {}
    for pid in tree(kedge.process.pid):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            comm = Path(f"/proc/{pid}/comm").read_text().strip()
            amount = pss(pid) / 1e6
        except OSError:
            continue
        if "--model_name" in line or comm == "kedge-pod":
            kind = "pods"
        elif "--template" in line or "shim.py" in line:
            kind = "templates"
        else:
            kind = "envoy" if "bootstrap" in line else "kedge"
        found[kind] = round(found.get(kind, 0.0) + amount, 1)
    found["sum"] = round(sum(found.values()), 1)
    return found


def holders(kedge: RunningKedge, model: Path) -> int:
    """How many of Kedge's processes have a file of the model open or mapped."""
    assert kedge.process is not None
    count = 0
    for pid in tree(kedge.process.pid):
        try:
            text = Path(f"/proc/{pid}/maps").read_text()
            text += "".join(str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            continue
        count += str(model) in text
    return count


def table(results: dict[str, Any]) -> str:
    """The medians and p99 as a table in Markdown."""
    formats = list(results["models"])
    lines = [
        "| ms, median (p99) | " + " | ".join(formats) + " |",
        "| --- |" + " --- |" * len(formats),
    ]
    for name in results["models"][formats[0]]["milliseconds"]:
        cells = []
        for format in formats:
            found = results["models"][format]["milliseconds"][name]
            cells.append(f"{found['median']:g} ({found['p99']:g})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--models", default="sklearn,onnx,pytorch")
    parser.add_argument("--keep", type=Path, default=None, help="where the results go, as JSON")
    options = parser.parse_args(argv)
    results: dict[str, Any] = {**machine(), "command": "python -m benchmarks.cold_start"}
    # On a machine that others use too, `chrt -r 1` in front keeps their load out of the figures.
    results["real_time_priority"] = os.sched_getscheduler(0) in (os.SCHED_RR, os.SCHED_FIFO)
    results["models"] = {}
    with tempfile.TemporaryDirectory(prefix="kedge-cold-") as temporary:
        folder = Path(temporary)
        kedge = RunningKedge(folder / "kedge")
        kedge.start()
        try:
            kedge.apply(windows(WINDOWS), namespace="kedge")
            for format in options.models.split(","):
                results["models"][format] = measure(kedge, format, folder, options.turns)
            results["deployments_left"] = len(kedge.objects(DEPLOYMENT))
        finally:
            kedge.stop()
    print(table(results))
    if options.keep is not None:
        options.keep.write_text(json.dumps(results, indent=2) + "\n")
    return results


if __name__ == "__main__":
    main()
