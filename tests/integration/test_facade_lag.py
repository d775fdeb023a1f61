"""A large list never stalls the event loop.

What is measured is the time that the loop's thread computes between two turns of the loop: what a
request that waits would have to wait for, less what other processes on this machine take.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kedge.api.scheme import POD
from kedge.cluster.base import Object
from kedge.cluster.local.admission import AdmitAll
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.http import Facade, Listeners
from kedge.cluster.local.store import Store
from kedge.cluster.local.tls import ensure_certificate

PODS = 10_000
LIMIT = 0.020
CLIENT = """
import socket, sys
path, accept = sys.argv[1:3]
for line in sys.stdin:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        head = f"GET {line.strip()} HTTP/1.1\\r\\nHost: x\\r\\nAccept: {accept}\\r\\n"
        peer.sendall((head + "Connection: close\\r\\n\\r\\n").encode())
        size = 0
        while piece := peer.recv(1 << 20):
            size += len(piece)
    print(size, flush=True)
"""
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def make_pod(number: int) -> Object:
    container = {
        "name": "c",
        "image": "app:1",
        "env": [{"name": f"NAME_{at}", "value": "value"} for at in range(10)],
        "ports": [{"containerPort": 8080}],
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
        "readinessProbe": {"httpGet": {"port": 8080}},
    }
    metadata = {
        "name": f"p{number:05}", "namespace": "default", "uid": f"uid-{number}",
        "labels": {"app": "web", "number": str(number)},
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {"containers": [container], "nodeName": "local"},
        "status": {"phase": "Running", "podIP": "127.1.0.1"},
    }  # fmt: skip


@pytest.fixture
async def socket(tmp_path: Path) -> AsyncIterator[Path]:
    store = Store(tmp_path / "kedge.db")
    cluster = LocalCluster(store, AdmitAll())
    for number in range(PODS):
        store.put(POD, make_pod(number), None)
        if number % 200 == 0:
            await asyncio.sleep(0)
    listeners = Listeners(
        Facade(cluster, token="secret"),
        host="127.0.0.1",
        port=0,
        certificate=ensure_certificate(tmp_path / "tls"),
        unix_socket=tmp_path / "api.sock",
    )
    task = asyncio.create_task(listeners.run())
    await listeners.ready.wait()
    yield tmp_path / "api.sock"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    store.close()


async def longest_turn(stop: asyncio.Event) -> float:
    longest, before = 0.0, time.thread_time()
    while not stop.is_set():
        await asyncio.sleep(0)
        now = time.thread_time()
        longest, before = max(longest, now - before), now
    return longest


@pytest.mark.parametrize(
    ("path", "accept", "size"),
    [
        ("/api/v1/pods", "application/json", 5_000_000),
        ("/api/v1/pods", TABLE, 2_000_000),
        ("/api/v1/pods?limit=500", TABLE, 100_000),
        ("/api/v1/pods?labelSelector=number%3D77", "application/json", 500),
        ("/api/v1/pods?watch=1&timeoutSeconds=1", "application/json", 5_000_000),
    ],
)
async def test_the_loop_turns_while_ten_thousand_pods_are_listed(
    socket: Path, path: str, accept: str, size: int
) -> None:
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, str(socket), accept,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert client.stdin is not None
    assert client.stdout is not None

    async def ask() -> int:
        client.stdin.write(f"{path}\n".encode())  # type: ignore[union-attr]  # is a pipe
        return int(await client.stdout.readline())  # type: ignore[union-attr]  # is a pipe

    await ask()  # The first request imports what it needs.
    stop = asyncio.Event()
    turns = asyncio.create_task(longest_turn(stop))
    await asyncio.sleep(0)
    received = await ask()
    stop.set()
    longest = await turns
    client.stdin.close()
    await client.wait()
    assert received > size
    assert longest < LIMIT, f"the loop computed for {longest * 1e3:.1f} ms without a turn"
