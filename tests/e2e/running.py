"""A real Kedge for the end-to-end tests: started, spoken to by foreign clients, stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.ports import free_port

from kedge.api.scheme import INFERENCE_SERVICE, Kind, kind_of

T = TypeVar("T")


def crowded_seconds() -> float:
    """For how long, since the machine began, some process waited for a core that others had."""
    try:
        some = Path("/proc/pressure/cpu").read_text().splitlines()[0]
    except (OSError, IndexError):
        return 0.0  # The kernel does not tell.
    return int(some.rpartition("total=")[2]) / 1e6


def wait_for(
    what: Callable[[], T], seconds: float = 20.0, message: str | Callable[[], str] = ""
) -> T:
    """The first truthy value of `what()`; fails with `message` after `seconds`, or up to four times
    as many on a machine that others use too."""
    began, crowded = time.monotonic(), crowded_seconds()
    while not (value := what()):
        waited = time.monotonic() - began
        if waited > seconds + min(crowded_seconds() - crowded, 3 * seconds):
            text = message() if callable(message) else message
            raise AssertionError(text or "the condition did not come true in time")
        time.sleep(0.02)
    return value


def processes_under(data_dir: Path) -> list[str]:
    """Every live process whose command line or environment names the data directory."""
    found = []
    needle = str(data_dir).encode()
    for proc in Path("/proc").iterdir():
        if not proc.name.isdigit() or int(proc.name) == os.getpid():
            continue
        try:
            text = (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes()
            state = (proc / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if needle in text and state != "Z":
            found.append(f"{proc.name} {(proc / 'cmdline').read_bytes()[:400]!r}")
    return found


class RunningKedge:
    """One `kedge up`.

    Attributes:
        data_dir: its data directory.
        port: the gateway's port; api_port: the API's.
    """

    def __init__(self, data_dir: Path, *arguments: str) -> None:
        self.data_dir = data_dir
        self.port, self.api_port = free_port(), free_port()
        self._arguments = arguments
        self._trust: ssl.SSLContext | None = None
        self.process: subprocess.Popen[str] | None = None

    @property
    def kubeconfig(self) -> Path:
        return self.data_dir / "kubeconfig"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "KEDGE_HOME": str(self.data_dir)}

    def start(self) -> dict[str, Any]:
        """Start and wait until ready; what `ready.json` says."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "kedge", "up", "--data-dir", str(self.data_dir),
                "--port", str(self.port), "--api-port", str(self.api_port), *self._arguments,
            ],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        return wait_for(
            lambda: self._ready() or self._ended(),
            60,
            lambda: f"Kedge did not get ready:\n{self.logs()}",
        )

    def _ready(self) -> dict[str, Any]:
        """What this start says; one that was killed may have left its own."""
        ready = self.data_dir / "ready.json"
        document: dict[str, Any] = json.loads(ready.read_text()) if ready.exists() else {}
        assert self.process is not None
        return document if document.get("pid") == self.process.pid else {}

    def _ended(self) -> dict[str, Any]:
        assert self.process is not None
        if self.process.poll() is None:
            return {}
        raise AssertionError(f"kedge up ended:\n{self.process.stdout.read()}\n{self.logs()}")  # type: ignore[union-attr]  # stdout is a pipe

    def stop(self) -> None:
        """End it as Ctrl-C would; fail when anything is left behind."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)
        self.process = None
        wait_for(
            lambda: not processes_under(self.data_dir),
            10,
            f"left behind: {processes_under(self.data_dir)}",
        )

    def kill(self) -> None:
        """kill -9 of the supervisor."""
        assert self.process is not None
        self.process.kill()
        self.process.communicate()
        self.process = None

    def part(self, name: str) -> int:
        """The pid of a part (control, data, envoy)."""
        marks = {
            "envoy": b"bootstrap",
            "control": b"kedge.modes.control",
            "data": b"kedge.modes.data",
        }
        assert self.process is not None
        for proc in Path("/proc").iterdir():
            if proc.name.isdigit():
                try:
                    stat = (proc / "stat").read_text().rpartition(")")[2].split()
                    line = (proc / "cmdline").read_bytes()
                except OSError:
                    continue
                if int(stat[1]) == self.process.pid and marks[name] in line:
                    return int(proc.name)
        raise AssertionError(f"{name} is not running")

    def logs(self) -> str:
        text = ""
        for path in sorted((self.data_dir / "logs").glob("*.log")):
            if path.name != "access.log":
                tail = path.read_text(errors="replace")[-3000:]
                text += f"--- {path.name}\n{tail}\n"
        return text

    def run(self, *argv: str, input: str | None = None, check: bool = True) -> str:
        """Run a client command against this Kedge; its output."""
        done = subprocess.run(
            argv, env=self.environment, input=input, text=True, capture_output=True, timeout=120
        )
        if check:
            assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def kubectl(self, *arguments: str, input: str | None = None, check: bool = True) -> str:
        kubectl = shutil.which("kubectl")
        if kubectl is None:
            pytest.skip("kubectl is not installed")
        return self.run(kubectl, *arguments, input=input, check=check)

    def kedge(self, *arguments: str, input: str | None = None, check: bool = True) -> str:
        return self.run(sys.executable, "-m", "kedge", *arguments, input=input, check=check)

    def api(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One call of the Kubernetes API; status and decoded answer."""
        if self._trust is None:
            self._trust = ssl.create_default_context(cafile=str(self.data_dir / "tls" / "ca.pem"))
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.api_port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "authorization": f"Bearer {(self.data_dir / 'token').read_text().strip()}",
                "content-type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=30, context=self._trust) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def objects(self, kind: Kind, labels: str = "", namespace: str = "default") -> list[Any]:
        query = f"?labelSelector={urllib.parse.quote(labels)}" if labels else ""
        status, found = self.api("GET", kind.path(namespace) + query)
        assert status == 200, found
        items: list[Any] = found["items"]
        return items

    def service(self, name: str, namespace: str = "default") -> dict[str, Any]:
        """An InferenceService as stored; empty when there is none."""
        return self.stored(INFERENCE_SERVICE, name, namespace)

    def stored(self, kind: Kind, name: str, namespace: str = "default") -> dict[str, Any]:
        """One object; empty when there is none."""
        status, found = self.api("GET", kind.path(namespace, name))
        assert status in (200, 404), found
        return dict(found) if status == 200 else {}

    def apply(self, *objects: dict[str, Any], namespace: str = "default") -> None:
        """Create objects, or replace those that are there."""
        for obj in objects:
            kind = kind_of(obj)
            assert kind is not None
            status, answer = self.api("POST", kind.path(namespace), obj)
            if status == 409:
                path = kind.path(namespace, obj["metadata"]["name"])
                _, stored = self.api("GET", path)
                status, answer = self.api("PUT", path, {**stored, **obj, "metadata": {
                    **stored["metadata"], **obj["metadata"]}})  # fmt: skip
            assert status in (200, 201), answer

    def delete(self, *names: str, namespace: str = "default") -> None:
        """Delete InferenceServices and wait until they are gone."""
        for name in names:
            self.api("DELETE", INFERENCE_SERVICE.path(namespace, name))
        for name in names:
            wait_for(lambda name=name: not self.service(name, namespace))  # type: ignore[misc]  # bound at once

    def is_ready(self, name: str) -> bool:
        try:
            return condition(self.service(name)).get("status") == "True"
        except urllib.error.URLError:
            return False  # The API is being restarted.

    def until_ready(self, *names: str, seconds: float = 60) -> None:
        for name in names:
            wait_for(
                lambda name=name: self.is_ready(name),  # type: ignore[misc]  # bound at once
                seconds,
                lambda name=name: f"{name}: {condition(self.service(name))}\n{self.logs()}",  # type: ignore[misc]  # bound at once
            )

    def post(self, path: str, body: Any, host: str | None = None) -> tuple[int, Any]:
        """POST JSON to the gateway; status and decoded answer."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json", **({"host": host} if host else {})},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                text = error.read()
            try:
                return error.code, json.loads(text)
            except ValueError:
                return error.code, text.decode(errors="replace")


def condition(obj: dict[str, Any], type: str = "Ready") -> dict[str, Any]:
    """The condition of that type, or an empty one."""
    for entry in obj.get("status", {}).get("conditions", []):
        if entry["type"] == type:
            found: dict[str, Any] = entry
            return found
    return {}
