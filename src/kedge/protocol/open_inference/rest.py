"""Open Inference over HTTP: JSON bodies, and JSON followed by binary tensors.

A binary body is the JSON part, whose length a header gives, and then the blobs of the binary
tensors with nothing between them, in the order the tensors stand in.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

import msgspec
import numpy as np
import orjson
from msgspec import UNSET, Struct, UnsetType

from kedge.protocol.datatypes import (
    MAX_DIMENSIONS,
    Array,
    array_from_json,
    array_from_raw,
    array_to_blob,
    array_to_json,
    array_to_raw,
    datatype_of,
    find_datatype,
)
from kedge.protocol.errors import InvalidInput
from kedge.protocol.inference import (
    InferRequest,
    InferResponse,
    Parameters,
    RequestedOutput,
    Tensor,
)

LENGTH_HEADER = "inference-header-content-length"

_NOTHING = memoryview(b"")
_NUMBERS = frozenset("biuf")
_WITH_ARRAYS = orjson.OPT_SERIALIZE_NUMPY


class _Input(Struct, gc=False):
    name: str
    shape: list[int]
    datatype: str
    data: Any = UNSET
    parameters: dict[str, Any] | None = None


class _Output(Struct, gc=False):
    name: str
    parameters: dict[str, Any] | None = None


class _Request(Struct, gc=False):
    inputs: list[_Input]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


_decoder = msgspec.json.Decoder(_Request)


def decode_request(
    body: bytes | memoryview,
    model_name: str,
    model_version: str = "",
    json_length: int | None = None,
    request_id: str = "",
) -> InferRequest:
    """The request in a body.

    Args:
        json_length: the length header's value, where it came.
        request_id: what the request is called if it does not say; else it is given a name here.
    """
    blobs = _NOTHING
    if json_length is not None:
        if not 0 <= json_length <= len(body):
            raise InvalidInput(
                f"{LENGTH_HEADER} says {json_length}, but the body has {len(body)} bytes."
            )
        blobs = memoryview(body)[json_length:]
        body = body[:json_length]
    wire = _parse(body)
    if not wire.inputs:
        raise InvalidInput('Expected "inputs" to hold at least one tensor.')
    inputs, position, raw = [], 0, False
    for one in wire.inputs:
        if one.data is not UNSET:
            inputs.append(_decode_json(one))
        else:
            tensor, used = _decode_binary(one, blobs[position:], model_name)
            inputs.append(tensor)
            position += used
            raw = raw or used > 0
    if position != len(blobs):
        raise InvalidInput(
            f"The body has {len(blobs)} bytes of binary data, but its inputs account for "
            f'{position} ("binary_data_size").'
        )
    return InferRequest(
        model_name,
        inputs,
        wire.id or request_id or str(uuid.uuid4()),
        model_version,
        _parameters(wire.parameters, "The request") if wire.parameters else {},
        _requested(wire.outputs) if wire.outputs else None,
        raw,
    )


def _parse(body: bytes | memoryview) -> _Request:
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"Invalid inference request: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(
            f"Unrecognized request format: {error or 'nested too deeply'}"
        ) from error


def _shape(one: _Input) -> tuple[int, ...]:
    shape = tuple(one.shape)
    if shape and (min(shape) < 0 or len(shape) > MAX_DIMENSIONS):
        raise InvalidInput(
            f"Input '{one.name}' has shape {one.shape[:40]}; it must have at most "
            f"{MAX_DIMENSIONS} dimensions, none negative."
        )
    return shape


def _decode_json(one: _Input) -> Tensor:
    shape = _shape(one)
    datatype = find_datatype(one.datatype, one.name)
    parameters = _parameters(one.parameters, f"Input '{one.name}'") if one.parameters else {}
    data = one.data
    if not shape and isinstance(data, list) and len(data) != 1:
        shape = (len(data),)
    array = array_from_json(data, datatype, shape, one.name)
    return Tensor(one.name, datatype.name, shape, array, parameters)


def _decode_binary(one: _Input, blobs: memoryview, model_name: str) -> tuple[Tensor, int]:
    """The tensor, and how many bytes of the blobs it took."""
    shape = _shape(one)
    datatype = find_datatype(one.datatype, one.name)
    parameters = _parameters(one.parameters, f"Input '{one.name}'") if one.parameters else {}
    size = parameters.get("binary_data_size")
    if size is None:
        raise InvalidInput(
            f"'data' field is missing for input '{one.name}' for model '{model_name}'"
        )
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(blobs):
        raise InvalidInput(
            f"Input '{one.name}' has binary_data_size {size!r}, but {len(blobs)} bytes of binary "
            "data are left in the body."
        )
    array = array_from_raw(blobs[:size], datatype, shape, one.name)
    return Tensor(one.name, datatype.name, shape, array, parameters), size


def _parameters(wire: dict[str, Any] | None, owner: str) -> Parameters:
    if not wire:
        return {}
    for key, value in wire.items():
        if not isinstance(value, (str, int, float)):
            raise InvalidInput(
                f"{owner} has parameter '{key}', which must be a string, a number, true or false."
            )
    return wire


def _requested(wire: list[_Output] | None) -> list[RequestedOutput] | None:
    if not wire:
        return None
    return [
        RequestedOutput(one.name, _parameters(one.parameters, f"Output '{one.name}'"))
        for one in wire
    ]


def encode_response(
    response: InferResponse, request: InferRequest | None = None
) -> tuple[list[bytes], int | None]:
    """The body in pieces, and the length of its JSON part when binary tensors follow it."""
    binary = binary_outputs(request) if request is not None else {}
    blobs: list[bytes] = []
    outputs = []
    for tensor in response.outputs:
        one: dict[str, Any] = {
            "name": tensor.name,
            "shape": tensor.shape,
            "datatype": tensor.datatype,
        }
        parameters = tensor.parameters
        if binary and binary.get(tensor.name, binary.get("")):
            blob = array_to_blob(tensor.array, tensor.datatype)
            blobs.append(cast(bytes, blob))
            one["parameters"] = {**parameters, "binary_data_size": len(blob)}
        else:
            if parameters:
                one["parameters"] = parameters
            one["data"] = array_to_json(tensor.array, tensor.name)
        outputs.append(one)
    body = response_head(response)
    body["outputs"] = outputs
    head = orjson.dumps(body, option=_WITH_ARRAYS)
    return ([head, *blobs], len(head)) if blobs else ([head], None)


def response_head(response: InferResponse) -> dict[str, Any]:
    """What a response says before its outputs."""
    body: dict[str, Any] = {"model_name": response.model_name}
    if response.model_version:
        body["model_version"] = response.model_version
    body["id"] = response.id
    if response.parameters:
        body["parameters"] = response.parameters
    return body


def encode_results(
    name: str,
    version: str,
    request: InferRequest,
    results: Mapping[str, Array],
    *,
    most: int = 1 << 62,
) -> bytes | None:
    """What `encode_response` writes of a model's arrays, without tensors in between.

    None where it takes more: binary outputs, arrays that hold no numbers, or more than `most`.
    """
    if request.outputs is not None or request.parameters:
        return None
    pieces = []
    for output, array in results.items():
        dtype = array.dtype
        if dtype.kind not in _NUMBERS or not dtype.isnative or not array.ndim:
            return None
        if array.size > most:
            return None
        opening, ending = _around_rows(output, dtype, array.shape[1:])
        pieces.append(
            b"%b%d%b%b}"
            % (opening, len(array), ending, orjson.dumps(array.ravel(), option=_WITH_ARRAYS))
        )
    return b'%b"id":%b,"outputs":[%b]}' % (
        _before_id(name, version),
        orjson.dumps(request.id),
        b",".join(pieces),
    )


@lru_cache(maxsize=256)
def _before_id(model_name: str, version: str) -> bytes:
    body = {"model_name": model_name} | ({"model_version": version} if version else {})
    return orjson.dumps(body)[:-1] + b","


@lru_cache(maxsize=1024)
def _around_rows(name: str, dtype: Any, trailing: tuple[int, ...]) -> tuple[bytes, bytes]:
    """A tensor's JSON before its number of rows, and from there to its data."""
    extents = b"".join(b",%d" % extent for extent in trailing)
    datatype = datatype_of(np.empty(0, dtype)).encode()
    opening = b'{"name":%b,"shape":[' % orjson.dumps(name)
    return opening, b'%b],"datatype":"%b","data":' % (extents, datatype)


