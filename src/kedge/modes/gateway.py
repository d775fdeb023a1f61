"""`kedge gateway`: the process beside each Envoy of the gateway on Kubernetes.

It tells Envoy where requests go, holds those for which there is no pod, and reports to the
autoscaler what is asked. Its death fails no request: Envoy keeps what it has, and asks again for
what waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kedge.autoscaler.leader import find_leader, read_token
from kedge.autoscaler.signals_client import SignalsClient
from kedge.cluster.base import Cluster
from kedge.cluster.kubernetes import KubernetesCluster
from kedge.cluster.narrowed import NarrowedCluster
from kedge.gateway.bootstrap import make_bootstrap
from kedge.gateway.fleet import Fleet
from kedge.gateway.gateway import Gateway
from kedge.gateway.leaving import Leaving
from kedge.gateway.members import Members, MemberWatch
from kedge.lib.addresses import any_address, join
from kedge.lib.asgi import Body, NotNow, ReadOnly
from kedge.modes.http import HttpServer
from kedge.modes.part import run_process, when_told_to_stop
from kedge.modes.reporting import make_signals
from kedge.settings.gateway import GatewaySettings
from kedge.settings.installation import GATEWAY, GATEWAY_LOCAL, LOCAL_LISTENER
from kedge.settings.serving import DEFAULT_NAMESPACE

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SideSettings:
    """One process beside an Envoy.

    Attributes:
        name: of this gateway among its peers, the pod's name.
        namespace: where Kedge's own objects are.
        watch_namespace: the one namespace whose routes are served; empty for all.
        cluster_domain: domain of in-cluster names.
        kubeconfig: of the cluster; None in a pod, which has a service account.
        run_dir: the folder that Envoy shares with us.
        address: what Envoy's listeners bind; empty for every address.
        http_port: of Envoy, where requests from outside come in.
        https_port: of Envoy, the same with TLS.
        inside_port: of Envoy, where pods ask.
        envoy_metrics_port: of Envoy, for its metrics.
        metrics_port: of this process, for health and metrics; 0 has no such port.
        peers_port: of this process, where the other replicas reach it.
        drain_seconds: how long requests may take to end when the pod is deleted.
    """

    name: str
    namespace: str = DEFAULT_NAMESPACE
    watch_namespace: str = ""
    cluster_domain: str = "cluster.local"
    kubeconfig: Path | None = None
    run_dir: Path = Path("/run/kedge")
    address: str = ""
    http_port: int = 8080
    https_port: int = 8443
    inside_port: int = 8888
    envoy_metrics_port: int = 9091
    metrics_port: int = 9090
    peers_port: int = 9445
    drain_seconds: float = 100.0

    @property
    def drained(self) -> Path:
        """A file that is there when Envoy may end: its container waits for it."""
        return self.run_dir / "drained"

    @property
    def gateway(self) -> GatewaySettings:
        return GatewaySettings(
            xds_socket=self.run_dir / "xds.sock",
            admin_socket=self.run_dir / "admin.sock",
            host=self.address or any_address(),
            port=self.http_port,
            https_port=self.https_port,
            proxy_port=self.inside_port,
            forwards=False,
            inside=LOCAL_LISTENER,
            metrics_port=self.envoy_metrics_port,
            gateway=f"{self.namespace}/{GATEWAY}",
            service=f"{self.namespace}/{GATEWAY}",
            served_namespace=self.watch_namespace,
            cluster_domain=self.cluster_domain,
        )


def write_bootstrap(settings: SideSettings, path: Path) -> None:
    """Write what Envoy must know to ask us for the rest."""
    gateway = settings.gateway
    bootstrap = make_bootstrap(
        node=settings.name, xds_socket=gateway.xds_socket, admin_socket=gateway.admin_socket
    )
    path.write_text(json.dumps(bootstrap, indent=1))


def run_side(settings: SideSettings) -> int:
    """The process of `kedge gateway`, until it is told to stop; its exit status."""

    async def main() -> int:
        stop = asyncio.Event()
        when_told_to_stop(stop.set)
        await _connect_and_run(settings, stop)
        return 0

    return run_process(main)


async def _connect_and_run(settings: SideSettings, stop: asyncio.Event) -> None:
    connected = (
        KubernetesCluster.from_pod(slim=True)
        if settings.kubeconfig is None
        else KubernetesCluster.from_kubeconfig(settings.kubeconfig, slim=True)
    )
    async with connected as cluster:
        await run_gateway(cluster, settings, stop)


async def run_gateway(cluster: Cluster, settings: SideSettings, stop: asyncio.Event) -> None:
    """Until told to stop, and until nobody is in need of it any more."""
    settings.drained.unlink(missing_ok=True)
    watch = MemberWatch(cluster, settings.namespace, GATEWAY_LOCAL, settings.name)
    gateway = _make_gateway(cluster, settings, watch)
    signals = make_signals(find_leader(cluster, settings.namespace), settings.name, gateway)
    async with contextlib.AsyncExitStack() as stack:
        if settings.metrics_port:
            server = HttpServer(make_pages(gateway, stop), settings.metrics_port)
            await stack.enter_async_context(server.running())
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(gateway.run()), tasks.create_task(signals.run())]
            await stop.wait()
            await _leave(gateway, watch.members, signals, settings)
            for task in running:
                task.cancel()


def _make_gateway(cluster: Cluster, settings: SideSettings, watch: MemberWatch) -> Gateway:
    seen = settings.gateway
    served = settings.watch_namespace
    token = read_token(cluster, settings.namespace)
    place = join(settings.address or "::", settings.peers_port)
    return Gateway(
        NarrowedCluster(cluster, served) if served else cluster,
        seen,
        join=lambda activator: Fleet(watch, activator, place, token=token),
    )


async def _leave(
    gateway: Gateway, members: Members, signals: SignalsClient, settings: SideSettings
) -> None:
    """End in order: where the pod is deleted, together with Envoy, and after the last request."""
    leaving = Leaving(members, gateway.admin, drain_seconds=settings.drain_seconds)
    if await leaving.wait():
        await signals.leave()
        settings.drained.touch()


def make_pages(gateway: Gateway, stop: asyncio.Event) -> ReadOnly:
    """Health, and the figures of this process; Envoy has its own."""

    async def well(query: Mapping[str, str]) -> Body:
        return "ok\n"

    async def ready(query: Mapping[str, str]) -> Body:
        missing = "it is ending" if stop.is_set() else gateway.missing
        if missing:
            raise NotNow(missing)
        return "ok\n"

    async def metrics(query: Mapping[str, str]) -> Body:
        return "".join(f"kedge_gateway_{name} {value}\n" for name, value in gateway.figures)

    return ReadOnly({"/healthz": well, "/readyz": ready, "/metrics": metrics})
