"""What a reconcile reads: objects as last seen, by kind and name or by the service they are of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from kedge.api.scheme import Kind
from kedge.cluster.base import Object
from kedge.controllers.inferenceservice.names import ISVC_LABEL
from kedge.reconcile.controller import Key
from kedge.reconcile.informer import Informer
from kedge.reconcile.owners import controller_of

BY_SERVICE = "service"


class Cache(Protocol):
    """Objects as last seen; read-only."""

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None: ...

    def of_service(self, kind: Kind, key: Key) -> list[Object]:
        """Objects labelled as belonging to an InferenceService."""
        ...

    def list(self, kind: Kind, namespace: str | None = None) -> list[Object]: ...


class InformerCache:
    """The cache that informers keep."""

    def __init__(self, informers: Mapping[Kind, Informer]) -> None:
        self._informers = informers

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        return self._informers[kind].get(namespace, name)

    def of_service(self, kind: Kind, key: Key) -> list[Object]:
        return self._informers[kind].by_index(BY_SERVICE, str(key))

    def list(self, kind: Kind, namespace: str | None = None) -> list[Object]:
        return self._informers[kind].list(namespace)


def service_keys(obj: Object) -> list[str]:
    """The index key of an object: the service that its label names."""
    key = service_of(obj)
    return [] if key is None else [str(key)]


def service_of(obj: Object) -> Key | None:
    """The InferenceService that an object belongs to."""
    metadata = obj["metadata"]
    name = (metadata.get("labels") or {}).get(ISVC_LABEL)
    return Key(str(metadata.get("namespace") or ""), str(name)) if name else None


def is_owned(obj: Object, isvc: Object) -> bool:
    """Whether `isvc` controls `obj`."""
    reference = controller_of(obj)
    return reference is not None and reference.get("uid") == isvc["metadata"].get("uid")
