"""Kubernetes' strategic merge, as far as pods and containers need it.

Scalars of the overlay win, maps are merged key by key, lists with a merge key (`env` by name,
`ports` by containerPort ...) item by item, other lists are replaced. An empty string, list or null
in the overlay says nothing, as in Go's JSON. Inputs are never changed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

Tree = dict[str, Any]

_MERGE_KEYS = {
    "env": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "volumes": "name",
    "imagePullSecrets": "name",
    "resourceClaims": "name",
    "containers": "name",
    "initContainers": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
_VOLUME_KINDS = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "hostPath",
    "image",
    "nfs",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
_HANDLERS = ("httpGet", "tcpSocket", "exec", "grpc")


def merge_container(base: Tree, overlay: Tree) -> Tree:
    """A runtime's container with a service's over it; `args` are joined, the name stays."""
    merged = merge(base, overlay)
    args = [*(base.get("args") or ()), *(overlay.get("args") or ())]
    if args:
        merged["args"] = args
    if base.get("name"):
        merged["name"] = base["name"]
    _settle_env(merged, overlay)
    return merged


def merge(base: Tree, overlay: Tree) -> Tree:
    """`overlay` over `base`, by the rules above."""
    merged = copy.deepcopy(base)
    for key, value in overlay.items():
        if value is None or value == "" or value == []:
            continue
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = _merge_maps(old, value)
        elif isinstance(old, list) and isinstance(value, list) and key in _MERGE_KEYS:
            merged[key] = merge_lists(old, value, _MERGE_KEYS[key])
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _merge_maps(base: Tree, overlay: Tree) -> Tree:
    """Two maps; of a probe's or hook's handlers the overlay's replaces the base's."""
    if any(overlay.get(handler) is not None for handler in _HANDLERS):
        base = {key: value for key, value in base.items() if key not in _HANDLERS or key in overlay}
    return merge(base, overlay)


def merge_lists(base: list[Any], overlay: list[Any], key: str) -> list[Any]:
    """Items joined by `key`; new items of the overlay come before the base's trailing ones."""
    base_by_key = {item.get(key): item for item in base}
    overlay_keys = {item.get(key) for item in overlay}
    merged = [_merge_items(base_by_key.get(item.get(key), {}), item, key) for item in overlay]
    places = {item.get(key): place for place, item in enumerate(base)}
    only_base = [item for item in base if item.get(key) not in overlay_keys]
    return list(_interleave(merged, only_base, places, key))


def _merge_items(base: Tree, overlay: Tree, key: str) -> Tree:
    """One named item; a volume of another kind than the base's replaces it."""
    if _VOLUME_KINDS & set(base) and _VOLUME_KINDS & set(overlay):
        kinds = {name for name in overlay if name != key}
        base = {name: value for name, value in base.items() if name == key or name in kinds}
    return merge(base, overlay)


def _interleave(
    merged: list[Any], only_base: list[Any], places: dict[Any, int], key: str
) -> Iterable[Any]:
    waiting = list(only_base)
    for item in merged:
        place = places.get(item.get(key))
        while waiting and place is not None and places[waiting[0].get(key)] < place:
            yield copy.deepcopy(waiting.pop(0))
        yield item
    yield from copy.deepcopy(waiting)


def _settle_env(merged: Tree, overlay: Tree) -> None:
    """Where an entry ended up with both `value` and `valueFrom`, keep the overlay's kind."""
    from_overlay = {entry.get("name"): entry for entry in overlay.get("env") or ()}
    for entry in merged.get("env") or ():
        if "valueFrom" in entry and "value" in entry:
            wins = from_overlay.get(entry.get("name"), {})
            del entry["value" if wins.get("valueFrom") else "valueFrom"]


def set_env(container: Tree, name: str, value: str) -> None:
    """Set a variable of a container that is ours to change, replacing what it was."""
    env = container.setdefault("env", [])
    for entry in env:
        if entry.get("name") == name:
            entry.pop("valueFrom", None)
            entry["value"] = value
            return
    env.append({"name": name, "value": value})


def add_env_if_absent(container: Tree, entries: Iterable[Tree]) -> None:
    present = {entry.get("name") for entry in container.get("env") or ()}
    missing = [entry for entry in entries if entry["name"] not in present]
    if missing:
        container.setdefault("env", []).extend(copy.deepcopy(missing))


def get_env(container: Tree, name: str) -> str:
    """The plain value of a variable; empty when unset or taken from elsewhere."""
    for entry in container.get("env") or ():
        if entry.get("name") == name:
            return str(entry.get("value") or "")
    return ""


def find_container(containers: Iterable[Tree], name: str) -> Tree | None:
    return next((container for container in containers if container.get("name") == name), None)
