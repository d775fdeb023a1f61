"""`kedge node` processes for tests, and requests to what runs on them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.contract.apiserver import ApiServer
from tests.kubernetes import asking
from tests.kubernetes.real import RealCluster
from tests.kubernetes.world import World
from tests.ports import free_port

from kedge.install.rights import NODE_RULES
from kedge.settings.local import runtime_dir

Object = dict[str, Any]
NAME = "processes"


class Node:
    """A `kedge node` of its own."""

    def __init__(self, folder: Path, kubeconfig: Path) -> None:
        self.log = folder / "node.log"
        self.data_dir = folder / "node"
        self._kubeconfig = kubeconfig
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kedge", "node", f"--kubeconfig={self._kubeconfig}",
                 f"--name={NAME}", f"--data-dir={self.data_dir}", f"--port={free_port()}"],
                stdout=log, stderr=log,
            )  # fmt: skip

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def node_of(world: World, folder: Path) -> Iterator[Node]:
    """A ready node, with the rights alone that are told to be needed."""
    world.apply(*make_rights())
    node = Node(folder, world.api.kubeconfig_of("kedge-node", "default"))
    try:
        for what in ("create", "condition=Ready"):
            world.api.kubectl("wait", f"--for={what}", f"node/{NAME}", "--timeout=30s")
        yield node
    except AssertionError as error:
        raise AssertionError(f"{error}\n{node.log.read_text()}") from error
    finally:
        if node.process.poll() is None:
            node.end()
        shutil.rmtree(runtime_dir(node.data_dir), ignore_errors=True)


def make_rights() -> list[Object]:
    name = {"name": "kedge-node"}
    subject = {"kind": "ServiceAccount", **name, "namespace": "default"}
    group = "rbac.authorization.k8s.io"
    return [
        {
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {**name, "namespace": "default"},
        },
        {
            "apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": name,
            "rules": [rule.to_dict() for rule in NODE_RULES],
        },
        {
            "apiVersion": f"{group}/v1", "kind": "ClusterRoleBinding", "metadata": name,
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", **name}, "subjects": [subject],
        },
    ]  # fmt: skip


def ask(address: str, path: str = "/", body: Any = None, port: int = 8080) -> bytes:
    request = urllib.request.Request(
        f"http://{address}:{port}{path}", None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )  # fmt: skip
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=30) as answer:
        found: bytes = answer.read()
    return found


def ready_endpoints(world: World, name: str, namespace: str) -> list[str]:
    found = world.api.kubectl(
        "get", "endpointslices", "-n", namespace, "-l", f"kubernetes.io/service-name={name}",
        "-o", "json",
    )  # fmt: skip
    return [
        address
        for one in json.loads(found)["items"]
        for endpoint in one.get("endpoints") or ()
        if endpoint["conditions"].get("ready")
        for address in endpoint["addresses"]
    ]


class NodeCluster(RealCluster):
    """A cluster whose pods are processes of this machine: what asks is a process beside them."""

    @contextmanager
    def forwarded(self) -> Iterator[str]:
        yield f"{self.gateway.removeprefix('http://')}:80"

    def kubectl(self, *arguments: str, given: str = "", seconds: float = 120.0) -> str:
        if arguments[0] != "exec":
            return super().kubectl(*arguments, given=given, seconds=seconds)
        done = subprocess.run(
            [sys.executable, asking.__file__],
            input=given, capture_output=True, text=True, timeout=seconds, check=True,
        )  # fmt: skip
        return done.stdout


@contextmanager
def node_cluster(assets: Path, folder: Path, namespace: str) -> Iterator[NodeCluster]:
    """A control plane of its own, and one node."""
    with ApiServer(assets, folder, controllers=True, scheduler=True, nodes=True) as api:
        world = World(api, folder)
        with node_of(world, folder):
            yield NodeCluster(api.kubeconfig, namespace)
