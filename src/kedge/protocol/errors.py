"""What an inference client can be told, and the code each transport tells it with.

::

    ServingError
    ├── InvalidInput          the request is wrong; the message names the field
    │   └── PayloadTooLarge   it is larger than this server takes
    ├── ModelNotFound         no such model here, or no such version of it
    ├── ModelNotReady         the model is known and cannot answer now
    ├── ServerNotReady        no model can answer now
    ├── Overloaded            more is waiting than the server will hold
    ├── DeadlineExceeded      the time the client gave is over
    ├── Unsupported           the protocol or the model does not offer this
    ├── BadGateway            the predictor behind a transformer cannot be reached
    ├── DecodingFailed        the request could not be read, for a reason that may be the server's
    ├── Relayed               what the predictor behind a transformer answered, in its own words
    └── InferenceError        the model failed; the message names it and leaks nothing else

`rest_status` and `grpc_code` are the only two places where an error becomes a number.
"""

from __future__ import annotations

from enum import IntEnum

from kedge.lib.errors import KedgeError


class ServingError(KedgeError):
    """The root of what an inference client is told."""

    reason = "ServingError"


class InvalidInput(ServingError):
    """The request is wrong; the message names the field and what would be right."""

    reason = "InvalidInput"


class PayloadTooLarge(InvalidInput):
    """The request is larger than this server takes."""

    reason = "PayloadTooLarge"


class ModelNotFound(ServingError):
    """No model of that name, or no such version of it."""

    reason = "ModelNotFound"

    def __init__(self, name: str, version: str = "") -> None:
        if version:
            super().__init__(f"Model with name {name} has no version {version}.")
        else:
            super().__init__(f"Model with name {name} does not exist.")


class ModelNotReady(ServingError):
    """The model is known and cannot answer now."""

    reason = "ModelNotReady"

    def __init__(self, name: str, detail: str = "") -> None:
        super().__init__(f"Model with name {name} is not ready.{f' {detail}' if detail else ''}")


class ServerNotReady(ServingError):
    """No model can answer now."""

    reason = "ServerNotReady"


class Overloaded(ServingError):
    """More is waiting than the server will hold."""

    reason = "Overloaded"


class DeadlineExceeded(ServingError):
    """The time the client gave is over."""

    reason = "DeadlineExceeded"


class Unsupported(ServingError):
    """The protocol or the model does not offer this."""

    reason = "Unsupported"


class InferenceError(ServingError):
    """The model failed. What it raised is in the log, not in the answer."""

    reason = "InferenceError"


class BadGateway(ServingError):
    """The predictor behind a transformer cannot be reached, or makes no sense."""

    reason = "BadGateway"


class DecodingFailed(ServingError):
    """The request could not be read, for a reason that may be the server's."""

    reason = "DecodingFailed"


class Relayed(ServingError):
    """What a predictor answered, passed on as it was said.

    Attributes:
        status: the HTTP status the client is told.
        code: the gRPC status code it is told.
    """

    reason = "Relayed"

    def __init__(self, message: str, *, status: int, code: GrpcCode) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class GrpcCode(IntEnum):
    """The status codes of gRPC, by number, so that no gRPC library is needed to name them."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


_REST: dict[type[ServingError], int] = {
    InvalidInput: 400,
    PayloadTooLarge: 413,
    ModelNotFound: 404,
    ModelNotReady: 503,
    ServerNotReady: 503,
    Overloaded: 503,
    DeadlineExceeded: 504,
    Unsupported: 501,
    InferenceError: 500,
    BadGateway: 502,
    DecodingFailed: 500,
    ServingError: 500,
}

_GRPC: dict[type[ServingError], GrpcCode] = {
    InvalidInput: GrpcCode.INVALID_ARGUMENT,
    PayloadTooLarge: GrpcCode.RESOURCE_EXHAUSTED,
    ModelNotFound: GrpcCode.NOT_FOUND,
    ModelNotReady: GrpcCode.UNAVAILABLE,
    ServerNotReady: GrpcCode.UNAVAILABLE,
    Overloaded: GrpcCode.UNAVAILABLE,
    DeadlineExceeded: GrpcCode.DEADLINE_EXCEEDED,
    Unsupported: GrpcCode.UNIMPLEMENTED,
    InferenceError: GrpcCode.INTERNAL,
    BadGateway: GrpcCode.UNAVAILABLE,
    DecodingFailed: GrpcCode.INTERNAL,
    ServingError: GrpcCode.INTERNAL,
}


def rest_status(error: ServingError) -> int:
    """The HTTP status that tells of `error`."""
    if isinstance(error, Relayed):
        return error.status
    return next(_REST[kind] for kind in type(error).__mro__ if kind in _REST)


def grpc_code(error: ServingError) -> GrpcCode:
    """The gRPC status code that tells of `error`."""
    if isinstance(error, Relayed):
        return error.code
    return next(_GRPC[kind] for kind in type(error).__mro__ if kind in _GRPC)
