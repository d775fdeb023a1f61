"""`make demo`: train, start Kedge, apply, predict over three protocols, answer from zero, stop;
leave nothing.

Everything is in a temporary folder and on free ports. Exit status 0 when every answer was right and
no process is left; else 1, with what `kedge why` says.
"""

from __future__ import annotations

import asyncio
import os
import socket
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from train import train

from kedge.lib.errors import KedgeError

HERE = Path(__file__).parent
ROWS = [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]
EXPECTED = [1, 1]
REPEAT = 200


class DemoFailed(Exception):
    """A step did not do what it should."""


def main() -> int:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="kedge-demo-") as temporary:
        folder = Path(temporary)
        kedge = Command(folder / "kedge")
        try:
            run(kedge, folder)
        except (DemoFailed, KedgeError) as failure:
            print(f"\nThe demo failed: {failure}\n", file=sys.stderr)
            kedge.tell_why()
            return 1
        finally:
            kedge.stop()
        left = processes_naming(str(folder))
        if left:
            print("Processes are left:", *left, sep="\n  ", file=sys.stderr)
            return 1
    print(
        f"\nStopped; no process is left. The whole demo took {time.perf_counter() - began:.1f} s."
    )
    return 0


def run(kedge: Command, folder: Path) -> None:
    """Every step of the demo, each with its duration."""
    with step("Train a scikit-learn SVC on the iris flowers"):
        train(folder / "model")
    with step("Start Kedge"):
        kedge.call("up", "--detach", "--port", str(free_port()), "--api-port", str(free_port()))
    manifest = folder / "isvc.yaml"
    template = string.Template((HERE / "isvc.yaml").read_text())
    manifest.write_text(template.safe_substitute(MODEL_DIR=folder / "model"))
    (folder / "autoscaler.yaml").write_text(AT_ONCE)
    kedge.call("apply", "-f", str(folder / "autoscaler.yaml"))
    with step("Apply the InferenceService and wait until it is Ready"):
        kedge.call("apply", "-f", str(manifest), "--wait")
    print()
    kedge.call("get")
    print(f"\nPredict {ROWS} through the gateway, {REPEAT} times each:\n")
    answers = asyncio.run(ask(kedge.data_dir / "kubeconfig"))
    show(answers)
    wrong = [protocol for protocol, answer, *_ in answers if answer != EXPECTED]
    if wrong:
        raise DemoFailed(f"{', '.join(wrong)} did not answer {EXPECTED}.")
    from_zero(kedge, manifest)


def from_zero(kedge: Command, manifest: Path) -> None:
    """The last pod goes; a request brings one back and is answered by it."""
    with step("Let it go to zero pods when nobody asks (minReplicas: 0)"):
        text = manifest.read_text().replace("  predictor:\n", "  predictor:\n    minReplicas: 0\n")
        manifest.write_text(text)
        kedge.call("apply", "-f", str(manifest), "--wait")
        asyncio.run(until_gone(kedge.data_dir / "kubeconfig"))
    with step("Ask it at zero"):
        answer, seconds, start = asyncio.run(wake(kedge.data_dir / "kubeconfig"))
    if answer["predictions"] != EXPECTED:
        raise DemoFailed(f"From zero it answered {answer}.")
    show_start(seconds, start)


AT_ONCE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: config-autoscaler, namespace: kedge}
data: {stable-window: 6s, panic-window-percentage: "20", scale-to-zero-grace-period: 1s}
"""
"""Knative waits a minute and a half before it lets the last pod go; here nobody wants to."""


async def until_gone(kubeconfig: Path) -> None:
    from kedge.api.scheme import POD
    from kedge.client import ControlClient, discover

    async with ControlClient(discover(kubeconfig)) as client, asyncio.timeout(60):
        while (await client.list(POD)).items:  # noqa: ASYNC110 (another process's doing)
            await asyncio.sleep(0.1)


async def wake(kubeconfig: Path) -> tuple[Any, float, dict[str, Any]]:
    """The answer, the seconds it took, and the condition that tells of the new pod's start."""
    from kedge.api.scheme import INFERENCE_SERVICE, POD
    from kedge.client import ControlClient, InferenceClient, Target, discover

    async with ControlClient(discover(kubeconfig)) as client:
        target = Target.of(await client.get(INFERENCE_SERVICE, "iris"))
        async with InferenceClient(target) as inference:
            began = time.perf_counter()
            answer = await inference.predict(ROWS, "v1")
            seconds = time.perf_counter() - began
        async with asyncio.timeout(10):
            while True:
                for pod in (await client.list(POD)).items:
                    for condition in pod["status"].get("conditions") or []:
                        if condition["type"] == "serving.kedge.dev/Started":
                            return answer, seconds, condition
                await asyncio.sleep(0.05)


