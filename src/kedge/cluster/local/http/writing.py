"""Writing: create, replace, patch and the sub-resources that are written like objects."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from kedge.cluster.base import PatchType
from kedge.cluster.errors import BadRequest, MethodNotAllowed
from kedge.cluster.local.http.answers import answer
from kedge.cluster.local.http.bodies import decode, flag, patch_type, read_body, write_options
from kedge.cluster.local.http.negotiation import Form
from kedge.cluster.local.http.reading import Reader
from kedge.cluster.local.http.target import Target
from kedge.cluster.local.registry import Registry
from kedge.cluster.local.requests import Written
from kedge.cluster.local.scaling import read_scale

_SUBRESOURCES = ("", "status", "scale", "finalize")


class Writer:
    """Answers POST, PUT and PATCH of objects."""

    def __init__(self, registry: Registry, reader: Reader) -> None:
        self._registry = registry
        self._reader = reader

    async def create(self, target: Target, form: Form, request: Request) -> Response:
        body = await _object(request)
        namespace = target.namespace
        if target.kind.namespaced and namespace is None:
            raise BadRequest("an empty namespace may not be set during creation")
        written = self._registry.create(target.kind, namespace or "", body, write_options(request))
        return self._answer(target, form, written)

    async def replace(self, target: Target, form: Form, request: Request) -> Response:
        body = await _object(request)
        options = write_options(request)
        namespace, name = target.namespace or "", target.name or ""
        if target.subresource == "scale":
            written = self._registry.scale(target.kind, namespace, name, body, options)
        else:
            written = self._registry.replace(
                target.kind, namespace, name, body, options,
                subresource=_subresource(target),
            )  # fmt: skip
        return self._answer(target, form, written)

    async def patch(self, target: Target, form: Form, request: Request) -> Response:
        content_type = request.headers.get("content-type", "")
        kind_of_patch = patch_type(content_type)
        body = decode(await read_body(request), content_type)
        if kind_of_patch is PatchType.APPLY and not request.query_params.get("fieldManager"):
            raise BadRequest("fieldManager is required for apply patch. Fix: Name one.")
        written = self._registry.patch(
            target.kind, target.namespace or "", target.name or "", body, kind_of_patch,
            write_options(request), subresource=_subresource(target),
            force=flag(request.query_params, "force"),
        )  # fmt: skip
        return self._answer(target, form, written)

    def _answer(self, target: Target, form: Form, written: Written) -> Response:
        obj = written.object
        if target.subresource == "scale":
            obj = read_scale(target.kind, obj)
        else:
            obj = self._reader.shaped(target, obj, form)
        code = 201 if written.created else 200
        return answer(obj, code=code, warnings=written.warnings, form=form)


async def _object(request: Request) -> Any:
    body = await read_body(request)
    found = decode(body, request.headers.get("content-type", ""))
    if not isinstance(found, dict):
        raise BadRequest("the body is no object")
    return found


def _subresource(target: Target) -> str:
    known = target.subresource in _SUBRESOURCES
    if target.subresource == "scale" and not target.kind.scale:
        known = False
    if target.subresource == "status" and not target.kind.status:
        known = False
    if not known:
        raise MethodNotAllowed(f"{target.kind} has no sub-resource {target.subresource} to write")
    return target.subresource
