"""What a Kubernetes API answers when it refuses, one class per status a caller acts on."""

from __future__ import annotations

from typing import Any, ClassVar

from kedge.lib.errors import KedgeError


class ApiError(KedgeError):
    """A refused API call.

    Attributes:
        code: the HTTP status.
        reason: `metav1.Status.reason`.
        details: `metav1.Status.details`, or None.
        headers: extra response headers (Warning, Retry-After).
    """

    code: ClassVar[int] = 500
    reason = "InternalError"

    def __init__(
        self, message: str, *, details: dict[str, Any] | None = None, reason: str | None = None
    ) -> None:
        super().__init__(message, reason=reason)
        self.details = details

    def to_status(self) -> dict[str, Any]:
        """The `metav1.Status` object that Kubernetes clients expect."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details is not None:
            status["details"] = self.details
        return status


class BadRequest(ApiError):
    code = 400
    reason = "BadRequest"


class Unauthorized(ApiError):
    code = 401
    reason = "Unauthorized"


class Forbidden(ApiError):
    code = 403
    reason = "Forbidden"


class NotFound(ApiError):
    code = 404
    reason = "NotFound"


class MethodNotAllowed(ApiError):
    code = 405
    reason = "MethodNotAllowed"


class NotAcceptable(ApiError):
    code = 406
    reason = "NotAcceptable"


class AlreadyExists(ApiError):
    code = 409
    reason = "AlreadyExists"


class Conflict(ApiError):
    code = 409
    reason = "Conflict"


class Gone(ApiError):
    """The asked resourceVersion is too old: list again."""

    code = 410
    reason = "Expired"


class UnsupportedMediaType(ApiError):
    code = 415
    reason = "UnsupportedMediaType"


class Invalid(ApiError):
    code = 422
    reason = "Invalid"


class TooManyRequests(ApiError):
    code = 429
    reason = "TooManyRequests"


class Unavailable(ApiError):
    """The API server cannot be reached or is starting; worth a retry."""

    code = 503
    reason = "ServiceUnavailable"
