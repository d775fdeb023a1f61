"""A gateway in a process of its own, for tests that kill it.

    python gateway_process.py API_SOCKET SETTINGS

SETTINGS are those of `GatewaySettings`, as JSON. Prints `ready` once Envoy has its configuration.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from kedge.cluster.kubernetes import KubernetesCluster
from kedge.gateway.gateway import Gateway
from kedge.settings.gateway import GatewaySettings


async def serve(api: Path, settings: GatewaySettings) -> None:
    async with KubernetesCluster.from_unix_socket(api) as cluster:
        gateway = Gateway(cluster, settings)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(gateway.run())
            await gateway.ready.wait()
            print("ready", flush=True)


if __name__ == "__main__":
    raw = json.loads(sys.argv[2])
    for name in ("xds_socket", "admin_socket", "access_log"):
        raw[name] = Path(raw[name])
    asyncio.run(serve(Path(sys.argv[1]), GatewaySettings(**raw)))
