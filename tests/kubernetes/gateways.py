"""`kedge gateway` processes with real Envoys on a real API server, and small servers as pods."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.kubernetes.world import HOME, World, until
from tests.ports import free_port

from kedge.api.scheme import ENDPOINT_SLICE, HTTP_ROUTE, SERVICE
from kedge.gateway.bootstrap import EnvoyNotFound, find_envoy
from kedge.gateway.status import ANSWERING, current_condition
from kedge.install.objects.access import make_accounts, make_cluster_access
from kedge.install.values import Values
from kedge.settings.installation import GATEWAY_LOCAL

GATEWAY = "kedge-gateway"
SERVER = Path(__file__).with_name("pod_process.py")
_PLACE = f"198.19.{os.getpid() % 256}"
NETWORK = f"{_PLACE}.0/24"
"""Addresses of the pods: an API server takes no loopback address for an endpoint. Tests that run
beside these on one machine have others."""


def pod_address(number: int) -> str:
    return f"{_PLACE}.{number}"


@contextmanager
def pod_network() -> Iterator[None]:
    """Make the pods' addresses ours while the context lasts; skips where that is not allowed."""
    how = ["ip", "route", "add", "local", NETWORK, "dev", "lo"]
    try:
        done = subprocess.run(how, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"there is no ip to give pods addresses with: {error}")
    if done.returncode and "File exists" not in done.stderr:
        pytest.skip(f"pods cannot be given addresses: {done.stderr.strip()}")
    try:
        yield
    finally:
        if not done.returncode:
            subprocess.run([*how[:2], "del", *how[3:]], check=False)


