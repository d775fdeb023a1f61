"""OpenAPI documents of what is served: version 3 by group, and version 2 as a whole.

`kubectl explain`, its validation and its client-side apply live on them. They are made once, on the
first request, in a thread.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from kedge.api.openapi import COMPONENTS, definition_name
from kedge.api.schema import definitions
from kedge.api.scheme import KINDS, Kind
from kedge.cluster.errors import MethodNotAllowed, NotFound
from kedge.cluster.local.http.openapi_v2 import MEDIA_TYPE as V2_PROTOBUF
from kedge.cluster.local.http.openapi_v2 import encode_document
from kedge.cluster.local.structure import Shape, is_struct, item_type, struct_fields

_encode = msgspec.json.Encoder().encode
_DEFINITIONS = "#/definitions/"
_INFO = {"title": "Kedge", "version": "v1.32.0"}
_WRITE_PARAMETERS = ("dryRun", "fieldManager", "fieldValidation")
_PATCH_PARAMETERS = (*_WRITE_PARAMETERS, "force")
_LIST_PARAMETERS = (
    "allowWatchBookmarks", "continue", "fieldSelector", "labelSelector", "limit",
    "resourceVersion", "resourceVersionMatch", "sendInitialEvents", "timeoutSeconds", "watch",
)  # fmt: skip
_DELETE_PARAMETERS = ("dryRun", "gracePeriodSeconds", "propagationPolicy")
_METHODS: dict[str, tuple[tuple[str, str, tuple[str, ...]], ...]] = {
    "collection": (
        ("get", "list", _LIST_PARAMETERS),
        ("post", "post", _WRITE_PARAMETERS),
        ("delete", "deletecollection", _DELETE_PARAMETERS),
    ),
    "object": (
        ("get", "get", ()),
        ("put", "put", _WRITE_PARAMETERS),
        ("patch", "patch", _PATCH_PARAMETERS),
        ("delete", "delete", _DELETE_PARAMETERS),
    ),
    "part": (
        ("get", "get", ()),
        ("put", "put", _WRITE_PARAMETERS),
        ("patch", "patch", _PATCH_PARAMETERS),
    ),
}


@dataclass(frozen=True)
class _Document:
    body: bytes
    digest: str


class OpenApi:
    """Answers everything under `/openapi/`."""

    def __init__(self) -> None:
        self._making: asyncio.Task[dict[str, _Document]] | None = None
        self._v2_protobuf: bytes | None = None

    async def answer(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed("an OpenAPI document can only be read")
        path = request.url.path.removeprefix("/openapi/").strip("/")
        documents = await self._documents()
        if path == "v2":
            return await self._answer_v2(request, documents["v2"])
        if path == "v3":
            paths = {
                name: {"serverRelativeURL": f"/openapi/v3/{name}?hash={document.digest}"}
                for name, document in documents.items()
                if name != "v2"
            }
            return Response(_encode({"paths": paths}), media_type="application/json")
        document = documents.get(path.removeprefix("v3/"))
        if document is None or not path.startswith("v3/"):
            raise NotFound("the server could not find the requested resource", details={})
        return Response(document.body, media_type="application/json",
                        headers={"etag": f'"{document.digest}"'})  # fmt: skip

    async def _answer_v2(self, request: Request, document: _Document) -> Response:
        etag = {"etag": f'"{document.digest}"'}
        if "proto-openapi.spec.v2" not in request.headers.get("accept", ""):
            return Response(document.body, media_type="application/json", headers=etag)
        if self._v2_protobuf is None:
            self._v2_protobuf = await asyncio.to_thread(
                lambda: encode_document(msgspec.json.decode(document.body))
            )
        return Response(self._v2_protobuf, media_type=V2_PROTOBUF, headers=etag)

    async def _documents(self) -> dict[str, _Document]:
        if self._making is None:
            self._making = asyncio.ensure_future(asyncio.to_thread(_make_documents))
        # A client that leaves does not end what the next one needs too.
        return await asyncio.shield(self._making)


def _make_documents() -> dict[str, _Document]:
    groups: dict[tuple[str, str], list[Kind]] = {}
    for kind in KINDS:
        groups.setdefault((kind.group, kind.version), []).append(kind)
    made = {
        f"apis/{group}/{version}" if group else f"api/{version}": _finish(make_v3(kinds))
        for (group, version), kinds in groups.items()
    }
    return {**made, "v2": _finish(make_v2(KINDS))}


def _finish(document: dict[str, Any]) -> _Document:
    body = _encode(document)
    return _Document(body, hashlib.sha256(body).hexdigest()[:32].upper())


def make_v3(kinds: Iterable[Kind]) -> dict[str, Any]:
    """The OpenAPI v3 document of some kinds."""
    kinds = tuple(kinds)
    schemas = definitions(kinds)
    add_merge_rules(kinds, schemas)
    return {
        "openapi": "3.0.0",
        "info": _INFO,
        "paths": {
            path: item for kind in kinds for path, item in _paths(kind, _v3_operation).items()
        },
        "components": {"schemas": schemas},
    }


def make_v2(kinds: Iterable[Kind]) -> dict[str, Any]:
    """The OpenAPI v2 document of some kinds."""
    kinds = tuple(kinds)
    schemas = definitions(kinds, _DEFINITIONS)
    add_merge_rules(kinds, schemas)
    return {
        "swagger": "2.0",
        "info": _INFO,
        "paths": {
            path: item for kind in kinds for path, item in _paths(kind, _v2_operation).items()
        },
        "definitions": schemas,
    }


def add_merge_rules(kinds: Iterable[Kind], schemas: dict[str, dict[str, Any]]) -> None:
    """Say in the schemas how lists and maps merge, so that clients patch as this server does."""
    waiting = [kind.type for kind in kinds]
    seen = set()
    while waiting:
        cls = waiting.pop()
        if cls in seen:
            continue
        seen.add(cls)
        properties = schemas.get(definition_name(cls), {}).get("properties", {})
        for name, shape in struct_fields(cls).items():
            if name in properties:
                properties[name].update(_merge_rule(shape))
            inner = item_type(shape.hint) or shape.hint
            if is_struct(inner):
                waiting.append(inner)


def _merge_rule(shape: Shape) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    strategy = ["merge"] if shape.patch_key or shape.is_set else []
    if shape.retain_keys:
        strategy.append("retainKeys")
    if strategy:
        rule["x-kubernetes-patch-strategy"] = ",".join(strategy)
    if shape.patch_key:
        rule["x-kubernetes-patch-merge-key"] = shape.patch_key
    if shape.keys:
        rule["x-kubernetes-list-type"] = "map"
        rule["x-kubernetes-list-map-keys"] = list(shape.keys)
    elif shape.is_set:
        rule["x-kubernetes-list-type"] = "set"
    return rule


def _paths(kind: Kind, make_operation: Any) -> dict[str, Any]:
    namespace = "{namespace}" if kind.namespaced else None
    collection, one = kind.path(namespace), kind.path(namespace, "{name}")
    found = {
        collection: _item(kind, "collection", make_operation),
        one: _item(kind, "object", make_operation),
    }
    if kind.status:
        found[f"{one}/status"] = _item(kind, "part", make_operation)
    if kind.namespaced:
        listing = [entry for entry in _METHODS["collection"] if entry[0] == "get"]
        found[kind.path()] = {
            method: make_operation(kind, action, parameters)
            for method, action, parameters in listing
        }
    return found


def _item(kind: Kind, what: str, make_operation: Any) -> dict[str, Any]:
    return {
        method: make_operation(kind, action, parameters)
        for method, action, parameters in _METHODS[what]
    }


def _operation(kind: Kind, action: str) -> dict[str, Any]:
    return {
        "operationId": f"{action}{kind.version.capitalize()}{kind.kind}",
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {
            "group": kind.group, "version": kind.version, "kind": kind.kind,
        },
    }  # fmt: skip


def _v3_operation(kind: Kind, action: str, parameters: tuple[str, ...]) -> dict[str, Any]:
    reference = {"$ref": COMPONENTS + definition_name(kind.type)}
    answer = {"description": "OK", "content": {"application/json": {"schema": reference}}}
    return {
        **_operation(kind, action),
        "parameters": [
            {"name": name, "in": "query", "schema": {"type": "string"}} for name in parameters
        ],
        "responses": {"200": answer},
    }


def _v2_operation(kind: Kind, action: str, parameters: tuple[str, ...]) -> dict[str, Any]:
    reference = {"$ref": _DEFINITIONS + definition_name(kind.type)}
    return {
        **_operation(kind, action),
        "parameters": [{"name": name, "in": "query", "type": "string"} for name in parameters],
        "responses": {"200": {"description": "OK", "schema": reference}},
    }
