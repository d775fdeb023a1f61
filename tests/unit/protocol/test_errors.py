"""Every error has a number on each transport."""

from __future__ import annotations

import pytest

from kedge.protocol import errors
from kedge.protocol.errors import GrpcCode, ServingError


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.InvalidInput("x"), 400, GrpcCode.INVALID_ARGUMENT),
        (errors.PayloadTooLarge("x"), 413, GrpcCode.RESOURCE_EXHAUSTED),
        (errors.ModelNotFound("m"), 404, GrpcCode.NOT_FOUND),
        (errors.ModelNotReady("m"), 503, GrpcCode.UNAVAILABLE),
        (errors.ServerNotReady("x"), 503, GrpcCode.UNAVAILABLE),
        (errors.Overloaded("x"), 503, GrpcCode.UNAVAILABLE),
        (errors.DeadlineExceeded("x"), 504, GrpcCode.DEADLINE_EXCEEDED),
        (errors.Unsupported("x"), 501, GrpcCode.UNIMPLEMENTED),
        (errors.InferenceError("x"), 500, GrpcCode.INTERNAL),
    ],
)
def test_codes(error: ServingError, status: int, code: GrpcCode) -> None:
    assert errors.rest_status(error) == status
    assert errors.grpc_code(error) is code


def test_a_new_kind_takes_its_parents_codes() -> None:
    class Picky(errors.InvalidInput):
        pass

    assert errors.rest_status(Picky("x")) == 400
    assert errors.grpc_code(Picky("x")) is GrpcCode.INVALID_ARGUMENT


def test_kserves_words() -> None:
    assert str(errors.ModelNotFound("m")) == "Model with name m does not exist."
    assert str(errors.ModelNotFound("m", "3")) == "Model with name m has no version 3."
    assert str(errors.ModelNotReady("m")) == "Model with name m is not ready."
