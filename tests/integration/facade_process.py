"""A façade in a process of its own, for tests with foreign clients and for tests that kill it.

    python facade_process.py DATA_DIR

Prints `ready` once requests are answered.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from kedge.cluster.local.admission import AdmitAll
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.http import Facade, Listeners
from kedge.cluster.local.kubeconfig import ensure_token, write_kubeconfig
from kedge.cluster.local.store import Store
from kedge.cluster.local.tls import ensure_certificate


async def serve(folder: Path) -> None:
    cluster = LocalCluster(Store(folder / "kedge.db"), AdmitAll(), pods_dir=folder / "pods")
    certificate = ensure_certificate(folder / "tls")
    token = ensure_token(folder / "token")
    listeners = Listeners(
        Facade(cluster, token=token),
        host="127.0.0.1",
        port=0,
        certificate=certificate,
        unix_socket=folder / "api.sock",
    )
    write_kubeconfig(
        folder / "kubeconfig",
        server=f"https://127.0.0.1:{listeners.port}",
        ca=certificate.ca,
        token=token,
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(cluster.run())
        tasks.create_task(listeners.run())
        await listeners.ready.wait()
        print("ready", flush=True)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
