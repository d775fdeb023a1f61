"""Which volumes of a pod hold its model, and what they held when the revision was made.

A revision's pods get the bytes that it was made of. Reading and keeping them is not a controller's
work: whoever runs pods on this machine does it (`ModelPins`). Elsewhere nothing is pinned.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from kedge.cluster.base import Object
from kedge.controllers.inferenceservice import names
from kedge.controllers.inferenceservice.merge import Tree
from kedge.controllers.inferenceservice.names import MODEL_PATH

Pins = Mapping[str, Mapping[str, str]]
"""By volume: `digest`, and `subPath` where only a part of it is mounted."""


class ModelPins(Protocol):
    """Keeps model files."""

    async def pin(self, namespace: str, volume: Tree, sub_path: str) -> str | None:
        """The digest of what a volume holds now, which is kept from now on as far as it is small.

        None where it cannot be read, or not now.
        """
        ...


class NothingPinned:
    """For clusters whose files are not on this machine."""

    async def pin(self, namespace: str, volume: Tree, sub_path: str) -> str | None:
        return None


@dataclass(frozen=True)
class ModelVolume:
    """A volume of this machine that a pod reads its model from."""

    volume: Tree
    sub_path: str

    @property
    def name(self) -> str:
        return str(self.volume["name"])


def model_volumes(pod: Tree) -> list[ModelVolume]:
    """The volumes with model files that nobody but their owner writes."""
    found = []
    for volume in pod.get("volumes") or ():
        if "hostPath" not in volume and "persistentVolumeClaim" not in volume:
            continue
        mounts = [
            mount
            for container in (*(pod.get("initContainers") or ()), *pod["containers"])
            for mount in container.get("volumeMounts") or ()
            if mount.get("name") == volume["name"]
        ]
        parts = {str(mount.get("subPath") or "") for mount in mounts}
        holds_model = any(_is_model_path(str(mount.get("mountPath"))) for mount in mounts)
        if holds_model and len(parts) == 1 and all(mount.get("readOnly") for mount in mounts):
            found.append(ModelVolume(volume, parts.pop()))
    return found


def _is_model_path(path: str) -> bool:
    return path == MODEL_PATH or posixpath.normpath(path).startswith(f"{MODEL_PATH}/")


async def pin_models(keeper: ModelPins, namespace: str, pod: Tree) -> dict[str, dict[str, str]]:
    """What the model's volumes hold now."""
    pins: dict[str, dict[str, str]] = {}
    for found in model_volumes(pod):
        digest = await keeper.pin(namespace, found.volume, found.sub_path)
        if digest is not None:
            part = {"subPath": found.sub_path} if found.sub_path else {}
            pins[found.name] = {"digest": digest, **part}
    return pins


def pins_of(deployment: Object) -> dict[str, dict[str, str]]:
    """What a revision is pinned to."""
    metadata = deployment["spec"]["template"]["metadata"]
    try:
        found = json.loads((metadata.get("annotations") or {}).get(names.MODEL_PINS) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def write_pins(pins: Pins) -> str:
    return json.dumps(pins, sort_keys=True, separators=(",", ":"))
