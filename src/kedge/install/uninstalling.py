"""Takes an installation away again, and waits until nothing of it is left."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from kedge.api.scheme import (
    DEPLOYMENT,
    GATEWAY_CLASS,
    GATEWAY_GROUP,
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    LEASE,
    NAMESPACE,
    POD,
    SECRET,
    SERVING_GROUP,
    SERVING_RUNTIME,
    Kind,
)
from kedge.cluster.base import Object
from kedge.cluster.errors import NotFound
from kedge.install import names
from kedge.install.installing import list_installed
from kedge.install.kinds import (
    CUSTOM_RESOURCE_DEFINITION,
    INSTALLED,
    VALIDATING_WEBHOOK,
)
from kedge.install.probing import check_rights
from kedge.install.target import Target, Tell, patiently
from kedge.install.waiting import Deadline
from kedge.lib.clock import SYSTEM_CLOCK, Clock

_AT_RUN_TIME: tuple[tuple[Kind, tuple[str, ...]], ...] = (
    (LEASE, (names.CONTROLLER,)),
    (SECRET, ("kedge-signals", "kedge-webhook")),
)
"""What Kedge's processes make in the namespace of the installation."""
_DATA = (INFERENCE_SERVICE, SERVING_RUNTIME)


@dataclass
class Removal:
    """One run of `kedge uninstall`.

    Attributes:
        keep_crds: leave the definitions, and with them all services and runtimes.
        seconds: the longest wait for everything together.
    """

    cluster: Target
    namespace: str
    tell: Tell
    keep_crds: bool = False
    seconds: float = 300.0
    clock: Clock = SYSTEM_CLOCK

    async def services(self) -> list[str]:
        """`namespace/name` of the InferenceServices that would be removed."""
        found = await self._list(INFERENCE_SERVICE)
        return [f"{o['metadata']['namespace']}/{o['metadata']['name']}" for o in found]

    async def run(self) -> int:
        """Remove everything; how many objects were removed.

        First the webhook, which would be asked and not answer; then services, while the controller
        still runs; then Kedge's own objects; definitions and the namespace last.
        """
        deadline = Deadline(self.clock, self.seconds)
        installed = {
            kind: await list_installed(self.cluster, kind, self.namespace, self.clock)
            for kind in INSTALLED
        }
        await check_rights(
            self.cluster, [obj for found in installed.values() for obj in found], ("delete",)
        )
        removed = await self._remove(VALIDATING_WEBHOOK, installed[VALIDATING_WEBHOOK], deadline)
        ours = {obj["metadata"]["name"] for obj in installed[CUSTOM_RESOURCE_DEFINITION]}
        if not self.keep_crds:
            for kind in _DATA:
                if str(kind) in ours:
                    removed += await self._remove(kind, await self._list(kind), deadline)
        for kind in self._order():
            removed += await self._remove(kind, installed[kind], deadline)
        await self._await_pods(deadline)
        removed += await self._remove_run_time(deadline)
        if not self.keep_crds:
            definitions = installed[CUSTOM_RESOURCE_DEFINITION]
            removed += await self._remove_definitions(definitions, deadline)
        removed += await self._remove_namespaces(installed[NAMESPACE], deadline)
        return removed

    def _order(self) -> Iterator[Kind]:
        """Kinds of installed objects, pods first; runtimes stay with their definitions."""
        for kind in (DEPLOYMENT, *(one for one in reversed(INSTALLED) if one is not DEPLOYMENT)):
            last = kind in (NAMESPACE, CUSTOM_RESOURCE_DEFINITION, VALIDATING_WEBHOOK)
            if last or (self.keep_crds and kind.group == SERVING_GROUP):
                continue
            yield kind

    async def _remove(self, kind: Kind, objects: list[Object], deadline: Deadline) -> int:
        """Delete and wait, finalizers included."""
        for obj in objects:
            await self._delete(kind, obj["metadata"]["name"], obj["metadata"].get("namespace"))
        for obj in objects:
            await self._await_gone(kind, obj, deadline)
            self.tell(f"{kind.kind} {obj['metadata']['name']}: removed")
        return len(objects)

    async def _delete(self, kind: Kind, name: str, namespace: str | None) -> None:
        with contextlib.suppress(NotFound):
            await patiently(lambda: self.cluster.delete(kind, name, namespace), self.clock)

    async def _await_gone(self, kind: Kind, obj: Object, deadline: Deadline) -> None:
        metadata = obj["metadata"]
        name, space = metadata["name"], metadata.get("namespace")
        while True:
            try:
                now = await patiently(lambda: self.cluster.get(kind, name, space), self.clock)
            except NotFound:
                return
            if now["metadata"]["uid"] != metadata["uid"]:
                return
            holders = ", ".join(now["metadata"].get("finalizers") or ()) or "none"
            held = (now.get("spec") or {}).get("finalizers") if kind is NAMESPACE else None
            where = f" in namespace {space}" if space else ""
            await deadline.pause(
                f"{kind.kind} {name}{where} is not gone yet; finalizers:"
                f" {', '.join(held) if held else holders}.",
                "See that the controllers which own these finalizers run, or remove them, and run"
                " kedge uninstall again.",
            )

    async def _await_pods(self, deadline: Deadline) -> None:
        """Kedge's own pods end in their own time, and the controller gives its Lease back."""
        while True:
            labels = f"{names.INSTALLATION}={self.namespace}"
            pods = (await self.cluster.list(POD, self.namespace, labels=labels)).items
            if not pods:
                return
            left = ", ".join(pod["metadata"]["name"] for pod in pods)
            await deadline.pause(
                f"Pods are still ending: {left}.",
                f"kubectl get pods -n {self.namespace}, and run kedge uninstall again.",
            )

    async def _remove_run_time(self, deadline: Deadline) -> int:
        removed = 0
        for kind, found in _AT_RUN_TIME:
            for name in found:
                try:
                    obj = await self.cluster.get(kind, name, self.namespace)
                except NotFound:
                    continue
                removed += await self._remove(kind, [obj], deadline)
        return removed

    async def _remove_definitions(self, definitions: list[Object], deadline: Deadline) -> int:
        """Gateway API's stay where somebody else has begun to use them."""
        gateway_api = [o for o in definitions if o["spec"]["group"] == GATEWAY_GROUP]
        others = await self._list(GATEWAY_CLASS) + await self._list(HTTP_ROUTE)
        if gateway_api and others:
            self.tell("Gateway API is used by others: its definitions stay.")
            definitions = [obj for obj in definitions if obj not in gateway_api]
        return await self._remove(CUSTOM_RESOURCE_DEFINITION, definitions, deadline)

    async def _remove_namespaces(self, namespaces: list[Object], deadline: Deadline) -> int:
        """One that was there before stays, and only loses what we wrote on it."""
        made = [o for o in namespaces if names.MADE_NAMESPACE in _annotations(o)]
        for obj in namespaces:
            if obj not in made:
                ours = [
                    key
                    for key in obj["metadata"].get("labels") or {}
                    if key.startswith(_OUR_LABELS)
                ]
                patch = {"metadata": {"labels": dict.fromkeys(ours)}}
                await self.cluster.patch(NAMESPACE, obj["metadata"]["name"], patch)
                self.tell(f"Namespace {obj['metadata']['name']}: kept, it was there before")
        return await self._remove(NAMESPACE, made, deadline)

    async def _list(self, kind: Kind) -> list[Object]:
        try:
            return (await patiently(lambda: self.cluster.list(kind), self.clock)).items
        except NotFound:
            return []


_OUR_LABELS = (names.INSTALLATION, names.PART_OF, names.MANAGED_BY, names.COMPONENT)


def _annotations(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}
