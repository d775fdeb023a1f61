"""`cluster.base.Cluster` over HTTP."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from kedge.api.scheme import POD, SERVICE_ACCOUNT, Kind
from kedge.cluster.base import (
    FIELD_MANAGER,
    EventType,
    Object,
    ObjectList,
    PatchType,
    WatchEvent,
)
from kedge.cluster.kubernetes.answers import error_of_status
from kedge.cluster.kubernetes.connection import (
    Connection,
    connect_by_kubeconfig,
    connect_by_socket,
    connect_from_pod,
)
from kedge.cluster.kubernetes.transport import Transport
from kedge.cluster.slim import slim_down

_PAGE = 1000
_WATCH_SECONDS = 240
"""The server ends a watch after this long; a client that hears nothing for longer is cut off."""


class KubernetesCluster:
    """An API server; `async with` it, or `close` it, to give its connections back.

    Args:
        connection: where the server is.
        watch_seconds: how long the server is asked to let one watch last.
        slim: leave out of lists and watches who manages which field, half of what an object
            weighs; only who counts the replicas is kept.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        watch_seconds: int = _WATCH_SECONDS,
        slim: bool = False,
    ) -> None:
        self._transport = Transport(connection)
        self._watch_seconds = watch_seconds
        self._slim = slim

    @classmethod
    def from_kubeconfig(
        cls, path: str | os.PathLike[str], context: str | None = None, *, slim: bool = False
    ) -> KubernetesCluster:
        return cls(connect_by_kubeconfig(path, context), slim=slim)

    @classmethod
    def from_unix_socket(cls, path: str | os.PathLike[str]) -> KubernetesCluster:
        return cls(connect_by_socket(path))

    @classmethod
    def from_pod(cls, credentials: Path | None = None, *, slim: bool = False) -> KubernetesCluster:
        """The cluster that this process runs in, as the pod's service account."""
        connection = connect_from_pod(credentials) if credentials else connect_from_pod()
        return cls(connection, slim=slim)

    async def __aenter__(self) -> KubernetesCluster:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._transport.close()

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        return await self._object("GET", kind.path(namespace, name))

    async def read(self, path: str) -> Any:
        """Anything else that the API server answers with JSON, such as `/version`."""
        return await self._transport.request("GET", path)

    async def request_token(self, account: str, namespace: str, spec: Object) -> Object:
        """`status` of a TokenRequest: a token of a service account, and when it ends."""
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = f"{SERVICE_ACCOUNT.path(namespace, account)}/token"
        made: Object = (await self._object("POST", path, body=request))["status"]
        return made

    async def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
    ) -> ObjectList:
        params = {"limit": str(_PAGE), **_selection(labels, fields)}
        items: list[Object] = []
        while True:
            page = await self._transport.request("GET", kind.path(namespace), params=params)
            for obj in page.get("items") or ():
                # A list of built-in kinds says what its items are only once, for all.
                obj.setdefault("apiVersion", kind.api_version)
                obj.setdefault("kind", kind.kind)
                if self._slim:
                    slim_down(obj)
                items.append(obj)
            metadata = page["metadata"]
            if not metadata.get("continue"):
                return ObjectList(items, metadata["resourceVersion"])
            params["continue"] = metadata["continue"]

    async def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
        resource_version: str | None = None,
    ) -> AsyncIterator[WatchEvent]:
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(self._watch_seconds),
            **_selection(labels, fields),
        }
        if resource_version is not None:
            params["resourceVersion"] = resource_version
        silence = self._watch_seconds + 30.0
        async for piece in self._transport.lines(kind.path(namespace), params, silence=silence):
            if not piece.endswith(b"\n"):
                return
            for line in piece.splitlines():
                event = _parse_event(line)
                if self._slim:
                    slim_down(event.object)
                yield event

    async def create(self, kind: Kind, obj: Object) -> Object:
        path = kind.path(obj["metadata"].get("namespace"))
        return await self._object("POST", path, body=obj, manager=FIELD_MANAGER)

    async def replace(self, kind: Kind, obj: Object) -> Object:
        return await self._object("PUT", _path_of(kind, obj), body=obj, manager=FIELD_MANAGER)

    async def apply(
        self, kind: Kind, obj: Object, *, field_manager: str = FIELD_MANAGER, force: bool = True
    ) -> Object:
        return await self._object(
            "PATCH",
            _path_of(kind, obj),
            body={"apiVersion": kind.api_version, "kind": kind.kind, **obj},
            manager=field_manager,
            content_type=PatchType.APPLY,
            force=force,
        )

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Any,
        *,
        namespace: str | None = None,
        type: PatchType = PatchType.MERGE,
        subresource: str | None = None,
    ) -> Object:
        path = kind.path(namespace, name) + (f"/{subresource}" if subresource else "")
        return await self._object(
            "PATCH", path, body=patch, manager=FIELD_MANAGER, content_type=type
        )

    async def replace_status(self, kind: Kind, obj: Object) -> Object:
        path = f"{_path_of(kind, obj)}/status"
        if "resourceVersion" in obj["metadata"]:
            return await self._object("PUT", path, body=obj, manager=FIELD_MANAGER)
        # Custom resources cannot be put without a version.
        patch = [{"op": "add", "path": "/status", "value": obj.get("status") or {}}]
        return await self._object(
            "PATCH", path, body=patch, manager=FIELD_MANAGER, content_type=PatchType.JSON
        )

    async def scale(
        self, kind: Kind, name: str, namespace: str, replicas: int, *, field_manager: str
    ) -> None:
        await self._object(
            "PATCH",
            f"{kind.path(namespace, name)}/scale",
            body={"spec": {"replicas": replicas}},
            manager=field_manager,
            content_type=PatchType.MERGE,
        )

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
        options: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
        }
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        await self._object("DELETE", kind.path(namespace, name), body=options)

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
        params = {"follow": str(follow).lower(), "previous": str(previous).lower()}
        if container is not None:
            params["container"] = container
        if tail is not None:
            params["tailLines"] = str(tail)
        return self._transport.lines(f"{POD.path(namespace, name)}/log", params, silence=None)

    async def _object(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        manager: str | None = None,
        content_type: str = "application/json",
        force: bool | None = None,
    ) -> Object:
        params = {}
        if manager is not None:
            params["fieldManager"] = manager
        if force is not None:
            params["force"] = str(force).lower()
        found: Object = await self._transport.request(
            method, path, params=params, body=body, content_type=content_type
        )
        return found


def _path_of(kind: Kind, obj: Object) -> str:
    return kind.path(obj["metadata"].get("namespace"), obj["metadata"]["name"])


def _selection(labels: str | None, fields: str | None) -> dict[str, str]:
    chosen = {"labelSelector": labels, "fieldSelector": fields}
    return {name: selector for name, selector in chosen.items() if selector}


def _parse_event(line: bytes) -> WatchEvent:
    event = orjson.loads(line)
    if event["type"] == "ERROR":
        raise error_of_status(event["object"])
    return WatchEvent(EventType(event["type"]), event["object"])
