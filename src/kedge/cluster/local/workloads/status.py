"""Status: written when it differs, and its conditions by Kubernetes' rules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kedge.cluster.base import Cluster, Object
from kedge.cluster.errors import NotFound
from kedge.reconcile import Informer

Condition = dict[str, Any]

REST = 0.02
"""Seconds between two looks at one workload: what changes within them is told by one write."""


class StatusWriter:
    """Writes the status of one kind; nobody else does, so no version needs to be checked."""

    def __init__(self, cluster: Cluster, informer: Informer) -> None:
        self._cluster = cluster
        self._informer = informer

    async def write(self, obj: Object, status: Object) -> None:
        if status == (obj.get("status") or {}):
            return
        metadata = obj["metadata"]
        target = {
            "apiVersion": obj["apiVersion"],
            "kind": obj["kind"],
            "metadata": {field: metadata[field] for field in ("name", "namespace", "uid")},
            "status": status,
        }
        try:
            written = await self._cluster.replace_status(self._informer.kind, target)
        except NotFound:
            return
        self._informer.note_write(written)


def find_condition(conditions: Iterable[Condition], type: str) -> Condition | None:
    return next((one for one in conditions if one["type"] == type), None)


def without_condition(conditions: Iterable[Condition], type: str) -> list[Condition]:
    return [one for one in conditions if one["type"] != type]
