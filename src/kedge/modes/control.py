"""The control side of `kedge up`: the store, the Kubernetes API over it, and every controller.

Its death fails no request: Envoy and the pods go on, and a new control process finds everything
acknowledged in the store.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sys

from kedge.admission.review import AdmissionReview
from kedge.api.scheme import CONFIG_MAP, Kind
from kedge.autoscaler import http as scaling_page
from kedge.autoscaler.autoscaler import Autoscaler
from kedge.autoscaler.signals_server import SignalsServer
from kedge.cluster.base import EventType, Object
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.http import Facade, Listeners
from kedge.cluster.local.kubeconfig import ensure_token, write_kubeconfig
from kedge.cluster.local.models import ModelCache
from kedge.cluster.local.node.processes import PodProcesses
from kedge.cluster.local.store import Store
from kedge.cluster.local.tls import ensure_certificate
from kedge.cluster.local.workloads import Workloads
from kedge.cluster.local.workloads.autoscaling import ProcessUsage
from kedge.controllers.inferenceservice.controller import InferenceServiceController
from kedge.modes.listening import taken
from kedge.modes.models import LocalModels
from kedge.modes.part import notify, run_part, tell
from kedge.modes.seed import seed
from kedge.modes.signals import Signals
from kedge.reconcile import Informer
from kedge.settings.local import LocalSettings
from kedge.settings.serving import CONFIG_MAP_NAME, ServingConfig
from kedge.telemetry import http as telemetry_page
from kedge.telemetry.history import History
from kedge.telemetry.telemetry import Telemetry

_REST = 0.05
"""Seconds between two looks at one service: a start changes some ten objects within as many."""


class StoredConfig:
    """The `inferenceservice-config` ConfigMap of the store, parsed once per version."""

    def __init__(self, store: Store, namespace: str) -> None:
        self._store, self._namespace = store, namespace
        self._version = -1
        self._config = ServingConfig.default()

    def __call__(self) -> ServingConfig:
        """The settings now in force.

        Raises:
            ConfigError: the ConfigMap cannot be understood.
        """
        record = self._store.get(CONFIG_MAP, self._namespace, CONFIG_MAP_NAME)
        if record is None:
            return ServingConfig.default()
        if record.version != self._version:
            self._config = ServingConfig.from_config_map(record.object)
            self._version = record.version
        return self._config


async def run_control(settings: LocalSettings) -> None:
    """Until cancelled; tells the supervisor when the API answers and the controllers are synced."""
    store = Store(settings.store)

    def related(kind: Kind, namespace: str | None) -> list[Object]:
        return [record.object for record in store.snapshot(kind, namespace).records()]

    config = StoredConfig(store, settings.namespace)
    review = AdmissionReview(config, related)
    cluster = LocalCluster(store, review, slim=True, pods_dir=settings.pods_dir)
    await seed(cluster, settings)
    models = LocalModels(cluster, ModelCache(settings.models_dir), settings.volumes_dir)
    services = InferenceServiceController(
        cluster,
        config,
        keeper=models,
        cluster_domain=settings.cluster_domain,
        namespace=settings.namespace,
        rest=_REST,
    )
    usage = ProcessUsage(PodProcesses(settings.pods_dir))
    workloads = Workloads(cluster, usage=usage)
    autoscaler = Autoscaler(cluster, namespace=settings.namespace)
    telemetry = Telemetry(cluster, History(settings.telemetry))
    signals = SignalsServer(Signals(autoscaler, telemetry), settings.signals_socket)
    token = ensure_token(settings.token_file)
    certificate = ensure_certificate(settings.tls_dir, hosts=(settings.host,))
    facade = Facade(
        cluster,
        token=token,
        address=f"{settings.host}:{settings.api_port}",
        services={
            (settings.namespace, scaling_page.SERVICE_NAME): scaling_page.make_app(autoscaler),
            (settings.namespace, telemetry_page.SERVICE_NAME): telemetry_page.make_app(
                telemetry, autoscaler.describe
            ),
        },
    )
    try:
        listeners = Listeners(
            facade,
            host=settings.host,
            port=settings.api_port,
            certificate=certificate,
            unix_socket=settings.api_socket,
        )
    except OSError as error:
        store.close()
        why = taken(settings, settings.api_port, os.strerror(error.errno or errno.EIO))
        tell("control", str(why))
        raise why from error
    write_kubeconfig(settings.kubeconfig, server=settings.api_url, token=token, ca=certificate.ca)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(cluster.run())
            tasks.create_task(workloads.run())
            tasks.create_task(models.run())
            tasks.create_task(services.run())
            tasks.create_task(autoscaler.run())
            tasks.create_task(signals.run())
            tasks.create_task(telemetry.run())
            tasks.create_task(_follow_config(cluster, settings, services))
            tasks.create_task(listeners.run())
            await listeners.ready.wait()
            notify("control")
    finally:
        store.close()


async def _follow_config(
    cluster: LocalCluster, settings: LocalSettings, services: InferenceServiceController
) -> None:
    """A changed configuration concerns every service."""
    configs = Informer(cluster, CONFIG_MAP, namespace=settings.namespace)

    def changed(type: EventType, obj: Object, old: Object | None) -> None:
        if obj["metadata"]["name"] == CONFIG_MAP_NAME and type is not EventType.ADDED:
            services.resync()

    configs.on_change(changed)
    await configs.run()


if __name__ == "__main__":
    sys.exit(run_part(run_control, sys.argv[1:]))
