"""Which objects belong to a workload: it adopts orphans it selects, and lets go of strays."""

from __future__ import annotations

from typing import Any

from kedge.api.scheme import Kind
from kedge.cluster.base import Cluster, Object
from kedge.cluster.errors import NotFound
from kedge.cluster.labels import labels_of, matches
from kedge.reconcile import Informer, controller_of, controller_reference

OWNER_INDEX = "controller-uid"
ORPHAN_INDEX = "orphans-by-namespace"


def index_owners(informer: Informer) -> None:
    """Prepare an informer for `Claims`."""
    informer.add_index(OWNER_INDEX, _owner_uid)
    informer.add_index(ORPHAN_INDEX, _orphan_namespace)


class Claims:
    """Finds what a workload owns among the objects of one kind."""

    def __init__(self, cluster: Cluster, informer: Informer) -> None:
        self._cluster = cluster
        self._informer = informer

    async def of(self, owner: Object) -> list[Object]:
        """The objects that `owner` controls, after adoptions and releases."""
        selector = owner["spec"].get("selector")
        owned = []
        for obj in self._informer.by_index(OWNER_INDEX, owner["metadata"]["uid"]):
            if matches(selector, labels_of(obj)):
                owned.append(obj)
            elif "deletionTimestamp" not in owner["metadata"]:
                await self._release(obj, owner)
        if "deletionTimestamp" in owner["metadata"]:
            return owned
        for obj in self._informer.by_index(ORPHAN_INDEX, owner["metadata"]["namespace"]):
            if matches(selector, labels_of(obj)):
                owned.append(await self._adopt(obj, owner))
        return owned

    async def _adopt(self, obj: Object, owner: Object) -> Object:
        references = obj["metadata"].get("ownerReferences") or []
        return await self._own(obj, [*references, controller_reference(owner)]) or obj

    async def _release(self, obj: Object, owner: Object) -> None:
        references = obj["metadata"].get("ownerReferences") or []
        uid = owner["metadata"]["uid"]
        await self._own(obj, [one for one in references if one.get("uid") != uid])

    async def _own(self, obj: Object, references: list[dict[str, Any]]) -> Object | None:
        kind: Kind = self._informer.kind
        metadata = obj["metadata"]
        patch = {"metadata": {"uid": metadata["uid"], "ownerReferences": references or None}}
        try:
            written = await self._cluster.patch(
                kind, metadata["name"], patch, namespace=metadata["namespace"]
            )
        except NotFound:
            return None
        self._informer.note_write(written)
        return written


def _owner_uid(obj: Object) -> list[str]:
    reference = controller_of(obj)
    return [reference["uid"]] if reference else []


def _orphan_namespace(obj: Object) -> list[str]:
    if controller_of(obj) or "deletionTimestamp" in obj["metadata"]:
        return []
    return [obj["metadata"]["namespace"]]
