"""Keeps EndpointSlices and Endpoints as the Services' pods are."""

from __future__ import annotations

from kedge.api.scheme import ENDPOINT_SLICE, ENDPOINTS, POD, SERVICE
from kedge.cluster.base import Cluster, EventType, Object
from kedge.cluster.errors import AlreadyExists, NotFound
from kedge.cluster.labels import labels_of, matches_labels
from kedge.cluster.local.workloads.endpoints import (
    MANAGED_BY,
    MANAGER,
    SERVICE_NAME,
    endpoint_facts,
    make_endpoints,
    make_slices,
)
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.reconcile import Controller, Informer, Informers, Key

_BY_LABEL = "label"
_BY_SELECTOR = "selector"
_BY_SERVICE = "service"


class EndpointSliceController:
    """Writes the endpoints of every Service that has a selector."""

    def __init__(
        self, cluster: Cluster, informers: Informers, *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._cluster = cluster
        self._services = informers.of(SERVICE)
        self._pods = informers.of(POD)
        self._slices = informers.of(ENDPOINT_SLICE)
        self._endpoints = informers.of(ENDPOINTS)
        self._controller = Controller("endpointslices", self.reconcile, clock=clock)
        self._pods.add_index(_BY_LABEL, _label_keys)
        self._services.add_index(_BY_SELECTOR, _selector_key)
        self._slices.add_index(_BY_SERVICE, _service_key)
        self._services.on_change(self._service_changed)
        self._pods.on_change(self._pod_changed)
        self._slices.on_change(self._slice_changed)

    async def run(self) -> None:
        for informer in (self._services, self._pods, self._slices, self._endpoints):
            await informer.synced.wait()
        await self._controller.run()

    async def reconcile(self, key: Key) -> None:
        service = self._services.get(key.namespace, key.name)
        existing = self._slices.by_index(_BY_SERVICE, f"{key.namespace}/{key.name}")
        if service is None:
            await self._delete(existing)
            return
        selector = service["spec"].get("selector")
        if not selector or service["spec"].get("type") == "ExternalName":
            return
        pods = self._select(key.namespace, selector)
        wanted = make_slices(service, pods)
        for endpoint_slice in wanted:
            await self._write(self._slices, endpoint_slice)
        names = {one["metadata"]["name"] for one in wanted}
        await self._delete([one for one in existing if one["metadata"]["name"] not in names])
        await self._write(self._endpoints, make_endpoints(service, pods))

    def _select(self, namespace: str, selector: dict[str, str]) -> list[Object]:
        candidates = min(
            (
                self._pods.by_index(_BY_LABEL, f"{namespace}/{key}={value}")
                for key, value in selector.items()
            ),
            key=len,
        )
        return [pod for pod in candidates if matches_labels(selector, labels_of(pod))]

    async def _write(self, informer: Informer, obj: Object) -> None:
        metadata = obj["metadata"]
        old = informer.get(metadata["namespace"], metadata["name"])
        if old is not None and _says_same(old, obj):
            return
        if old is None:
            try:
                written = await self._cluster.create(informer.kind, obj)
            except AlreadyExists:
                # Made by a user, or not yet in our cache: ours is the truth.
                written = await self._cluster.replace(informer.kind, obj)
        else:
            written = await self._cluster.replace(informer.kind, obj)
        informer.note_write(written)

    async def _delete(self, slices: list[Object]) -> None:
        for one in slices:
            metadata = one["metadata"]
            try:
                await self._cluster.delete(
                    ENDPOINT_SLICE, metadata["name"], metadata["namespace"], uid=metadata["uid"]
                )
            except NotFound:
                continue

    def _service_changed(self, type: EventType, obj: Object, old: Object | None) -> None:
        self._controller.enqueue(Key(obj["metadata"]["namespace"], obj["metadata"]["name"]))

    def _slice_changed(self, type: EventType, obj: Object, old: Object | None) -> None:
        for key in _service_key(obj):
            namespace, _, name = key.partition("/")
            self._controller.enqueue(Key(namespace, name))

    def _pod_changed(self, type: EventType, pod: Object, old: Object | None) -> None:
        changed = type is not EventType.MODIFIED or old is None
        if changed or endpoint_facts(pod) != endpoint_facts(old or {}):
            for one in (pod, old) if old is not None else (pod,):
                self._enqueue_selecting(one)

    def _enqueue_selecting(self, pod: Object) -> None:
        for key in _label_keys(pod):
            for service in self._services.by_index(_BY_SELECTOR, key):
                if matches_labels(service["spec"]["selector"], labels_of(pod)):
                    self._service_changed(EventType.MODIFIED, service, None)


def _label_keys(pod: Object) -> list[str]:
    namespace = pod["metadata"]["namespace"]
    return [f"{namespace}/{key}={value}" for key, value in labels_of(pod).items()]


def _selector_key(service: Object) -> list[str]:
    """One pair of the selector: enough to find the Service from a pod it may select."""
    selector = service["spec"].get("selector")
    if not selector:
        return []
    key, value = min(selector.items())
    return [f"{service['metadata']['namespace']}/{key}={value}"]


def _service_key(endpoint_slice: Object) -> list[str]:
    labels = labels_of(endpoint_slice)
    if labels.get(MANAGED_BY) != MANAGER or SERVICE_NAME not in labels:
        return []
    return [f"{endpoint_slice['metadata']['namespace']}/{labels[SERVICE_NAME]}"]


def _says_same(old: Object, new: Object) -> bool:
    kept = ("addressType", "endpoints", "ports", "subsets")
    owners = [one["metadata"]["ownerReferences"] for one in (old, new)
              if "ownerReferences" in one["metadata"]]  # fmt: skip
    return (
        labels_of(old) == labels_of(new)
        and owners[:1] == owners[1:]
        and all((old.get(field) or []) == (new.get(field) or []) for field in kept)
    )
