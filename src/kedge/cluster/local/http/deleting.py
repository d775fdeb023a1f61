"""Deleting: one object, or all that a selector finds."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from kedge.api.scheme import PERSISTENT_VOLUME_CLAIM, POD, SERVICE, SERVICE_ACCOUNT
from kedge.cluster.errors import Conflict, NotFound
from kedge.cluster.local.http.answers import answer, success
from kedge.cluster.local.http.bodies import decode, delete_options, read_body
from kedge.cluster.local.http.negotiation import Form
from kedge.cluster.local.http.reading import legacy_form
from kedge.cluster.local.http.target import Target
from kedge.cluster.local.registry import Registry
from kedge.cluster.local.requests import DeleteOptions
from kedge.cluster.local.selection import Selection

# Where Kubernetes answers with the deleted object rather than with a Status.
_ANSWERED_WITH_OBJECT = frozenset({PERSISTENT_VOLUME_CLAIM, POD, SERVICE, SERVICE_ACCOUNT})


class Deleter:
    """Answers DELETE."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def delete(self, target: Target, form: Form, request: Request) -> Response:
        options = await _options(request)
        kind = target.kind
        deleted = self._registry.delete(kind, target.namespace or "", target.name or "", options)
        if not deleted.gone or kind in _ANSWERED_WITH_OBJECT:
            return answer(legacy_form(target, deleted.object), form=form)
        details = {
            "name": target.name,
            "kind": kind.plural,
            "uid": deleted.object["metadata"]["uid"],
        }
        if kind.group:
            details["group"] = kind.group
        return answer(success(details), form=form)

    async def delete_all(self, target: Target, form: Form, request: Request) -> Response:
        options = await _options(request)
        query = request.query_params
        selection = Selection.parse(
            target.kind, target.namespace, query.get("labelSelector"), query.get("fieldSelector")
        )
        snapshot = self._registry.store.snapshot(target.kind, selection.namespace)
        found = [record for record in snapshot.records() if selection.has(record)]
        gone = []
        for record in found:
            try:
                deleted = self._registry.delete(target.kind, record.namespace, record.name, options)
            except (NotFound, Conflict):
                continue  # Somebody was faster.
            gone.append(legacy_form(target, deleted.object))
            await asyncio.sleep(0)
        listed = {
            "kind": f"{target.kind.kind}List",
            "apiVersion": target.api_version,
            "metadata": {"resourceVersion": str(self._registry.store.version)},
            "items": gone,
        }
        return answer(listed, form=form)


async def _options(request: Request) -> DeleteOptions:
    body = await read_body(request)
    given = decode(body, request.headers.get("content-type", "")) if body.strip() else None
    return delete_options(request, given)
