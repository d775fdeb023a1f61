"""Answers: objects, refusals, warnings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import yaml
from starlette.responses import Response

from kedge.cluster.base import Object
from kedge.cluster.errors import ApiError
from kedge.cluster.local.http.negotiation import JSON, Form

_encode = msgspec.json.Encoder().encode
JSON_TYPE = "application/json"


def answer(
    obj: Any,
    *,
    code: int = 200,
    warnings: Iterable[str] = (),
    form: Form = JSON,
    media_type: str = JSON_TYPE,
) -> Response:
    """An object as JSON, or as YAML when asked."""
    if form.yaml:
        text = yaml.safe_dump(obj, sort_keys=False, allow_unicode=True)
        response = Response(text, code, media_type="application/yaml")
    else:
        response = Response(_encode(obj), code, media_type=media_type)
    add_warnings(response, warnings)
    return response


def refusal(error: ApiError) -> Response:
    """A `metav1.Status`, with what the error wants in the headers."""
    status = error.to_status()
    headers = {}
    details = status.get("details") or {}
    if "retryAfterSeconds" in details:
        headers["retry-after"] = str(details["retryAfterSeconds"])
    if error.code == 401:
        headers["www-authenticate"] = 'Bearer realm="kedge"'
    return Response(_encode(status), error.code, headers, media_type=JSON_TYPE)


def success(details: dict[str, Any]) -> Object:
    """The `metav1.Status` of what went well and left no object."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    }


def add_warnings(response: Response, warnings: Iterable[str]) -> None:
    """One `Warning` header each: kubectl prints them."""
    for text in warnings:
        quoted = " ".join(text.split()).replace("\\", "\\\\").replace('"', '\\"')
        response.raw_headers.append((b"warning", f'299 - "{quoted}"'.encode()))
