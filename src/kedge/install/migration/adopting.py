"""One service from KServe's controller to Kedge's, with something that answers at every moment."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from kedge.api import legacy
from kedge.api.scheme import (
    DEPLOYMENT,
    ENDPOINT_SLICE,
    ENDPOINTS,
    HORIZONTAL_POD_AUTOSCALER,
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    SERVICE,
    Kind,
)
from kedge.cluster.base import Object
from kedge.cluster.errors import AlreadyExists, Conflict, NotFound
from kedge.install import names
from kedge.install.migration.finding import (
    FRONT,
    Served,
    find_children,
    is_kserves,
    listed,
    owner_of,
)
from kedge.install.migration.kinds import (
    INGRESS,
    KNATIVE_SERVICE,
    KNATIVE_SERVING,
    LEGACY_SERVICE,
    VIRTUAL_SERVICE,
)
from kedge.install.migration.ownership import takeover
from kedge.install.target import INSTALLER, Target, Tell
from kedge.install.values import Values
from kedge.install.waiting import Deadline
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.settings.installation import (
    ADOPTION,
    APPLIED_HASH,
    AUTOSCALER_MANAGER,
    BESIDE,
    ENDPOINTS_LABEL,
)

_SAME_NAMED = (DEPLOYMENT, HORIZONTAL_POD_AUTOSCALER, HTTP_ROUTE, SERVICE)
"""Kinds of children that both controllers make, by the same names."""
_KSERVE = "kserve"
_COMPONENTS = ("predictor", "transformer", "explainer")
_TRIES = 5
_PORTS = [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}]
"""Of the Services that lead to the gateway."""


@dataclass
class Adoption:
    """The taking over of one service. Each step may be repeated.

    Attributes:
        drain: seconds for which KServe's pods stay after nobody new is sent to them.
    """

    cluster: Target
    values: Values
    served: Served
    tell: Tell
    deadline: Deadline
    drain: float = 0.0
    clock: Clock = SYSTEM_CLOCK

    async def run(self) -> None:
        """All steps; where one fails, KServe's pods go on answering, and it can be run again."""
        isvc = await self._prepare()
        await self._await_ready("until its new pods answer")
        await self._switch_services(isvc)
        await self._await_services(isvc)
        await self._await_ready("after its Services were taken over")
        await self._drain()
        await self._lead_fronts(isvc)
        await self._remove_rest(isvc)
        self.tell(f"{self.served.key}: taken over")

    # -- beside -----------------------------------------------------------------------------

    async def _prepare(self) -> Object:
        """Let Kedge make its pods and routes; the service as Kedge knows it."""
        if self.served.is_legacy:
            return await self._convert()
        isvc = self.served.isvc
        if self.served.adoption == BESIDE:
            return await self._get()
        for child in self.served.children:
            if child.kind is HTTP_ROUTE:
                await self._copy_route(child.obj, isvc)
            if child.kind in _SAME_NAMED:
                await self._take_over(child.kind, child.name)
        # What KServe said of it is no word of Kedge's.
        await self.cluster.patch(
            INFERENCE_SERVICE, self.served.name, {"status": {"conditions": None}},
            namespace=self.served.namespace, subresource="status",
        )  # fmt: skip
        await self._annotate(BESIDE)
        return await self._get()

    async def _convert(self) -> Object:
        """The service in today's group; its children stay with the old one for now."""
        new = legacy.convert(self.served.isvc)
        annotations = {**(new["metadata"].get("annotations") or {}), ADOPTION: BESIDE}
        new["metadata"]["annotations"] = annotations
        with contextlib.suppress(AlreadyExists):
            await self.cluster.create(INFERENCE_SERVICE, new)
            self.tell(f"{self.served.key}: made in {INFERENCE_SERVICE.api_version}")
        return await self._get()

    async def _copy_route(self, route: Object, isvc: Object) -> None:
        """KServe's gateway keeps a route of its own, to the Services that stay."""
        metadata = route["metadata"]
        copied = {
            "apiVersion": HTTP_ROUTE.api_version,
            "kind": HTTP_ROUTE.kind,
            "metadata": {
                "name": f"{metadata['name']}-{_KSERVE}",
                "namespace": metadata["namespace"],
                "labels": {FRONT: _KSERVE},
                "ownerReferences": [_reference(isvc, controller=False)],
            },
            "spec": route["spec"],
        }
        await self.cluster.apply(HTTP_ROUTE, copied, field_manager=INSTALLER)

    # -- the Services that clients use --------------------------------------------------------

    async def _switch_services(self, isvc: Object) -> None:
        """Give the Services to Kedge, then say so to its controller."""
        renamed = []
        for name in self._fronts():
            service = await self._find(SERVICE, name)
            if service is None or not is_kserves(service):
                continue
            if service["spec"].get("type") == "ExternalName":
                renamed.append(name)
            owner = owner_of(service)
            of_route = owner.get("kind") == "Route" and KNATIVE_SERVING in owner["apiVersion"]
            of_legacy = owner.get("uid") == self.served.isvc["metadata"]["uid"]
            if of_route or of_legacy:
                await self._take_over(SERVICE, name, _reference(isvc))
            if of_route:
                # Knative's gateway, which a Service without selector would go on to lead to.
                with contextlib.suppress(NotFound):
                    await self.cluster.delete(ENDPOINTS, name, self.served.namespace)
        for name in renamed:
            # While it is a name for another Service, endpoints do nothing: they are there first.
            patch = {
                "metadata": {"labels": {ENDPOINTS_LABEL: "gateway"}},
                "spec": {"ports": _PORTS},
            }
            await self.cluster.patch(SERVICE, name, patch, namespace=self.served.namespace)
        for name in renamed:
            await self._await_endpoints(name)
        await self._annotate(None)

    async def _await_endpoints(self, name: str) -> None:
        """Until the gateway's pods are what a Service will lead to."""
        labels = f"kubernetes.io/service-name={name}"
        while not any(
            one.get("endpoints")
            for one in await listed(
                self.cluster, ENDPOINT_SLICE, self.served.namespace, labels=labels
            )
        ):
            await self.deadline.pause(
                f"{self.served.key}: Kedge's gateway has written no EndpointSlice for the Service"
                f" {name}. KServe's pods go on answering.",
                f"kubectl logs -n {self.values.namespace} deployment/{names.GATEWAY}"
                " --all-containers, and run kedge migrate again.",
            )

    async def _drain(self) -> None:
        """Callers who remember where a name led yesterday still meet KServe's pods for a while."""
        if self.drain and any(c.kind is KNATIVE_SERVICE for c in self.served.children):
            self.tell(f"{self.served.key}: KServe's pods stay for {self.drain:g} s more")
            await self.clock.sleep(self.drain)

    async def _await_services(self, isvc: Object) -> None:
        while True:
            waited = [
                name
                for name in self._fronts()
                if (service := await self._find(SERVICE, name)) is not None
                and owner_of(service).get("uid") == isvc["metadata"]["uid"]
                and APPLIED_HASH not in (service["metadata"].get("annotations") or {})
            ]
            if not waited:
                return
            await self.deadline.pause(
                f"{self.served.key}: Kedge's controller has not taken over {', '.join(waited)}.",
                f"kubectl logs -n {self.values.namespace} deployment/{names.CONTROLLER}, and run"
                " kedge migrate again.",
            )

    def _fronts(self) -> list[str]:
        return [self.served.name, *(f"{self.served.name}-{kind}" for kind in _COMPONENTS)]

    # -- KServe's ways in, and the rest -------------------------------------------------------

    async def _lead_fronts(self, isvc: Object) -> None:
        """What clients outside use leads to Kedge's gateway until their names do."""
        owner = _reference(isvc, controller=False)
        for child in await find_children(self.cluster, self.served.isvc):
            patch: Object = {
                "metadata": {"labels": {FRONT: _KSERVE}, "ownerReferences": [owner]},
            }
            if child.kind is VIRTUAL_SERVICE:
                patch["spec"] = {"http": _led_to(child.obj, self._gateway_host())}
            elif child.kind is not INGRESS:
                continue
            await self.cluster.patch(child.kind, child.name, patch, namespace=self.served.namespace)
            self.tell(f"{self.served.key}: {child} leads to Kedge's gateway")

    def _gateway_host(self) -> str:
        return f"{names.GATEWAY}.{self.values.namespace}.svc.{self.values.cluster_domain}"

    async def _remove_rest(self, isvc: Object) -> None:
        """KServe's pods, and the object of the old group."""
        for child in await find_children(self.cluster, self.served.isvc):
            if child.kind is SERVICE and child.name in self._fronts():
                continue  # Somebody said that it is not to be touched.
            with contextlib.suppress(NotFound):
                await self.cluster.delete(
                    child.kind, child.name, self.served.namespace,
                    uid=child.obj["metadata"]["uid"],
                )  # fmt: skip
            self.tell(f"{self.served.key}: {child} removed")
        if self.served.is_legacy:
            await self._remove_legacy()

    async def _remove_legacy(self) -> None:
        """Nobody is there any more to take its finalizer off."""
        place = self.served.namespace
        with contextlib.suppress(NotFound):
            await self.cluster.patch(
                LEGACY_SERVICE, self.served.name, {"metadata": {"finalizers": None}},
                namespace=place,
            )  # fmt: skip
            await self.cluster.delete(LEGACY_SERVICE, self.served.name, place)
            self.tell(f"{self.served.key}: removed from {LEGACY_SERVICE.api_version}")

    # -- how ----------------------------------------------------------------------------------

    async def _take_over(self, kind: Kind, name: str, owner: Object | None = None) -> None:
        """Make what KServe said in an object Kedge's."""
        for attempt in range(_TRIES):
            obj = await self._find(kind, name)
            if obj is None:
                return
            patch = takeover(obj, owner)
            try:
                await self.cluster.patch(kind, name, patch, namespace=self.served.namespace)
            except Conflict:
                if attempt == _TRIES - 1:
                    raise
                continue
            if kind is DEPLOYMENT:
                await self._keep_count(obj)
            return

    async def _keep_count(self, deployment: Object) -> None:
        """The count has an owner of its own, else the next apply would bring it to one."""
        metadata = deployment["metadata"]
        claim = {
            "apiVersion": DEPLOYMENT.api_version,
            "kind": DEPLOYMENT.kind,
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
            "spec": {"replicas": deployment["spec"].get("replicas", 1)},
        }
        await self.cluster.apply(DEPLOYMENT, claim, field_manager=AUTOSCALER_MANAGER)

    async def _await_ready(self, when: str) -> None:
        said = ""
        while True:
            isvc = await self._get()
            status = isvc.get("status") or {}
            conditions = status.get("conditions") or ()
            ready: Object = next((c for c in conditions if c["type"] == "Ready"), {})
            seen = status.get("observedGeneration") == isvc["metadata"]["generation"]
            if seen and ready.get("status") == "True":
                return
            text = f"{ready.get('reason') or ''} {ready.get('message') or ''}".strip()
            line = f"{self.served.key}: waiting {when}{f'; {text}' if text else ''}"
            if line != said:
                self.tell(line)
                said = line
            await self.deadline.pause(
                f"{line.rstrip('.')}. KServe's pods go on answering.",
                f"kedge why {self.served.name} -n {self.served.namespace}, mend it, and run kedge"
                " migrate again.",
            )

    async def _annotate(self, value: str | None) -> None:
        patch = {"metadata": {"annotations": {ADOPTION: value}}}
        await self.cluster.patch(
            INFERENCE_SERVICE, self.served.name, patch, namespace=self.served.namespace
        )

    async def _get(self) -> Object:
        return await self.cluster.get(INFERENCE_SERVICE, self.served.name, self.served.namespace)

    async def _find(self, kind: Kind, name: str) -> Object | None:
        try:
            return await self.cluster.get(kind, name, self.served.namespace)
        except NotFound:
            return None


def _reference(isvc: Object, *, controller: bool = True) -> dict[str, Any]:
    metadata = isvc["metadata"]
    reference: dict[str, Any] = {
        "apiVersion": INFERENCE_SERVICE.api_version,
        "kind": INFERENCE_SERVICE.kind,
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    if controller:
        reference |= {"controller": True, "blockOwnerDeletion": True}
    return reference


def _led_to(virtual_service: Object, host: str) -> list[Object]:
    """Its HTTP routes, every destination being the gateway; hosts and headers stay."""
    destination = {"host": host, "port": {"number": 80}}
    return [
        {
            **rule,
            **({"route": [{**one, "destination": destination} for one in rule["route"]]}
               if rule.get("route") else {}),
        }
        for rule in virtual_service["spec"].get("http") or ()
    ]  # fmt: skip
