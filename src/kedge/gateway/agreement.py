"""Whether two answers to one request say the same. Pure.

What names the model (`model_name`, `model_version`, `id`) may differ, and numbers by rounding. JSON
is compared by value; of gRPC's and of binary answers, tensors are compared by their bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

NAMES = ("id", "model_name", "model_version")
_NAME_FIELDS = (1, 2, 3)
"""Numbers of the same fields in `ModelInferResponse`."""
TOLERANCE = 1e-6
"""Relative: single precision that two machines add up in another order."""
JSON_LENGTH = "inference-header-content-length"


@dataclass(slots=True)
class Answer:
    """What was answered.

    Attributes:
        status: the HTTP status, or gRPC's where there is one, as text.
        seconds: from the request's headers to the end of the answer.
        headers: of the response, those that matter here.
        cut: the body was too large to keep.
    """

    status: str = ""
    seconds: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    cut: bool = False


def compare(service: Answer, candidate: Answer) -> str:
    """`agree`, `differ`, `status` where one failed and the other did not, or `unknown`."""
    if service.status != candidate.status:
        return "status"
    if service.cut or candidate.cut:
        return "unknown"
    if service.body == candidate.body:
        return "agree"
    kind = service.headers.get("content-type", "")
    if kind.startswith("application/grpc"):
        same = _read_grpc(service.body) == _read_grpc(candidate.body)
    else:
        same = _is_same_http(service, candidate)
    return "agree" if same else "differ"


def _is_same_http(service: Answer, candidate: Answer) -> bool:
    one, other = _split(service), _split(candidate)
    try:
        parsed = orjson.loads(one[0]), orjson.loads(other[0])
    except orjson.JSONDecodeError:
        return False
    return one[1] == other[1] and _is_close(*map(_without_names, parsed))


def _split(answer: Answer) -> tuple[bytes, bytes]:
    """The JSON part and the binary part."""
    length = answer.headers.get(JSON_LENGTH, "")
    end = int(length) if length.isdecimal() else len(answer.body)
    return bytes(answer.body[:end]), bytes(answer.body[end:])


def _without_names(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: item for key, item in value.items() if key not in NAMES}


def _is_close(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_close(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_close, one, other))
    if _is_number(one) and _is_number(other):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=1e-9)
    return bool(one == other and type(one) is type(other))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_grpc(body: bytes | bytearray) -> list[list[bytes]] | bytes:
    """The messages of a gRPC answer, each as its fields without names; as it is if malformed."""
    messages, at = [], 0
    try:
        while at < len(body):
            length = int.from_bytes(body[at + 1 : at + 5], "big")
            if body[at] or at + 5 + length > len(body):
                return bytes(body)
            messages.append(_read_fields(bytes(body[at + 5 : at + 5 + length])))
            at += 5 + length
    except (IndexError, ValueError):
        return bytes(body)
    return messages


def _read_fields(message: bytes) -> list[bytes]:
    """The fields of a message as they are on the wire, without those that name the model."""
    fields, at = [], 0
    while at < len(message):
        begin = at
        tag, at = _read_varint(message, at)
        match tag & 7:
            case 0:
                _, at = _read_varint(message, at)
            case 1:
                at += 8
            case 2:
                length, at = _read_varint(message, at)
                at += length
            case 5:
                at += 4
            case _:
                raise ValueError("a group")
        if at > len(message):
            raise ValueError("cut off")
        if tag >> 3 not in _NAME_FIELDS:
            fields.append(message[begin:at])
    return fields


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
