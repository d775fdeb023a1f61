"""Endpoints of the Services that have no pods of their own: the gateway's pods.

Whoever calls such a Service inside the cluster comes through the gateway, which splits, counts and
wakes. On Kubernetes its name leads to what is written here; an owner reference has it removed with
its Service.

Such a Service may have had pods of its own before. Kubernetes forgets what it wrote for it then:
those addresses stay, in slices and in an Endpoints object that is copied to another slice, long
after the pods. So they are removed here, once the gateway's are there.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable

from kedge.api.scheme import ENDPOINT_SLICE, ENDPOINTS, SERVICE
from kedge.cluster.base import Cluster, EventType, Object
from kedge.cluster.errors import NotFound
from kedge.gateway.inventory import BY_SERVICE
from kedge.gateway.members import Member, Members
from kedge.lib.addresses import IPV4
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.reconcile.controller import Controller, Key, Result
from kedge.reconcile.informer import Informer

log = logging.getLogger(__name__)

ENDPOINTS_LABEL = "serving.kedge.dev/endpoints"
"""On a Service, with value `gateway`: its endpoints are the gateway's."""
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "kedge-gateway"
_KUBERNETES = (
    "endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io",
)  # fmt: skip


def is_ours(service: Object) -> bool:
    """Whether the Service's endpoints are to be the gateway's."""
    labels = service["metadata"].get("labels") or {}
    spec = service.get("spec") or {}
    return labels.get(ENDPOINTS_LABEL) == "gateway" and not spec.get("selector")


def slice_name(service: str) -> str:
    return f"{service}-kedge-gateway"


def make_slice(service: Object, members: Iterable[Member]) -> Object:
    """The endpoints of a Service: all ready replicas, at the port where pods ask.

    Their addresses are of the Service's first family; nobody who asks it reads those of another.
    """
    ready = [member for member in members if member.ready and member.local_port]
    [family, *_] = service["spec"].get("ipFamilies") or [ready[0].family if ready else IPV4]
    if not any(member.address_of(family) for member in ready):
        family = ready[0].family if ready else family
    metadata = service["metadata"]
    return {
        "apiVersion": ENDPOINT_SLICE.api_version,
        "kind": ENDPOINT_SLICE.kind,
        "metadata": {
            "name": slice_name(metadata["name"]),
            "namespace": metadata["namespace"],
            "labels": {"kubernetes.io/service-name": metadata["name"], MANAGED_BY: MANAGER},
            "ownerReferences": [
                {
                    "apiVersion": SERVICE.api_version,
                    "kind": SERVICE.kind,
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                }
            ],
        },
        "addressType": family,
        "endpoints": [
            {"addresses": [address], "conditions": {"ready": True}}
            for member in ready
            if (address := member.address_of(family))
        ],
        "ports": [
            {
                "name": port.get("name") or "",
                "port": ready[0].local_port if ready else port["port"],
                "protocol": port.get("protocol") or "TCP",
            }
            for port in service["spec"].get("ports") or ()
        ],
    }


class LocalEndpoints:
    """Keeps these EndpointSlices, if we are the replica that writes.

    Args:
        services: the cache of all Services; `slices`: of all EndpointSlices.
    """

    def __init__(
        self,
        cluster: Cluster,
        members: Members,
        services: Informer,
        slices: Informer,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._cluster = cluster
        self._members = members
        self._services = services
        self._slices = slices
        self._writes = Controller("gateway-endpoints", self._write, clock=clock)

    async def run(self) -> None:
        """Until cancelled."""
        self._services.on_change(self._on_service)
        self._slices.on_change(self._on_slice)
        self._members.on_change(self._on_members)
        await self._writes.run()

    def _on_service(self, type: EventType, obj: Object, old: Object | None) -> None:
        if type is not EventType.DELETED and (is_ours(obj) or (old and is_ours(old))):
            self._enqueue(obj)

    def _on_slice(self, type: EventType, obj: Object, old: Object | None) -> None:
        """Somebody else has changed or removed what is ours."""
        metadata = obj["metadata"]
        if (metadata.get("labels") or {}).get(MANAGED_BY) not in (MANAGER, *_KUBERNETES):
            return
        key = Key(metadata["namespace"], metadata["labels"].get("kubernetes.io/service-name", ""))
        service = self._services.get(*key)
        if _is_managed(obj) or (service is not None and is_ours(service)):
            self._writes.enqueue(key)

    def _on_members(self) -> None:
        for service in self._services.list():
            if is_ours(service):
                self._enqueue(service)

    def _enqueue(self, service: Object) -> None:
        metadata = service["metadata"]
        self._writes.enqueue(Key(metadata["namespace"], metadata["name"]))

    async def _write(self, key: Key) -> Result | None:
        if not self._members.writes:
            return None
        service = self._services.get(*key)
        there = self._slices.get(key.namespace, slice_name(key.name))
        if service is None or service["metadata"].get("deletionTimestamp"):
            return None
        if not is_ours(service):
            if there is not None and _is_managed(there):
                try:
                    await self._cluster.delete(
                        ENDPOINT_SLICE, slice_name(key.name), key.namespace,
                        uid=there["metadata"]["uid"],
                    )  # fmt: skip
                except NotFound:
                    return None
            return None
        wanted = make_slice(service, self._members.all)
        if there is None and not wanted["endpoints"]:
            return None
        if there is not None and there.get("addressType") != wanted["addressType"]:
            # That cannot be changed.
            await self._cluster.delete(ENDPOINT_SLICE, slice_name(key.name), key.namespace)
            there = None
        if there is None or not _says(there, wanted):
            written = await self._cluster.apply(ENDPOINT_SLICE, wanted)
            self._slices.note_write(written)
        if wanted["endpoints"]:
            await self._forget_pods(key)
        return None

    async def _forget_pods(self, key: Key) -> None:
        """Remove what Kubernetes wrote while the Service selected pods."""
        found = self._slices.by_index(BY_SERVICE, str(key))
        stale = [one for one in found if one["metadata"]["labels"].get(MANAGED_BY) in _KUBERNETES]
        if not stale:
            return
        with contextlib.suppress(NotFound):
            await self._cluster.delete(ENDPOINTS, key.name, key.namespace)
        for one in stale:
            name = one["metadata"]["name"]
            with contextlib.suppress(NotFound):
                await self._cluster.delete(ENDPOINT_SLICE, name, key.namespace)
            log.info("%s leads to the gateway: the endpoints %s of its pods are removed", key, name)


def _is_managed(piece: Object) -> bool:
    return (piece["metadata"].get("labels") or {}).get(MANAGED_BY) == MANAGER


def _says(there: Object, wanted: Object) -> bool:
    """Whether a slice says what is wanted, whatever it says besides."""
    labels = there["metadata"].get("labels") or {}
    owners = [one.get("uid") for one in there["metadata"].get("ownerReferences") or ()]
    return (
        wanted["metadata"]["labels"].items() <= labels.items()
        and wanted["metadata"]["ownerReferences"][0]["uid"] in owners
        and _addresses(there) == _addresses(wanted)
        and _ports(there) == _ports(wanted)
    )


def _addresses(piece: Object) -> list[tuple[str, bool]]:
    return sorted(
        (end["addresses"][0], (end.get("conditions") or {}).get("ready") is not False)
        for end in piece.get("endpoints") or ()
    )


def _ports(piece: Object) -> list[tuple[str, int, str]]:
    return sorted(
        (port.get("name") or "", port["port"], port.get("protocol") or "TCP")
        for port in piece.get("ports") or ()
    )
