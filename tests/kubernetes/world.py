"""A real API server with Kedge's kinds in it, and `kedge controller` processes against it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from tests.contract.apiserver import ApiServer
from tests.ports import free_port

from kedge.api.crds import make_crd
from kedge.api.scheme import GATEWAY, GATEWAY_CLASS, HTTP_ROUTE
from kedge.install.manifests import shipped

SECONDS = 60.0
HOME = "kedge"
T = TypeVar("T")


class ControllerProcess:
    """A `kedge controller` of its own."""

    def __init__(self, folder: Path, name: str, kubeconfig: Path, *options: str) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.metrics_port, self.signals_port, self.webhook_port = (free_port() for _ in range(3))
        ports = (
            f"--metrics-port={self.metrics_port}", f"--signals-port={self.signals_port}",
            f"--webhook-port={self.webhook_port}",

        )  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kedge", "controller", "--kubeconfig", str(kubeconfig),
                 *ports, *options],
                env={**os.environ, "POD_NAME": name}, stdout=log, stderr=log,
            )  # fmt: skip

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """End it in order; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def memory(self) -> int:
        """Bytes in memory now."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class World:
    """An API server prepared for Kedge, and what tests ask of it."""

    def __init__(self, api: ApiServer, folder: Path) -> None:
        self.api = api
        self.folder = folder
        self._stack = contextlib.ExitStack()

    @contextmanager
    def controller(
        self, name: str = "one", *options: str, kubeconfig: Path | None = None
    ) -> Iterator[ControllerProcess]:
        """A controller that runs while the context lasts."""
        process = ControllerProcess(self.folder, name, kubeconfig or self.api.kubeconfig, *options)
        try:
            yield process
        finally:
            if process.process.poll() is None:
                process.end()

    def apply(self, *objects: dict[str, Any], namespace: str = "") -> str:
        """Client-side apply."""
        place = ["-n", namespace] if namespace else []
        return self.api.kubectl(
            "apply", "--validate=false", *place, "-f", "-", given=yaml.safe_dump_all(objects)
        )

    def get(self, resource: str, name: str = "", namespace: str = "") -> Any:
        """One object (None where it is not), or the list of all."""
        found = self.api.kubectl(
            "get", resource, *([name] if name else []), "-n", namespace or "default",
            "-o", "json", "--ignore-not-found",
        )  # fmt: skip
        if not found.strip():
            return None if name else []
        return json.loads(found) if name else json.loads(found)["items"]

    def patch(
        self, resource: str, name: str, namespace: str, patch: Any, *, status: bool = False
    ) -> None:
        extra = ["--subresource=status"] if status else []
        self.api.kubectl(
            "patch", resource, name, "-n", namespace, "--type=merge", *extra,
            "-p", json.dumps(patch),
        )  # fmt: skip


def until(find: Callable[[], T], what: str, seconds: float = SECONDS) -> T:
    """What `find` returns once it is something."""
    deadline = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < deadline, f"{what} did not come about in {seconds:g} s"
        time.sleep(0.1)
    return found


def prepare(world: World, *, gateway_api: bool = True) -> None:
    """What an installation brings, but for the processes."""
    folder = files("kedge").joinpath("manifests", "crds")
    crds = [yaml.safe_load(one.read_text()) for one in folder.iterdir()]
    if gateway_api:
        known = {crd["metadata"]["name"] for crd in crds}
        made = [make_crd(kind) for kind in (HTTP_ROUTE, GATEWAY, GATEWAY_CLASS)]
        for crd in made:
            crd["metadata"]["annotations"] = {
                "api-approved.kubernetes.io": "unapproved, for tests only"
            }
        crds += [crd for crd in made if crd["metadata"]["name"] not in known]
    else:
        crds = [crd for crd in crds if "gateway.networking" not in crd["metadata"]["name"]]
    given = yaml.safe_dump_all(crds)
    world.api.kubectl("create", "--validate=false", "-f", "-", given=given)
    names = [f"crd/{crd['metadata']['name']}" for crd in crds]
    world.api.kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)
    world.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}},
        *shipped("runtimes"), *shipped("storagecontainers"),
    )  # fmt: skip
