"""`kedge controller`: the controllers and the autoscaler against a real Kubernetes.

Several processes may run; the one that holds the Lease works. One that loses it ends, and is
started anew by Kubernetes: what it had in memory is worth nothing then.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

from kedge.api.scheme import CONFIG_MAP
from kedge.autoscaler.autoscaler import Autoscaler
from kedge.cluster.base import Cluster, EventType, Object
from kedge.cluster.kubernetes import KubernetesCluster
from kedge.controllers.inferenceservice.controller import InferenceServiceController
from kedge.reconcile import Informer
from kedge.reconcile.lease import Leadership
from kedge.settings.serving import (
    CONFIG_MAP_NAME,
    DEFAULT_NAMESPACE,
    ConfigError,
    ServingConfig,
)

log = logging.getLogger(__name__)

LEASE_NAME = "kedge-controller"


@dataclass(frozen=True)
class ControllerSettings:
    """One controller process.

    Attributes:
        identity: of this process among its peers; others reach the leader by it.
        namespace: where Kedge's own objects are.
        cluster_domain: domain of in-cluster names.
        kubeconfig: of the cluster; None in a pod, which has a service account.
    """

    identity: str
    namespace: str = DEFAULT_NAMESPACE
    cluster_domain: str = "cluster.local"
    kubeconfig: Path | None = None


class FollowedConfig:
    """The `inferenceservice-config` ConfigMap as it is now; what cannot be read changes nothing."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.informer = Informer(cluster, CONFIG_MAP, namespace=namespace)
        self.informer.on_change(self._changed)
        self._config = ServingConfig.default()
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
            self._config = (
                ServingConfig.default()
                if type is EventType.DELETED
                else ServingConfig.from_config_map(obj)
            )
        except ConfigError as error:
            log.error("%s; what held before holds on", error)
            return
        for one in self._listeners:
            one.resync()


def run_operator(settings: ControllerSettings) -> None:
    """The process of `kedge controller`, until it is told to stop or loses the Lease."""
    import uvloop

    async def main() -> None:
        async with _connect(settings) as cluster:
            await run_controller(cluster, settings)

    uvloop.run(main())


def _connect(settings: ControllerSettings) -> KubernetesCluster:
    if settings.kubeconfig is None:
        return KubernetesCluster.from_pod()
    return KubernetesCluster.from_kubeconfig(settings.kubeconfig)


async def run_controller(cluster: Cluster, settings: ControllerSettings) -> None:
    """Until cancelled, or until the Lease is lost."""
    leadership = Leadership(cluster, LEASE_NAME, settings.namespace, settings.identity)

    async def work() -> None:
        config = FollowedConfig(cluster, settings.namespace)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(config.informer.run())
            await config.informer.synced.wait()
            services = InferenceServiceController(
                cluster,
                config,
                cluster_domain=settings.cluster_domain,
                namespace=settings.namespace,
            )
            config.tell(services)
            tasks.create_task(services.run())
            tasks.create_task(Autoscaler(cluster, namespace=settings.namespace).run())

    await leadership.run(work)
