"""Large answers, encoded in pieces of a fraction of a millisecond each.

A JSON encoder holds Python's lock until it is done; between pieces others are served. What the
pieces say together is what one call of the encoder would have said.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, cast

import numpy as np
import orjson

from kedge.protocol import v1
from kedge.protocol.datatypes import Array, array_to_blob, array_to_json
from kedge.protocol.inference import InferRequest, InferResponse, Tensor
from kedge.protocol.open_inference import rest

ELEMENTS = 16 * 1024
"""Numbers that are encoded at once."""
_TEXT_BYTES = 64 * 1024
_DEEPEST = 8
_JOINED_BYTES = 256 * 1024


def is_large(outcome: Any) -> bool:
    """Whether encoding an answer would make others wait; an estimate that takes no time."""
    if isinstance(outcome, InferResponse):
        return any(_weight(tensor.array) > ELEMENTS for tensor in outcome.outputs)
    return _weight(outcome) > ELEMENTS


def _weight(value: Any, depth: int = 0) -> int:
    """About how many numbers there are; the first of a list stands for the others."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "O" and value.size:
            return value.size * _weight(value.flat[0], depth + 1)
        return value.size
    if isinstance(value, str):
        return 1 + len(value) // 8
    if not value or depth > _DEEPEST:
        return 1
    if isinstance(value, (list, tuple)):
        return len(value) * _weight(value[0], depth + 1)
    if isinstance(value, dict):
        if len(value) > ELEMENTS:
            return len(value)
        return sum(_weight(one, depth + 1) for one in value.values())
    return 1


# -- any JSON ------------------------------------------------------------------------------------


def json_pieces(value: Any) -> Generator[None, None, list[bytes]]:
    """The JSON of an answer in pieces; bytes and text are sent as they are."""
    if isinstance(value, bytes):
        return [value]
    if isinstance(value, str):
        return [value.encode("utf-8")]
    return (yield from _gathered(_pieces(value)))


def _gathered(pieces: Iterator[bytes]) -> Generator[None, None, list[bytes]]:
    """Pieces joined to such as are worth a write."""
    gathered, open_, size = [], [], 0
    for piece in pieces:
        open_.append(piece)
        size += len(piece)
        if size > _JOINED_BYTES:
            gathered.append(b"".join(open_))
            open_, size = [], 0
        if len(piece) > 1024:
            yield
    gathered.append(b"".join(open_))
    return gathered


def _pieces(value: Any, depth: int = 0) -> Iterator[bytes]:
    if depth > _DEEPEST or _weight(value) <= ELEMENTS:
        yield v1.encode_response(value)
    elif isinstance(value, dict):
        opening = b"{"
        for key, one in value.items():
            yield opening + v1.encode_response({key: 0})[1:-2]
            yield from _pieces(one, depth + 1)
            opening = b","
        yield b"}"
    elif isinstance(value, (list, tuple, np.ndarray)) and np.ndim(value) != 0:
        yield from _listed(value, depth)
    else:
        yield v1.encode_response(value)


def _listed(value: Any, depth: int) -> Iterator[bytes]:
    each = max(1, _weight(value) // len(value))
    step = ELEMENTS // each
    opening = b"["
    if step == 0:
        for one in value:
            yield opening
            yield from _pieces(one, depth + 1)
            opening = b","
    else:
        for start in range(0, len(value), step):
            yield opening + v1.encode_response(value[start : start + step])[1:-1]
            opening = b","
    yield b"]"


# -- Open Inference ------------------------------------------------------------------------------


def response_pieces(
    response: InferResponse, request: InferRequest | None
) -> Generator[None, None, tuple[list[bytes], int | None]]:
    """What `rest.encode_response` gives, in pieces."""
    blobs: list[bytes] = []
    pieces = yield from _gathered(_response(response, request, blobs))
    return [*pieces, *blobs], sum(map(len, pieces)) if blobs else None


def _response(
    response: InferResponse, request: InferRequest | None, blobs: list[bytes]
) -> Iterator[bytes]:
    binary = rest.binary_outputs(request) if request is not None else {}
    yield orjson.dumps(rest.response_head(response))[:-1] + b',"outputs":['
    for index, tensor in enumerate(response.outputs):
        one: dict[str, Any] = {
            "name": tensor.name,
            "shape": tensor.shape,
            "datatype": tensor.datatype,
        }
        raw = bool(binary) and binary.get(tensor.name, binary.get(""))
        if raw:
            blobs.append(cast(bytes, array_to_blob(tensor.array, tensor.datatype)))
            one["parameters"] = {**tensor.parameters, "binary_data_size": len(blobs[-1])}
        elif tensor.parameters:
            one["parameters"] = tensor.parameters
        head = orjson.dumps(one, option=orjson.OPT_SERIALIZE_NUMPY)
        yield (b"," if index else b"") + head[:-1]
        if not raw:
            yield from _data(tensor)
        yield b"}"
    yield b"]}"


def _data(tensor: Tensor) -> Iterator[bytes]:
    """`"data"`, in runs of elements."""
    flat = tensor.array.ravel()
    opening = b',"data":['
    for start, stop in _runs(flat):
        run = array_to_json(flat[start:stop], tensor.name)
        yield opening + orjson.dumps(run, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
        opening = b","
    yield b',"data":[]' if opening != b"," else b"]"


def _runs(flat: Array) -> Iterator[tuple[int, int]]:
    if flat.dtype.kind != "O":
        for start in range(0, flat.size, ELEMENTS):
            yield start, min(start + ELEMENTS, flat.size)
        return
    start = size = 0
    for index, element in enumerate(flat):
        size += 16 + len(element) if isinstance(element, (bytes, str)) else 32
        if size > _TEXT_BYTES:
            yield start, index + 1
            start, size = index + 1, 0
    if start < flat.size:
        yield start, flat.size
