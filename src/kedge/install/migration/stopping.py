"""KServe's controller and webhooks, switched off so that they can be switched on again.

What was there is kept in a ConfigMap beside the controller: `kedge migrate --undo` reads it.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import Any

from kedge.api.scheme import (
    CLUSTER_STORAGE_CONTAINER,
    CONFIG_MAP,
    DEPLOYMENT,
    INFERENCE_SERVICE,
    POD,
)
from kedge.cluster.base import Object, PatchType
from kedge.cluster.errors import AlreadyExists, NotFound
from kedge.install.kinds import CUSTOM_RESOURCE_DEFINITION, VALIDATING_WEBHOOK
from kedge.install.migration.finding import Found, Served, listed
from kedge.install.migration.kinds import MUTATING_WEBHOOK, STATEFUL_SET
from kedge.install.target import INSTALLER, InstallError, Target, Tell
from kedge.install.waiting import Deadline
from kedge.settings.installation import ADOPTION, WAITING

MEMORY = "kedge-migration"
"""The ConfigMap with what was switched off."""
_LABEL = "serving.kedge.dev/migration"
_KEY = "undo"
_KINDS = {
    kind.kind: kind for kind in (DEPLOYMENT, STATEFUL_SET, MUTATING_WEBHOOK, VALIDATING_WEBHOOK)
}
_SERVER_SET = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")


@dataclass
class Stopping:
    """Switches KServe off."""

    cluster: Target
    tell: Tell
    deadline: Deadline

    async def run(self, found: Found) -> None:
        """First remember, then the controller, then what asks it."""
        if not (found.running or found.webhooks or found.conversions):
            return
        await self._remember(found)
        for kind, obj in found.running:
            await self._scale(kind, obj)
        for _, obj in found.running:
            await self._await_pods(obj)
        for kind, obj in found.webhooks:
            name = obj["metadata"]["name"]
            with contextlib.suppress(NotFound):
                await self.cluster.delete(kind, name)
            self.tell(f"{kind.kind} {name}: removed")
        for obj in found.conversions:
            name = obj["metadata"]["name"]
            patch = [{"op": "replace", "path": "/spec/conversion", "value": {"strategy": "None"}}]
            await self.cluster.patch(CUSTOM_RESOURCE_DEFINITION, name, patch, type=PatchType.JSON)
            self.tell(f"CustomResourceDefinition {name}: its conversion is switched off")

    async def hold(self, services: list[Served]) -> None:
        """Have Kedge's controller leave alone what it has not been told to take over."""
        for served in services:
            if served.is_legacy or served.adoption or not served.children:
                continue
            patch = {"metadata": {"annotations": {ADOPTION: WAITING}}}
            await self.cluster.patch(
                INFERENCE_SERVICE, served.name, patch, namespace=served.namespace
            )

    async def _scale(self, kind: Any, obj: Object) -> None:
        metadata = obj["metadata"]
        name, space = metadata["name"], metadata["namespace"]
        await self.cluster.scale(kind, name, space, 0, field_manager=INSTALLER)
        self.tell(f"{kind.kind} {space}/{name}: scaled to 0")

    async def _await_pods(self, obj: Object) -> None:
        metadata = obj["metadata"]
        chosen = obj["spec"]["selector"].get("matchLabels") or {}
        labels = ",".join(f"{key}={value}" for key, value in chosen.items())
        space = metadata["namespace"]
        while pods := await listed(self.cluster, POD, space, labels=labels):
            await self.deadline.pause(
                f"Pods of {space}/{metadata['name']} are still ending:"
                f" {', '.join(pod['metadata']['name'] for pod in pods)}.",
                f"kubectl get pods -n {space}, and run kedge migrate again.",
            )

    async def _remember(self, found: Found) -> None:
        """What an earlier run wrote down stays: a second look sees what was switched off."""
        space = found.homes[0] if found.homes else "default"
        memory = await _read(self.cluster, space) or {
            "controllers": [], "webhooks": [], "conversions": [], "storage": [],
        }  # fmt: skip
        known = {(one["kind"], one["namespace"], one["name"]) for one in memory["controllers"]}
        for kind, obj in found.running:
            place = (kind.kind, obj["metadata"]["namespace"], obj["metadata"]["name"])
            if place not in known:
                memory["controllers"].append({
                    "kind": place[0], "namespace": place[1], "name": place[2],
                    "replicas": obj["spec"].get("replicas", 1),
                })  # fmt: skip
        names = {(one["kind"], one["metadata"]["name"]) for one in memory["webhooks"]}
        for kind, obj in found.webhooks:
            if (kind.kind, obj["metadata"]["name"]) not in names:
                memory["webhooks"].append({**_plain(obj), "kind": kind.kind,
                                           "apiVersion": kind.api_version})  # fmt: skip
        for obj in found.conversions:
            memory["conversions"].append(
                {"name": obj["metadata"]["name"], "conversion": obj["spec"]["conversion"]}
            )
        kept = {one["metadata"]["name"] for one in memory["storage"]}
        memory["storage"] += [
            _plain(obj) for obj in found.storage if obj["metadata"]["name"] not in kept
        ]
        text = json.dumps(memory, indent=1)
        await self.cluster.apply(
            CONFIG_MAP,
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": MEMORY, "namespace": space, "labels": {_LABEL: "true"}},
                "data": {_KEY: text},
            },
            field_manager=INSTALLER,
        )
        self.tell(f"ConfigMap {space}/{MEMORY}: what is switched off is remembered here")


