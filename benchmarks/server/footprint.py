"""Start-up and memory: from a process to its first answer, and what it holds when idle."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.server.processes import SERVER_CORE, Server, environment, memory, pinned

_SETTLE_SECONDS = 1.0

# scikit-learn imports pandas where it is installed, for a version number only, and Kedge's server
# does not let it; so the framework's own import is taken without.
_FLOOR = """
import sys
sys.modules["pandas"] = None
import joblib, numpy
joblib.load(sys.argv[1]).predict(numpy.zeros((2, 4)))
print("ready", flush=True)
sys.stdin.read()
"""
_IMPORT = (
    "import time; began = time.perf_counter(); import kedge.server; "
    "print(time.perf_counter() - began)"
)


def footprint(start: Callable[[], Server], starts: int) -> dict[str, Any]:
    """Starts, one after another; memory and CPU of the last, idle after one answer."""
    seconds: list[float] = []
    for _ in range(starts):
        with start() as server:
            seconds.append(server.start_seconds)
            if len(seconds) == starts:
                time.sleep(_SETTLE_SECONDS)
                held, before = server.memory(), server.cpu_seconds()
                time.sleep(_SETTLE_SECONDS)
                idle = (server.cpu_seconds() - before) / _SETTLE_SECONDS
                count = len(server.processes())
    return {
        "start_seconds": round(statistics.median(seconds), 3),
        "starts": [round(one, 3) for one in seconds],
        "rss_mb": held["rss"],
        "pss_mb": held["pss"],
        "processes": count,
        "idle_cpu_percent": round(idle * 100, 1),
    }


def framework_memory(model: Path) -> dict[str, float]:
    """Megabytes of a bare process that has loaded the same model and asked it once."""
    with subprocess.Popen(
        pinned([sys.executable, "-c", _FLOOR, str(model)], SERVER_CORE),
        env=environment({}), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as bare:  # fmt: skip
        assert bare.stdout is not None
        bare.stdout.readline()
        time.sleep(_SETTLE_SECONDS)
        found = memory(bare.pid)
        bare.communicate("")
    return {f"{key}_mb": round(value / 1e6, 1) for key, value in found.items()}


def import_seconds() -> dict[str, float]:
    """Of `import kedge.server`, and of it with what it exports; medians of seven processes."""
    whole = f"{_IMPORT.replace('; print', '; kedge.server.ModelServer; print')}"
    return {"package": _median_of(_IMPORT), "with_model_server": _median_of(whole)}


def _median_of(code: str) -> float:
    command = pinned([sys.executable, "-c", code], SERVER_CORE)
    taken = [
        float(
            subprocess.run(
                command, env=environment({}), check=True, capture_output=True, text=True
            ).stdout
        )
        for _ in range(7)
    ]
    return round(statistics.median(taken), 4)
