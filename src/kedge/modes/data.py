"""The data side of `kedge up`: drives Envoy, runs pods; reaches the API as it would on Kubernetes.

Its death fails no request and ends no pod: Envoy keeps its configuration, and a new data process
adopts what runs.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace

from kedge.api.scheme import POD
from kedge.cluster.kubernetes import KubernetesCluster
from kedge.cluster.local.node import NodeAgent, Wakes
from kedge.gateway.gateway import Gateway
from kedge.modes.listening import explain
from kedge.modes.part import notify, run_part, tell
from kedge.modes.reporting import make_signals
from kedge.reconcile import EventRecorder, Informer
from kedge.settings.gateway import GatewaySettings
from kedge.settings.local import LocalSettings
from kedge.settings.node import Capacity, NodeSettings


def node_settings(settings: LocalSettings) -> NodeSettings:
    """This machine as a node."""
    node = NodeSettings(
        name=settings.node_name,
        data_dir=settings.data_dir,
        runtime_dir=settings.runtime_dir,
        capacity=Capacity.of_this_machine(),
    )
    return replace(node, proxy_url=settings.proxy_url, cluster_domain=settings.cluster_domain)


async def run_data(settings: LocalSettings) -> None:
    """Until cancelled; tells the supervisor when an Envoy has taken its configuration."""
    async with KubernetesCluster.from_unix_socket(settings.api_socket) as cluster:
        gateway = Gateway(cluster, GatewaySettings.from_local(settings))
        pods = Informer(cluster, POD)
        wakes = Wakes()
        agent = NodeAgent(
            cluster,
            node_settings(settings),
            pods=pods,
            events=EventRecorder(cluster, "kubelet"),
            drains=gateway,
            asked=wakes.asked,
            life_fd=int(os.environ["KEDGE_LIFE_FD"]) if "KEDGE_LIFE_FD" in os.environ else None,
        )
        gateway.demand.on_wake(wakes.note)

        signals = make_signals(settings.signals_socket, settings.node_name, gateway)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(signals.run())
            tasks.create_task(pods.run())
            tasks.create_task(agent.run())
            tasks.create_task(gateway.run())
            tasks.create_task(_tell_refusals(gateway, settings))
            await gateway.ready.wait()
            notify("data")


async def _tell_refusals(gateway: Gateway, settings: LocalSettings) -> None:
    """Tell the supervisor when Envoy cannot listen as it is to, and when it can again."""
    told = ""

    def is_news() -> bool:
        return gateway.refusal != told

    while True:
        await gateway.server.wait_until(is_news)
        told = gateway.refusal
        tell("data", explain(settings, told) if told else "")


if __name__ == "__main__":
    sys.exit(run_part(run_data, sys.argv[1:]))