async def start_again(cluster: Target, tell: Tell) -> None:
    """Switch on again what was switched off; the webhooks last, for they answer only then.

    Raises:
        InstallError: nothing was.
    """
    memories = await listed(cluster, CONFIG_MAP, labels=f"{_LABEL}=true")
    if not memories:
        raise InstallError(
            "Nothing is remembered of a migration.",
            fix="Scale KServe's controller up by hand.",
        )
    for memory in memories:
        known = json.loads(memory["data"][_KEY])
        for one in known["conversions"]:
            patch = [{"op": "replace", "path": "/spec/conversion", "value": one["conversion"]}]
            await cluster.patch(CUSTOM_RESOURCE_DEFINITION, one["name"], patch, type=PatchType.JSON)
            tell(f"CustomResourceDefinition {one['name']}: its conversion is switched on")
        for obj in known["storage"]:
            await _put_back(cluster, obj)
        await _release(cluster)
        for one in known["controllers"]:
            await cluster.scale(
                _KINDS[one["kind"]], one["name"], one["namespace"], one["replicas"],
                field_manager=INSTALLER,
            )  # fmt: skip
            tell(f"{one['kind']} {one['namespace']}/{one['name']}: scaled to {one['replicas']}")
        for obj in known["webhooks"]:
            with contextlib.suppress(AlreadyExists):
                await cluster.create(_KINDS[obj["kind"]], obj)
            tell(f"{obj['kind']} {obj['metadata']['name']}: made again")
        metadata = memory["metadata"]
        await cluster.delete(CONFIG_MAP, metadata["name"], metadata["namespace"])


async def _put_back(cluster: Target, obj: Object) -> None:
    """A storage container as it was, whoever has changed or removed it since."""
    name, kind = obj["metadata"]["name"], CLUSTER_STORAGE_CONTAINER
    try:
        now = await cluster.get(kind, name)
    except NotFound:
        await cluster.create(kind, obj)
        return
    version = now["metadata"]["resourceVersion"]
    await cluster.replace(
        kind, {**obj, "metadata": {**obj["metadata"], "resourceVersion": version}}
    )


async def _release(cluster: Target) -> None:
    """Take our annotation away: KServe would copy it to pods."""
    for isvc in await listed(cluster, INFERENCE_SERVICE):
        metadata = isvc["metadata"]
        if ADOPTION in (metadata.get("annotations") or {}):
            patch = {"metadata": {"annotations": {ADOPTION: None}}}
            await cluster.patch(
                INFERENCE_SERVICE, metadata["name"], patch, namespace=metadata["namespace"]
            )


async def _read(cluster: Target, namespace: str) -> dict[str, Any] | None:
    try:
        found = await cluster.get(CONFIG_MAP, MEMORY, namespace)
    except NotFound:
        return None
    memory: dict[str, Any] = json.loads(found["data"][_KEY])
    return memory


def _plain(obj: Object) -> Object:
    metadata = {k: v for k, v in obj["metadata"].items() if k not in _SERVER_SET}
    return {**obj, "metadata": metadata}
