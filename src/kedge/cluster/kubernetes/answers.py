"""What an API server answers, turned into the errors that callers act on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from kedge.cluster import errors
from kedge.cluster.errors import ApiError

_BY_REASON: dict[str, type[ApiError]] = {
    "AlreadyExists": errors.AlreadyExists,
    "Conflict": errors.Conflict,
    "Expired": errors.Gone,
    "Gone": errors.Gone,
    "ServerTimeout": errors.Unavailable,
    "Timeout": errors.Unavailable,
}
_BY_CODE: dict[int, type[ApiError]] = {
    400: errors.BadRequest,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    406: errors.NotAcceptable,
    409: errors.Conflict,
    410: errors.Gone,
    415: errors.UnsupportedMediaType,
    422: errors.Invalid,
    429: errors.TooManyRequests,
    502: errors.Unavailable,
    503: errors.Unavailable,
    504: errors.Unavailable,
}


def error_of(code: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """The error that an answer of 400 or above means."""
    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        status = None
    if not isinstance(status, dict) or status.get("kind") != "Status":
        # Something between us and the API server, such as a proxy, answered.
        status = {"message": body[:500].decode(errors="replace").strip() or f"HTTP {code}"}
    error = error_of_status({**status, "code": code})
    if error.details is None or "retryAfterSeconds" not in error.details:
        seconds = headers.get("Retry-After", "")
        if seconds.isdigit():
            error.details = {**(error.details or {}), "retryAfterSeconds": int(seconds)}
    return error


def error_of_status(status: Mapping[str, Any]) -> ApiError:
    """The error that a `metav1.Status` means."""
    reason = status.get("reason") or None
    make = _BY_REASON.get(reason or "") or _BY_CODE.get(status.get("code") or 500, ApiError)
    if make in (errors.Gone, errors.Unavailable):
        reason = None
    message = status.get("message") or reason or make.reason
    return make(message, details=status.get("details"), reason=reason)
