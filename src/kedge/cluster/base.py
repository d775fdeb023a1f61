"""Where objects live and pods run: the one contract that every backend keeps.

Objects are plain JSON objects, exactly as stored; `kedge.api` holds typed views of them. A caller
never changes an object it got from a `Cluster`: it may be shared with a cache.

`tests/contract/` is this contract as tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from kedge.api.scheme import Kind

Object = dict[str, Any]

FIELD_MANAGER = "kedge"
"""Field manager of everything that Kedge's controllers apply."""


class EventType(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One change. A BOOKMARK's object carries only `metadata.resourceVersion`."""

    type: EventType
    object: Object


@dataclass(frozen=True, slots=True)
class ObjectList:
    """A list and the version it was read at, from which a watch can go on."""

    items: list[Object]
    resource_version: str


class PatchType(StrEnum):
    """Kubernetes' patch formats, by content type."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


class Cluster(Protocol):
    """A Kubernetes API, real or local.

    `namespace` is None for cluster-scoped kinds, and in `list` and `watch` for all namespaces.
    Selectors are in Kubernetes' string form (`app=x,tier!=y`, `status.phase=Running`).
    Every method raises a subclass of `kedge.cluster.errors.ApiError`.
    """

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object: ...

    async def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
    ) -> ObjectList: ...

    def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
        resource_version: str | None = None,
    ) -> AsyncIterator[WatchEvent]:
        """Changes after `resource_version` (from now, preceded by ADDED for all, when None).

        Ends when the server closes it; raises `Gone` when the version is too old.
        """
        ...

    async def create(self, kind: Kind, obj: Object) -> Object: ...

    async def replace(self, kind: Kind, obj: Object) -> Object:
        """Write the whole object; `Conflict` when its resourceVersion is not the stored one."""
        ...

    async def apply(
        self, kind: Kind, obj: Object, *, field_manager: str = FIELD_MANAGER, force: bool = True
    ) -> Object:
        """Server-side apply: own the given fields, leave all others alone, create if absent."""
        ...

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Any,
        *,
        namespace: str | None = None,
        type: PatchType = PatchType.MERGE,
        subresource: str | None = None,
    ) -> Object: ...

    async def replace_status(self, kind: Kind, obj: Object) -> Object:
        """Write `obj["status"]`; everything else of `obj` but its identity and version is ignored.

        With a `metadata.resourceVersion`, `Conflict` when it is not the stored one.
        """
        ...

    async def scale(
        self, kind: Kind, name: str, namespace: str, replicas: int, *, field_manager: str
    ) -> None:
        """Write the scale sub-resource."""
        ...

    async def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str | None = None,
        *,
        propagation: str = "Background",
        uid: str | None = None,
        grace_seconds: int | None = None,
    ) -> None:
        """Ask for deletion; `Conflict` when `uid` is given and is not the stored one."""
        ...

    def logs(
        self,
        name: str,
        namespace: str,
        *,
        container: str | None = None,
        follow: bool = False,
        previous: bool = False,
        tail: int | None = None,
    ) -> AsyncIterator[bytes]:
        """A pod's log, in pieces of whole lines."""
        ...