class GatewayProcess:
    """One replica: the process that drives Envoy, and Envoy."""

    def __init__(
        self, world: World, name: str, kubeconfig: Path, *options: str, address: str
    ) -> None:
        self.name = name
        self.address = address
        self.run_dir = Path(tempfile.mkdtemp(prefix="kedge-gw-"))
        self.port, self.https_port, self.inside_port, self.envoy_metrics_port = (
            free_port() for _ in range(4)
        )
        self.metrics_port, self.peers_port = free_port(), free_port()
        self._log = world.folder / f"{name}.log"
        self._envoy_log = world.folder / f"{name}.envoy.log"
        self._arguments = [
            sys.executable, "-m", "kedge", "gateway", "--kubeconfig", str(kubeconfig),
            f"--run-dir={self.run_dir}", f"--address={address}",
            f"--http-port={self.port}", f"--https-port={self.https_port}",
            f"--inside-port={self.inside_port}",
            f"--envoy-metrics-port={self.envoy_metrics_port}",
            f"--metrics-port={self.metrics_port}", f"--peers-port={self.peers_port}",
            "--drain-seconds=30", *options,
        ]  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None
        self.envoy: subprocess.Popen[bytes] | None = None

    # Its processes

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._arguments, env={**os.environ, "POD_NAME": self.name}, stdout=log, stderr=log
            )

    def start_envoy(self) -> None:
        bootstrap = self.run_dir / "bootstrap.json"
        subprocess.run(
            [*self._arguments, f"--write-bootstrap={bootstrap}"],
            env={**os.environ, "POD_NAME": self.name}, check=True,
        )  # fmt: skip
        with self._envoy_log.open("ab") as log:
            self.envoy = subprocess.Popen(
                [str(find_envoy()), "-c", str(bootstrap), "--concurrency", "2",
                 "--disable-hot-restart", "-l", "warning"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def kill_envoy(self) -> None:
        assert self.envoy is not None
        self.envoy.kill()
        self.envoy.wait()

    def end(self, seconds: float = 20) -> int:
        """End it in order; its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        if self.envoy is not None and self.envoy.poll() is None:
            self.kill_envoy()
        shutil.rmtree(self.run_dir, ignore_errors=True)

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def envoy_log(self) -> str:
        return self._envoy_log.read_text()

    # What it answers

    def page(self, path: str) -> tuple[int, str]:
        """Of the process itself."""
        return get("127.0.0.1", self.metrics_port, path)

    def is_ready(self) -> bool:
        return self.page("/readyz")[0] == 200

    def ask(self, host: str, path: str = "/", *, inside: bool = False) -> tuple[int, str]:
        port = self.inside_port if inside else self.port
        return get(self.address, port, path, host)


def get(
    host: str, port: int, path: str, authority: str = "", headers: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Status and body; status 0 where nobody answers."""
    connection = http.client.HTTPConnection(host, port, timeout=30)
    try:
        sent = {"Host": authority or f"{host}:{port}", **(headers or {})}
        connection.request("GET", path, headers=sent)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except OSError as error:
        return 0, str(error)
    finally:
        connection.close()


@contextmanager
def gateway(
    world: World,
    name: str,
    kubeconfig: Path,
    *options: str,
    address: str = "127.0.0.1",
    wait: bool = True,
) -> Iterator[GatewayProcess]:
    """A replica that runs while the context lasts."""
    try:
        find_envoy()
    except EnvoyNotFound as error:
        pytest.skip(str(error))
    it = GatewayProcess(world, name, kubeconfig, *options, address=address)
    try:
        it.start()
        it.start_envoy()
        if wait:
            until(it.is_ready, f"{name} ready", 120)
        yield it
    except AssertionError:
        print(it.log[-4000:], it.envoy_log[-2000:], it.page("/readyz"))
        raise
    finally:
        it.close()


def grant(world: World) -> Path:
    """The kubeconfig of the account that an installation gives gateways."""
    given = [*make_accounts(Values()), *make_cluster_access(Values())]
    world.apply(*(obj for obj in given if obj["metadata"]["name"] == GATEWAY))
    return world.api.kubeconfig_of(GATEWAY, HOME)


# Objects


def make_service(
    name: str,
    *,
    activation: bool = False,
    concurrency: int = 0,
    labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    labels = dict(labels or {})
    annotations = {"serving.kedge.dev/keepalive-seconds": "75"}
    if activation:
        labels["serving.kedge.dev/activation"] = "true"
        annotations["serving.kedge.dev/container-concurrency"] = str(concurrency)
    return {
        "apiVersion": SERVICE.api_version,
        "kind": SERVICE.kind,
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    }


def make_slice(service: str, *places: tuple[str, int], ready: bool = True) -> dict[str, Any]:
    """The endpoints of a Service, all of one port."""
    return {
        "apiVersion": ENDPOINT_SLICE.api_version,
        "kind": ENDPOINT_SLICE.kind,
        "metadata": {
            "name": f"{service}-made",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": places[0][1] if places else 1, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": [address], "conditions": {"ready": ready, "serving": ready}}
            for address, _ in places
        ],
    }


def make_route(name: str, service: str, *hosts: str, section: str = "") -> dict[str, Any]:
    parent = {"name": GATEWAY, "namespace": HOME}
    if section:
        parent["sectionName"] = section
    return {
        "apiVersion": HTTP_ROUTE.api_version,
        "kind": HTTP_ROUTE.kind,
        "metadata": {"name": name},
        "spec": {
            "parentRefs": [parent],
            "hostnames": list(hosts),
            "rules": [{"backendRefs": [{"name": service, "port": 80}]}],
        },
    }


def tell_members(
    world: World, *replicas: GatewayProcess, unready: str = "", terminating: str = ""
) -> None:
    """Make these replicas the endpoints of the gateway's Service; one slice each, for their ports
    differ here."""
    service = make_service(GATEWAY_LOCAL)
    made = []
    for one in replicas:
        ready = one.name not in (unready, terminating)
        piece = make_slice(GATEWAY_LOCAL, (one.address, one.inside_port), ready=ready)
        piece["metadata"]["name"] = f"{GATEWAY_LOCAL}-{one.name}"
        piece["ports"].append({"name": "peers", "port": one.peers_port, "protocol": "TCP"})
        piece["endpoints"][0]["targetRef"] = {"kind": "Pod", "name": one.name, "namespace": HOME}
        piece["endpoints"][0]["conditions"]["terminating"] = one.name == terminating
        made.append(piece)
    world.apply(service, *made, namespace=HOME)


def forget_members(world: World) -> None:
    world.api.kubectl(
        "delete", "endpointslices", "-n", HOME, "-l", f"kubernetes.io/service-name={GATEWAY_LOCAL}"
    )


def answering(world: World, route: str, namespace: str) -> dict[str, Any]:
    """What the route's status says now; empty where it says nothing of this generation."""
    found = world.get("httproute", route, namespace)
    condition = current_condition(found, ANSWERING) if found else None
    if condition is None or condition["observedGeneration"] != found["metadata"]["generation"]:
        return {}
    return condition


def answers(world: World, route: str, namespace: str, seconds: float = 20) -> None:
    until(
        lambda: answering(world, route, namespace).get("status") == "True",
        f"{route} answering", seconds,
    )  # fmt: skip


# Servers


class Pod:
    """A `pod_process` that tells its name `seconds` after it was asked."""

    def __init__(self, name: str, address: str, port: int, seconds: float = 0.0) -> None:
        self.place = (address, port)
        self._process = subprocess.Popen(
            [sys.executable, str(SERVER), name, address, str(port), str(seconds)]
        )

    @property
    def most(self) -> int:
        return int(get(*self.place, "/most")[1])

    @property
    def is_up(self) -> bool:
        return get(*self.place, "/most")[0] == 200

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def pods(count: int = 1, *, seconds: float = 0.0, first: int = 1) -> Iterator[list[Pod]]:
    """Pods `pod-1`, `pod-2`, ... of one port, each with an address of its own."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(pod_network())
        port = free_port()
        made = []
        for number in range(first, first + count):
            pod = Pod(f"pod-{number}", pod_address(number), port, seconds)
            stack.callback(pod.stop)
            made.append(pod)
        for pod in made:
            until(lambda pod=pod: pod.is_up, "the pod")  # type: ignore[misc]
        yield made


async def ask_many(
    replica: GatewayProcess, host: str, count: int, session: aiohttp.ClientSession
) -> list[tuple[int, Any]]:
    """The answers to `count` requests that are sent together."""

    async def one() -> tuple[int, Any]:
        url = f"http://{replica.address}:{replica.port}/"
        async with session.get(url, headers={"Host": host}) as response:
            text = await response.text()
            return response.status, json.loads(text) if response.status == 200 else text

    return list(await asyncio.gather(*(one() for _ in range(count))))