def show_start(seconds: float, start: dict[str, Any]) -> None:
    """By phase: what the pod tells, and the rest, which is the gateway's."""
    from kedge.cli.output import table

    rows, rest = [], seconds * 1000
    for part in start["message"].split(", "):
        name, milliseconds, _ = part.split()
        rows.append([name, f"{float(milliseconds):.0f} ms", PHASES.get(name, "")])
        rest -= float(milliseconds)
    rows.append(["answered", f"{max(rest, 0):.0f} ms", "the gateway sends it on; the prediction"])
    how = "forked from a template" if start["reason"] == "Forked" else "a new process"
    rows.append(["all", f"{seconds * 1000:.0f} ms", f"from the request to its answer; {how}"])
    print()
    table(["PHASE", "TIME", "WHAT"], rows)


PHASES = {
    "scheduled": "a pod is wanted, made, and given to this machine",
    "prepare": "its volumes and namespaces",
    "process": "until its program runs",
    "framework": "imports: the template has them",
    "weights": "the model's files",
    "inference": "a first prediction, for warmth",
    "ready": "it listens, and is seen to",
}


async def ask(kubeconfig: Path) -> list[tuple[str, Any, float, float]]:
    """(protocol, answer, first answer in ms, median in ms) of each protocol."""
    from kedge.api.scheme import INFERENCE_SERVICE
    from kedge.client import ControlClient, InferenceClient, Target, discover

    async with ControlClient(discover(kubeconfig)) as client:
        target = Target.of(await client.get(INFERENCE_SERVICE, "iris"))
    answers = []
    for library in ("grpc.aio", "kedge.protocol.open_inference.grpc"):
        import_module(library)  # loading them is no part of an answer's time
    for protocol, read in READERS.items():
        async with InferenceClient(target) as inference:
            await inference.inputs()
            times = []
            for _ in range(REPEAT):
                began = time.perf_counter()
                answer = await inference.predict(ROWS, protocol)
                times.append((time.perf_counter() - began) * 1000)
            answers.append((protocol, read(answer), times[0], sorted(times)[REPEAT // 2]))
    return answers


READERS: dict[str, Callable[[Any], Any]] = {
    "v1": lambda answer: answer["predictions"],
    "v2": lambda answer: answer["outputs"][0]["data"],
    "grpc": lambda answer: answer["outputs"][0]["data"],
}


def show(answers: list[tuple[str, Any, float, float]]) -> None:
    from kedge.cli.output import table

    names = {"v1": "V1 REST", "v2": "V2 REST", "grpc": "V2 gRPC"}
    rows = [
        [names[protocol], str(answer), f"{first:.2f} ms", f"{median:.2f} ms"]
        for protocol, answer, first, median in answers
    ]
    table(["PROTOCOL", "ANSWER", "FIRST", "MEDIAN"], rows)


class Command:
    """The `kedge` command against the demo's own data directory."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._env = {**os.environ, "KEDGE_HOME": str(data_dir)}
        self._env.pop("KUBECONFIG", None)

    def call(self, *arguments: str, check: bool = True) -> None:
        sys.stdout.flush()
        done = subprocess.run([sys.executable, "-m", "kedge", *arguments], env=self._env)
        if check and done.returncode != 0:
            raise DemoFailed(f"kedge {arguments[0]} ended with status {done.returncode}.")

    def tell_why(self) -> None:
        """What `kedge why` knows, and the ends of the logs where it knows nothing."""
        self.call("why", "iris", check=False)
        for log in sorted((self.data_dir / "logs").glob("*.log")):
            tail = log.read_text(errors="replace").splitlines()[-15:]
            print(f"--- {log.name}", *tail, sep="\n", file=sys.stderr)

    def stop(self) -> None:
        if (self.data_dir / "kedge.pid").exists():
            with step("Stop Kedge"):
                self.call("down", check=False)


@contextmanager
def step(title: str) -> Iterator[None]:
    print(f"\n== {title}", flush=True)
    began = time.perf_counter()
    yield
    print(f"   {time.perf_counter() - began:.2f} s", flush=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def processes_naming(text: str) -> list[str]:
    """Every other live process whose command line or environment holds a text (Linux)."""
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            line = (proc / "cmdline").read_bytes()
            seen = line + (proc / "environ").read_bytes()
            state = (proc / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if text.encode() in seen and state != "Z" and int(proc.name) != os.getpid():
            found.append(f"{proc.name} {line.replace(bytes(1), b' ').decode(errors='replace')}")
    return found


if __name__ == "__main__":
    sys.exit(main())
