"""What can go wrong between a person and Kedge, besides what the API or a model answers.

::

    KedgeError
    ├── NotRunning         no Kedge to talk to
    │   ├── Unreachable    there is an address, and nothing answers at it
    │   └── NotServed      an API answers, and leads to no such part of Kedge
    ├── ConfigProblem      the kubeconfig cannot be used
    ├── ManifestError      a file that was to be applied cannot be read
    ├── ModelError         `kedge run` cannot tell what a model is
    ├── ServiceFailed      the service cannot become Ready as it is written
    ├── TimedOut           it may become so yet, but not within the time given
    └── InferenceError     the gateway or the model refused a request
"""

from __future__ import annotations

import re
from typing import Any

from kedge.cluster import errors as api_errors
from kedge.cluster.errors import ApiError
from kedge.lib.errors import KedgeError


class NotRunning(KedgeError):
    """There is no Kedge to talk to."""

    reason = "NotRunning"


class Unreachable(NotRunning):
    """The API's address is known, and nothing answers there."""

    reason = "Unreachable"


class NotServed(NotRunning):
    """The API does not lead to the part of Kedge that knows."""

    reason = "NotServed"


class ConfigProblem(KedgeError):
    """The kubeconfig is missing, malformed, or asks for something Kedge's client cannot do."""

    reason = "InvalidKubeconfig"


class ManifestError(KedgeError):
    """A manifest cannot be read."""

    reason = "InvalidManifest"


class ModelError(KedgeError):
    """What is to be served is not a model that Kedge recognises."""

    reason = "UnknownModel"


class ServiceFailed(KedgeError):
    """The service will not become Ready until something is mended."""

    reason = "ServiceFailed"


class TimedOut(KedgeError):
    """The time given ran out."""

    reason = "TimedOut"


class InferenceError(KedgeError):
    """A request was refused, by the gateway or by the model.

    Attributes:
        code: the HTTP status, or the gRPC status' name.
        body: the decoded answer, where there is one.
    """

    reason = "InferenceFailed"

    def __init__(self, message: str, *, code: int | str, body: Any = None, fix: str = "") -> None:
        super().__init__(message, fix=fix)
        self.code = code
        self.body = body


_BY_REASON = {
    cls.reason: cls
    for cls in vars(api_errors).values()
    if isinstance(cls, type) and issubclass(cls, ApiError)
}
_BY_CODE = {cls.code: cls for cls in reversed(list(_BY_REASON.values()))}


def api_error(code: int, status: Any) -> ApiError:
    """The error that an API's answer stands for; `status` is a `metav1.Status`, text or None."""
    if not isinstance(status, dict):
        text = str(status or "").strip()
        return _BY_CODE.get(code, ApiError)(text or f"The API answered HTTP status {code}.")
    reason = str(status.get("reason") or "")
    cls = _BY_REASON.get(reason) or _BY_CODE.get(code, ApiError)
    details = status.get("details")
    message = str(status.get("message") or f"The API answered HTTP status {code}.")
    return cls(
        message, details=details if isinstance(details, dict) else None, reason=reason or None
    )


def causes_of(error: ApiError) -> list[tuple[str, str]]:
    """(field, message) of every cause that the error's message does not already tell."""
    causes = (error.details or {}).get("causes") or []
    found = [(str(c.get("field") or ""), str(c.get("message") or "")) for c in causes]
    return [(field, text) for field, text in found if text and text not in error.message]


_WARNING = re.compile(r'\d{3} \S+ "((?:[^"\\]|\\.)*)"')


def warnings_of(header: str) -> list[str]:
    """The texts of a `Warning` header (RFC 7234): `299 - "text"`, possibly several."""
    return [re.sub(r"\\(.)", r"\1", text) for text in _WARNING.findall(header)]
