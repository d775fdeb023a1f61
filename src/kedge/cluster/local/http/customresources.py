"""CustomResourceDefinitions, to read: tools ask whether one is there before they use its kind.

The kinds are built in, so nothing can be changed through them.
"""

from __future__ import annotations

import uuid
from functools import cached_property
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from kedge.api.crds import make_crd
from kedge.api.scheme import KINDS
from kedge.cluster.base import Object
from kedge.cluster.errors import MethodNotAllowed, NotFound
from kedge.cluster.local.http.answers import answer
from kedge.cluster.local.http.bodies import flag
from kedge.cluster.local.http.negotiation import Form, choose_form
from kedge.cluster.local.registry import CUSTOM_GROUPS
from kedge.lib.clock import Clock, format_time

_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_COLUMNS = [
    {"name": "Name", "type": "string", "format": "name", "description": "Name", "priority": 0},
    {"name": "Created At", "type": "string", "format": "", "description": "", "priority": 0},
]


class CustomResources:
    """Answers requests for CustomResourceDefinitions."""

    def __init__(self, clock: Clock) -> None:
        self._created = format_time(clock.now())

    @cached_property
    def _definitions(self) -> dict[str, Object]:
        made = (self._make(make_crd(kind)) for kind in KINDS if kind.group in CUSTOM_GROUPS)
        return {one["metadata"]["name"]: one for one in made}

    def _make(self, definition: Object) -> Object:
        names = definition["spec"]["names"]
        metadata = {
            **definition["metadata"],
            "uid": str(uuid.uuid5(uuid.NAMESPACE_DNS, definition["metadata"]["name"])),
            "resourceVersion": "1",
            "creationTimestamp": self._created,
        }
        conditions = [
            {
                "type": type,
                "status": "True",
                "reason": reason,
                "message": "built in",
                "lastTransitionTime": self._created,
            }
            for type, reason in (
                ("NamesAccepted", "NoConflicts"),
                ("Established", "InitialNamesAccepted"),
            )
        ]
        versions = [version["name"] for version in definition["spec"]["versions"]]
        return {
            **definition,
            "metadata": metadata,
            "status": {
                "acceptedNames": names,
                "conditions": conditions,
                "storedVersions": versions,
            },
        }

    def answer(self, request: Request) -> Response | None:
        """None when the request is about something else."""
        path = request.url.path.rstrip("/")
        if path != _PATH and not path.startswith(_PATH + "/"):
            return None
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(
                "CustomResourceDefinitions are built into the local cluster and only read."
                " Fix: Leave them out; their kinds are served already."
            )
        form = choose_form(request.headers.get("accept", ""))
        name = path.removeprefix(_PATH).strip("/")
        if name and name not in self._definitions:
            raise NotFound(
                f'customresourcedefinitions.apiextensions.k8s.io "{name}" not found',
                details={
                    "name": name, "group": "apiextensions.k8s.io",
                    "kind": "customresourcedefinitions",
                },
            )  # fmt: skip
        found = [self._definitions[name]] if name else list(self._definitions.values())
        if flag(request.query_params, "watch"):
            return _watch(found)
        if form.name == "Table":
            return answer(_table(found, form))
        if name:
            return answer(found[0], form=form)
        listed = {
            "kind": "CustomResourceDefinitionList",
            "apiVersion": "apiextensions.k8s.io/v1",
            "metadata": {"resourceVersion": "1"},
            "items": found,
        }
        return answer(listed, form=form)


def _table(found: list[Object], form: Form) -> Object:
    rows: list[dict[str, Any]] = [
        {
            "cells": [one["metadata"]["name"], one["metadata"]["creationTimestamp"]],
            "object": {
                "kind": "PartialObjectMetadata",
                "apiVersion": form.api_version,
                "metadata": one["metadata"],
            },
        }
        for one in found
    ]
    return {
        "kind": "Table",
        "apiVersion": form.api_version,
        "metadata": {"resourceVersion": "1"},
        "columnDefinitions": _COLUMNS,
        "rows": rows,
    }


def _watch(found: list[Object]) -> Response:
    """All there are; then the watch ends, as there is nothing to wait for."""
    lines = (msgspec.json.encode({"type": "ADDED", "object": one}) + b"\n" for one in found)
    return StreamingResponse(lines, media_type="application/json;stream=watch")
