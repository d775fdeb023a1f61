"""Model files on this machine, for the controllers: pinned when a revision is made, collected when
no revision needs them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedge.api.scheme import DEPLOYMENT, INFERENCE_SERVICE, PERSISTENT_VOLUME_CLAIM
from kedge.cluster.base import Cluster, Object
from kedge.cluster.errors import NotFound
from kedge.cluster.local.models import ModelCache, Unreadable
from kedge.cluster.local.node.volumes import PATH_ANNOTATION, PINS_ANNOTATION
from kedge.lib.clock import SYSTEM_CLOCK, Clock

log = logging.getLogger(__name__)

_PERIOD = 600.0
"""Seconds between two collections; what is younger is spared."""
_UNREACHABLE = ("serving.kedge.dev/reachability", "unreachable")
_ROLES = (
    "latestCreatedRevision", "latestReadyRevision", "latestRolledoutRevision",
    "previousRolledoutRevision",
)  # fmt: skip


class LocalModels:
    """Keeps model files of this machine by their content."""

    def __init__(
        self, cluster: Cluster, cache: ModelCache, volumes_dir: Path, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._volumes_dir = volumes_dir
        self._clock = clock

    async def pin(self, namespace: str, volume: Mapping[str, Any], sub_path: str) -> str | None:
        """The digest of what a volume holds now; None where it cannot be read, or not now."""
        path = await self._find(namespace, volume)
        if path is None:
            return None
        try:
            return await asyncio.to_thread(self._cache.pin, path / sub_path)
        except Unreadable as error:
            log.info("A model is not pinned yet: %s", error)
            return None

    async def _find(self, namespace: str, volume: Mapping[str, Any]) -> Path | None:
        if "hostPath" in volume:
            return Path(volume["hostPath"]["path"])
        name = volume["persistentVolumeClaim"]["claimName"]
        try:
            claim = await self._cluster.get(PERSISTENT_VOLUME_CLAIM, name, namespace)
        except NotFound:
            return None
        elsewhere = (claim["metadata"].get("annotations") or {}).get(PATH_ANNOTATION)
        return Path(elsewhere) if elsewhere else self._volumes_dir / namespace / name

    async def run(self) -> None:
        """Collect now and then, until cancelled."""
        while True:
            await self._clock.sleep(_PERIOD)
            await self.collect()

    async def collect(self, *, spare_seconds: float = _PERIOD) -> list[str]:
        """Delete copies that no revision needs any more; their names."""
        deployments = (await self._cluster.list(DEPLOYMENT)).items
        services = (await self._cluster.list(INFERENCE_SERVICE)).items
        wanted = {role for service in services for role in _revisions_with_a_role(service)}
        used = {
            pin["digest"]
            for deployment in deployments
            if _is_reachable(deployment) or _place(deployment) in wanted
            for pin in _pins(deployment).values()
        }
        return await asyncio.to_thread(self._cache.collect, used, spare_seconds=spare_seconds)


def _place(obj: Object) -> tuple[str, str]:
    return str(obj["metadata"]["namespace"]), str(obj["metadata"]["name"])


def _is_reachable(deployment: Object) -> bool:
    key, value = _UNREACHABLE
    return (deployment["metadata"].get("annotations") or {}).get(key) != value


def _revisions_with_a_role(service: Object) -> set[tuple[str, str]]:
    """Revisions that requests may come back to."""
    namespace = str(service["metadata"]["namespace"])
    parts = (service.get("status") or {}).get("components") or {}
    named = {str(part[role]) for part in parts.values() for role in _ROLES if part.get(role)}
    routed = {
        str(target["revisionName"]) for part in parts.values() for target in part.get("traffic", ())
    }
    return {(namespace, name) for name in named | routed}


def _pins(deployment: Object) -> dict[str, dict[str, str]]:
    metadata = deployment["spec"]["template"]["metadata"]
    try:
        found = json.loads((metadata.get("annotations") or {}).get(PINS_ANNOTATION) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
