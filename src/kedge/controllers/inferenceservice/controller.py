"""What the InferenceService controller watches, and whom a change concerns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kedge.api.scheme import (
    CLUSTER_SERVING_RUNTIME,
    CLUSTER_STORAGE_CONTAINER,
    CONFIG_MAP,
    DEPLOYMENT,
    HORIZONTAL_POD_AUTOSCALER,
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    POD,
    SERVICE,
    SERVING_RUNTIME,
    Kind,
)
from kedge.cluster.base import Cluster, EventType, Object
from kedge.controllers.inferenceservice.cache import (
    BY_SERVICE,
    InformerCache,
    service_keys,
    service_of,
)
from kedge.controllers.inferenceservice.names import ISVC_LABEL
from kedge.controllers.inferenceservice.observe import pod_is_ready, signs_of
from kedge.controllers.inferenceservice.pins import ModelPins
from kedge.controllers.inferenceservice.reconcile import Reconciler
from kedge.controllers.inferenceservice.surroundings import DEFAULT_CLUSTER_DOMAIN
from kedge.lib.backoff import Backoff
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.reconcile.controller import Controller, Key, Result
from kedge.reconcile.informer import Informer
from kedge.settings.revisions import GC_CONFIG_MAP, NETWORK_CONFIG_MAP
from kedge.settings.serving import DEFAULT_NAMESPACE, ServingConfig

_OF_SERVICES = (DEPLOYMENT, SERVICE, POD, HTTP_ROUTE, HORIZONTAL_POD_AUTOSCALER)
_CLUSTER_WIDE = (SERVING_RUNTIME, CLUSTER_SERVING_RUNTIME, CLUSTER_STORAGE_CONTAINER)
_SOON, _WHENEVER = 0.1, float("inf")
_RETRIES = Backoff(initial=0.05, limit=5.0)
"""What is waited for (a secret, a claim) is often put there by hand: look again soon."""


class InferenceServiceController:
    """Keeps every InferenceService as it is asked for, until cancelled.

    Args:
        cluster: where the services live.
        config: the settings of this moment; call `resync` when they changed.
        cluster_domain: the domain of in-cluster names.
        namespace: where the configuration is.
        workers: services reconciled at once.
        rest: seconds for which a service is left alone after each look at it.
        keeper: keeps the model files that revisions are made of.
    """

    def __init__(
        self,
        cluster: Cluster,
        config: Callable[[], ServingConfig],
        *,
        clock: Clock = SYSTEM_CLOCK,
        cluster_domain: str = DEFAULT_CLUSTER_DOMAIN,
        namespace: str = DEFAULT_NAMESPACE,
        workers: int = 4,
        rest: float = 0.0,
        keeper: ModelPins | None = None,
    ) -> None:
        self._informers: dict[Kind, Informer] = {}
        for kind in (INFERENCE_SERVICE, *_CLUSTER_WIDE):
            self._informers[kind] = Informer(cluster, kind, clock=clock)
        for kind in _OF_SERVICES:
            informer = Informer(cluster, kind, labels=ISVC_LABEL, clock=clock)
            informer.add_index(BY_SERVICE, service_keys)
            self._informers[kind] = informer
        self._informers[CONFIG_MAP] = Informer(
            cluster, CONFIG_MAP, namespace=namespace, clock=clock
        )
        self._reconciler = Reconciler(
            cluster,
            InformerCache(self._informers),
            config,
            clock=clock,
            cluster_domain=cluster_domain,
            namespace=namespace,
            keeper=keeper,
        )
        self._controller = Controller(
            "inferenceservice",
            self._reconcile,
            workers=workers,
            backoff=_RETRIES,
            clock=clock,
            rest=rest,
        )
        self._watch()

    async def run(self) -> None:
        """Watch and reconcile until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for kind, informer in self._informers.items():
                tasks.create_task(informer.run(), name=f"inferenceservice:{kind.plural}")
            for informer in self._informers.values():
                await informer.synced.wait()
            tasks.create_task(self._controller.run(), name="inferenceservice:controller")

    def informer(self, kind: Kind) -> Informer:
        """The cache of a kind, for others who want to know what is in it."""
        return self._informers[kind]

    def resync(self) -> None:
        """Reconcile every service, because something that concerns them all has changed."""
        for isvc in self._informers[INFERENCE_SERVICE].list():
            self._enqueue(isvc)

    async def _reconcile(self, key: Key) -> Result | None:
        return await self._reconciler.reconcile(key)

    def _enqueue(self, isvc: Object) -> None:
        metadata = isvc["metadata"]
        self._controller.enqueue(Key(metadata["namespace"], metadata["name"]))

    def _watch(self) -> None:
        self._informers[INFERENCE_SERVICE].on_change(self._on_service)
        for kind in _OF_SERVICES:
            handler = self._on_pod if kind == POD else self._on_child
            self._informers[kind].on_change(handler)
        for kind in _CLUSTER_WIDE:
            self._informers[kind].on_change(self._on_surroundings)
        self._informers[CONFIG_MAP].on_change(self._on_config)

    def _on_service(self, type: EventType, obj: Object, old: Object | None) -> None:
        if type is EventType.MODIFIED and old is not None and _asks(old) == _asks(obj):
            return  # Only its status: that is our own doing.
        self._enqueue(obj)

    def _on_child(self, type: EventType, obj: Object, old: Object | None) -> None:
        if type is EventType.MODIFIED and old is not None and _says(old) == _says(obj):
            return
        self._enqueue_owner(obj)

    def _on_pod(self, type: EventType, pod: Object, old: Object | None) -> None:
        before = None if old is None else signs_of(old)
        if before != (None if type is EventType.DELETED else signs_of(pod)):
            # Much waits for a pod that gets ready: requests, and the room that proofs take.
            self._enqueue_owner(pod, _SOON if pod_is_ready(pod) else _WHENEVER)

    def _enqueue_owner(self, obj: Object, at_most: float = _WHENEVER) -> None:
        key = service_of(obj)
        if key is not None:
            self._controller.enqueue_soon(key, at_most)

    def _on_config(self, type: EventType, obj: Object, old: Object | None) -> None:
        if obj["metadata"]["name"] in (GC_CONFIG_MAP, NETWORK_CONFIG_MAP):
            self.resync()

    def _on_surroundings(self, type: EventType, obj: Object, old: Object | None) -> None:
        """A runtime may serve a service that waits for one, or change one that it serves."""
        if old is not None and old.get("spec") == obj.get("spec") and type is EventType.MODIFIED:
            return
        namespace = obj["metadata"].get("namespace")
        for isvc in self._informers[INFERENCE_SERVICE].list(namespace or None):
            self._enqueue(isvc)


def _says(obj: Object) -> list[object]:
    """An object without who manages it, and its version."""
    metadata = {
        field: value
        for field, value in obj["metadata"].items()
        if field not in ("managedFields", "resourceVersion")
    }
    return [metadata, *(value for field, value in obj.items() if field != "metadata")]


def _asks(isvc: Object) -> tuple[object, ...]:
    """What a service asks for, without what we tell about it."""
    metadata = isvc["metadata"]
    asked = ("uid", "generation", "annotations", "labels", "finalizers", "deletionTimestamp")
    return (isvc.get("spec"), *(metadata.get(key) for key in asked))
