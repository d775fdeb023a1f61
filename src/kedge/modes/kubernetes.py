"""`kedge controller`: the controllers and the autoscaler against a real Kubernetes.

Several processes may run; the one that holds the Lease works. One that loses it ends, and is
started anew by Kubernetes: what it had in memory is worth nothing then. All of them answer for
their health, and review what is applied.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kedge.api.scheme import CONFIG_MAP, DEPLOYMENT, SERVICE
from kedge.autoscaler import http as scaling_page
from kedge.autoscaler.autoscaler import Autoscaler
from kedge.autoscaler.leader import (
    LEASE_NAME,
    SIGNALS_PORT,
    ensure_token,
    find_leader,
    make_identity,
    read_token,
)
from kedge.autoscaler.signals_server import SignalsServer
from kedge.cluster.base import Cluster, EventType, Object
from kedge.cluster.errors import ApiError
from kedge.cluster.kubernetes import KubernetesCluster
from kedge.cluster.narrowed import NarrowedCluster
from kedge.controllers.inferenceservice.controller import InferenceServiceController
from kedge.lib.addresses import join
from kedge.modes.http import Health, HttpServer
from kedge.modes.part import run_process, when_told_to_stop
from kedge.modes.signals import Signals
from kedge.modes.webhook import Webhook
from kedge.reconcile import Informer
from kedge.reconcile.lease import Leadership
from kedge.settings.installation import WEBHOOK_PORT
from kedge.settings.serving import (
    CONFIG_MAP_NAME,
    DEFAULT_NAMESPACE,
    ConfigError,
    ServingConfig,
)
from kedge.telemetry import http as telemetry_page
from kedge.telemetry.history import History
from kedge.telemetry.telemetry import Telemetry

log = logging.getLogger(__name__)

METRICS_PORT = 9090
_SLEEPS_SINCE, _NO_VERSION = (1, 30), (0, 0)
_PAUSE = 1.0
_REST = 0.2
"""Seconds between two looks at one service: what changes together is looked at together."""

_WORKERS = 16
"""Services looked at together: most of the time each waits for the API server."""


@dataclass(frozen=True)
class ControllerSettings:
    """One controller process.

    Attributes:
        name: of this process among its peers, the pod's name.
        address: at which the gateways' processes reach it, the pod's address.
        namespace: where Kedge's own objects are.
        watch_namespace: the one namespace whose services are served; empty for all.
        cluster_domain: domain of in-cluster names.
        kubeconfig: of the cluster; None in a pod, which has a service account.
        signals_port: where gateways report; 0 has no such port.
        metrics_port: where health and metrics are; 0 has no such port.
        webhook_port: where the API server has reviewed what is applied; 0 has no such port.
    """

    name: str
    address: str = "127.0.0.1"
    namespace: str = DEFAULT_NAMESPACE
    watch_namespace: str = ""
    cluster_domain: str = "cluster.local"
    kubeconfig: Path | None = None
    signals_port: int = SIGNALS_PORT
    metrics_port: int = METRICS_PORT
    webhook_port: int = WEBHOOK_PORT

    @property
    def identity(self) -> str:
        address = join(self.address, self.signals_port)
        return make_identity(self.name, address, str(os.getpid()))


class FollowedConfig:
    """The `inferenceservice-config` ConfigMap as it is now; what cannot be read changes nothing.

    Args:
        sleeps: the cluster's pods can be asked to sleep before they end.
    """

    def __init__(self, cluster: Cluster, namespace: str, *, sleeps: bool = True) -> None:
        self.informer = Informer(cluster, CONFIG_MAP, namespace=namespace)
        self.informer.on_change(self._changed)
        self._sleeps = sleeps
        self._config = self._adapted(ServingConfig.default())
        self._listeners: list[InferenceServiceController] = []

    def __call__(self) -> ServingConfig:
        return self._config

    def tell(self, services: InferenceServiceController) -> None:
        """A changed configuration concerns every service."""
        self._listeners.append(services)

    def _changed(self, type: EventType, obj: Object, old: Object | None) -> None:
        if obj["metadata"]["name"] != CONFIG_MAP_NAME:
            return
        try:
            self._config = self._adapted(
                ServingConfig.default()
                if type is EventType.DELETED
                else ServingConfig.from_config_map(obj)
            )
        except ConfigError as error:
            log.error("%s; what held before holds on", error)
            return
        for one in self._listeners:
            one.resync()

    def _adapted(self, config: ServingConfig) -> ServingConfig:
        if self._sleeps:
            return config
        replace = msgspec.structs.replace
        return replace(config, deploy=replace(config.deploy, pre_stop_sleep_seconds=0))


def knows_sleep(version: str) -> bool:
    """Whether pods of that Kubernetes may have a `preStop` that sleeps, which others refuse."""
    found = re.match(r"v?(\d+)\.(\d+)", version)
    number = (int(found[1]), int(found[2])) if found else _NO_VERSION
    return number == _NO_VERSION or number >= _SLEEPS_SINCE


def run_operator(settings: ControllerSettings) -> int:
    """The process of `kedge controller`, until it is told to stop or loses the Lease."""

    async def main() -> int:
        task = asyncio.ensure_future(_connect_and_run(settings))
        when_told_to_stop(task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            return 0
        return 1

    return run_process(main)


async def _connect_and_run(settings: ControllerSettings) -> None:
    async with _connect(settings) as cluster:
        served = settings.watch_namespace
        narrowed = NarrowedCluster(cluster, served) if served else cluster
        sleeps = knows_sleep(await _read_version(cluster))
        await run_controller(narrowed, settings, sleeps=sleeps)


async def _read_version(cluster: KubernetesCluster) -> str:
    """Of the API server, as soon as it answers."""
    while True:
        try:
            return str((await cluster.read("/version")).get("gitVersion", ""))
        except ApiError as error:
            log.warning("the API server does not tell its version: %s", error)
            await asyncio.sleep(_PAUSE)


def _connect(settings: ControllerSettings) -> KubernetesCluster:
    if settings.kubeconfig is None:
        return KubernetesCluster.from_pod(slim=True)
    return KubernetesCluster.from_kubeconfig(settings.kubeconfig, slim=True)


async def run_controller(
    cluster: Cluster, settings: ControllerSettings, *, sleeps: bool = True
) -> None:
    """Until cancelled, or until the Lease is lost."""
    leadership = Leadership(cluster, LEASE_NAME, settings.namespace, settings.identity)
    find = find_leader(cluster, settings.namespace)

    async def leader() -> str:
        host = (await find()).target.rpartition(":")[0]
        return f"http://{host}:{settings.metrics_port}"

    health = Health(leader)
    config = FollowedConfig(cluster, settings.namespace, sleeps=sleeps)
    async with contextlib.AsyncExitStack() as stack:
        following = asyncio.ensure_future(config.informer.run())
        stack.callback(following.cancel)
        if settings.metrics_port:
            server = HttpServer(health, settings.metrics_port)
            await stack.enter_async_context(server.running())
        if settings.webhook_port:
            webhook = Webhook(cluster, config, settings.namespace, settings.webhook_port)
            await stack.enter_async_context(webhook.running())
        await leadership.run(lambda: _lead(cluster, settings, config, health))


async def _lead(
    cluster: Cluster, settings: ControllerSettings, config: FollowedConfig, health: Health
) -> None:
    """What only the holder of the Lease does."""
    autoscaler = Autoscaler(cluster, namespace=settings.namespace)
    await config.informer.synced.wait()
    await ensure_token(cluster, settings.namespace)
    async with asyncio.TaskGroup() as tasks:
        services = InferenceServiceController(
            cluster,
            config,
            cluster_domain=settings.cluster_domain,
            namespace=settings.namespace,
            rest=_REST,
            workers=_WORKERS,
        )
        config.tell(services)
        telemetry = Telemetry(
            cluster,
            History(Path(":memory:")),
            services=services.informer(SERVICE),
            deployments=services.informer(DEPLOYMENT),
        )
        tasks.create_task(services.run())
        tasks.create_task(autoscaler.run())
        tasks.create_task(telemetry.run())
        if settings.signals_port:
            signals = SignalsServer(
                Signals(autoscaler, telemetry),
                f"[::]:{settings.signals_port}",
                token=read_token(cluster, settings.namespace),
            )
            tasks.create_task(signals.run())
        health.lead(
            scaling_page.make_app(autoscaler),
            telemetry_page.make_app(telemetry, autoscaler.describe),
        )
