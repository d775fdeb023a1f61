"""Rendered children against those of a real API server."""

from __future__ import annotations

import copy
from typing import Any

from tests.kubernetes.standins import find

from kedge.api.scheme import kind_of
from kedge.cluster.base import Cluster, Object
from kedge.controllers.inferenceservice.applier import covers
from kedge.controllers.inferenceservice.names import AUTOSCALED


async def difference(cluster: Cluster, wanted: Object) -> str:
    """What a rendered child lacks in the cluster; empty where it is as rendered."""
    kind = kind_of(wanted)
    assert kind is not None, wanted["kind"]
    metadata = wanted["metadata"]
    live = await find(cluster, kind, metadata["name"], metadata["namespace"])
    if live is None:
        return f"{kind.kind} {metadata['name']} is not there"
    owners = live["metadata"].get("ownerReferences") or []
    if [one["kind"] for one in owners if one.get("controller")] != ["InferenceService"]:
        return f"{kind.kind} {metadata['name']} is owned by {owners}"
    told = _plain(wanted)
    if covers(_plain(live), told):
        return ""
    return f"{kind.kind} {metadata['name']}: {_first_difference(_plain(live), told)}"


def _plain(obj: Object) -> Object:
    """Without what the API server, the autoscaler or the renderer alone knows."""
    plain = copy.deepcopy(obj)
    for key in ("uid", "resourceVersion", "ownerReferences", "creationTimestamp"):
        plain["metadata"].pop(key, None)
    template = (plain.get("spec") or {}).get("template") or {}
    for metadata in (plain["metadata"], template.get("metadata") or {}):
        # It tells of the template, which is compared itself.
        (metadata.get("annotations") or {}).pop("serving.kedge.dev/template-hash", None)
    plain.pop("status", None)
    if AUTOSCALED in (plain["metadata"].get("labels") or {}):
        plain["spec"].pop("replicas", None)
    return plain


def _first_difference(live: Any, wanted: Any, path: str = "") -> str:
    if isinstance(wanted, dict) and isinstance(live, dict):
        for key, value in wanted.items():
            if not covers({key: live[key]} if key in live else {}, {key: value}):
                return _first_difference(live.get(key), value, f"{path}.{key}")
    if isinstance(wanted, list) and isinstance(live, list) and len(live) == len(wanted):
        for place, (one, other) in enumerate(zip(live, wanted, strict=True)):
            if not covers(one, other):
                return _first_difference(one, other, f"{path}[{place}]")
    return f"{path}: {live!r} instead of {wanted!r}"