def binary_outputs(request: InferRequest) -> dict[str, bool]:
    """Which outputs go in binary form: by name, and under "" the default; empty when none does."""
    default = request.parameters.get("binary_data_output") is True
    if not request.outputs:
        return {"": True} if default else {}
    chosen = {one.name: bool(one.parameters.get("binary_data", default)) for one in request.outputs}
    return chosen if any(chosen.values()) else {}


def encode_request(request: InferRequest, *, binary: bool = False) -> tuple[bytes, int | None]:
    """The body of a request, and the length of its JSON part when binary tensors follow it."""
    blobs: list[bytes] = []
    inputs = []
    for tensor in request.inputs:
        one: dict[str, Any] = {
            "name": tensor.name,
            "shape": tensor.shape,
            "datatype": tensor.datatype,
        }
        if binary:
            blobs.append(array_to_raw(tensor.array, tensor.datatype))
            one["parameters"] = {**tensor.parameters, "binary_data_size": len(blobs[-1])}
        else:
            if tensor.parameters:
                one["parameters"] = tensor.parameters
            one["data"] = array_to_json(tensor.array, tensor.name)
        inputs.append(one)
    body: dict[str, Any] = {"inputs": inputs}
    if request.id:
        body["id"] = request.id
    if request.parameters:
        body["parameters"] = request.parameters
    if request.outputs is not None:
        body["outputs"] = [
            {"name": one.name, "parameters": one.parameters} for one in request.outputs
        ]
    head = orjson.dumps(body, option=_WITH_ARRAYS)
    return head + b"".join(blobs), len(head) if binary else None


class _ResponseOutput(Struct):
    name: str
    shape: list[int]
    datatype: str
    data: Any = UNSET
    parameters: dict[str, Any] | None = None


class _Response(Struct):
    model_name: str
    outputs: list[_ResponseOutput]
    id: str | None = None
    model_version: str | None = None
    parameters: dict[str, Any] | None = None


_response_decoder = msgspec.json.Decoder(_Response)


def decode_response(body: bytes, json_length: int | None = None) -> InferResponse:
    """The response in a body, as a client reads it."""
    split = len(body) if json_length is None else json_length
    wire = _response_decoder.decode(body[:split])
    blobs = memoryview(body)[split:]
    outputs, position = [], 0
    for one in wire.outputs:
        shape = tuple(one.shape)
        datatype = find_datatype(one.datatype, one.name)
        if isinstance(one.data, UnsetType):
            size = int((one.parameters or {})["binary_data_size"])
            array = array_from_raw(blobs[position : position + size], datatype, shape, one.name)
            position += size
        else:
            array = array_from_json(one.data, datatype, shape, one.name)
        outputs.append(Tensor(one.name, datatype.name, shape, array, one.parameters or {}))
    return InferResponse(
        wire.model_name, outputs, wire.id or "", wire.model_version or "", wire.parameters or {}
    )


__all__ = [
    "LENGTH_HEADER",
    "binary_outputs",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
    "encode_results",
    "response_head",
]
