"""From Kubernetes' protobuf to the JSON object that it stands for."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import msgspec

from kedge.cluster.errors import BadRequest

MAGIC = b"k8s\x00"

_PACKAGES = {
    "v1": "core", "apps/v1": "apps", "autoscaling/v1": "autoscalingv1",
    "autoscaling/v2": "autoscaling", "coordination.k8s.io/v1": "coordination",
    "discovery.k8s.io/v1": "discovery", "authorization.k8s.io/v1": "authorization",
    "authentication.k8s.io/v1": "authentication", "policy/v1": "policy",
}  # fmt: skip
_ZERO: tuple[Any, ...] = (0, "", False, None)
_DEEPEST = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Field(NamedTuple):
    """A field of a message.

    Attributes:
        name: its JSON name; empty when its fields belong to the parent.
        type: as in `messages.json`.
        skip_zero: left out of JSON when it is zero.
    """

    name: str
    type: str
    skip_zero: bool


def decode(body: bytes) -> dict[str, Any]:
    """The object in a request's body.

    Raises:
        BadRequest: the body is malformed, or of a kind whose encoding is not known here.
    """
    if not body.startswith(MAGIC):
        raise BadRequest("the body is no Kubernetes protobuf: it lacks the prefix k8s")
    try:
        envelope = dict(_read(body[len(MAGIC) :]))
        named = dict(_read(_bytes(envelope.get(1, b""))))
        api_version, kind = _text(named.get(1, b"")), _text(named.get(2, b""))
        package = "meta" if kind == "DeleteOptions" else _PACKAGES.get(api_version, "")
        message = f"{package}.{kind}"
        if message not in _messages():
            raise BadRequest(f"{api_version} {kind} is not known in protobuf. Fix: Send JSON.")
        obj = _decode_message(message, _bytes(envelope.get(2, b"")), 0)
    except (IndexError, ValueError, struct.error, OverflowError) as error:
        raise BadRequest(f"the body cannot be read as protobuf: {error}") from error
    return {"apiVersion": api_version, "kind": kind, **obj}


@cache
def _messages() -> dict[str, dict[int, _Field]]:
    text = files(__package__).joinpath("messages.json").read_bytes()
    raw = msgspec.json.decode(text, type=dict[str, list[str]])
    return {name: dict(map(_parse_field, fields)) for name, fields in raw.items()}


def _parse_field(line: str) -> tuple[int, _Field]:
    number, name, type = line.split(" ")
    inlined = name == "-"
    return int(number), _Field("" if inlined else name.removesuffix("?"), type, name.endswith("?"))


def _read(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: numbers for the numeric wire types, bytes for the others."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        value: int | bytes
        if wire == 0:
            value, at = _varint(data, at)
        elif wire == 2:
            size, at = _varint(data, at)
            value, at = _slice(data, at, size)
        elif wire in (1, 5):
            value, at = _slice(data, at, 8 if wire == 1 else 4)
        else:
            raise ValueError(f"wire type {wire} is not used by Kubernetes")
        yield number, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number has more than 64 bits")


def _slice(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    if at + size > len(data):
        raise ValueError("a field is longer than its message")
    return data[at : at + size], at + size


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number stands where a message should")
    return value


def _text(value: int | bytes) -> str:
    return _bytes(value).decode()


def _signed(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("a message stands where a number should")
    return value - (1 << 64) if value >= 1 << 63 else value


def _decode_message(message: str, data: bytes, depth: int) -> dict[str, Any]:
    if depth > _DEEPEST:
        raise ValueError("messages are nested too deeply")
    fields = _messages()[message]
    obj: dict[str, Any] = {}
    for number, raw in _read(data):
        field = fields.get(number)
        if field is None:
            continue  # Newer than we know.
        if field.type.startswith("[]"):
            obj.setdefault(field.name, []).append(_decode_value(field.type[2:], raw, depth))
        elif field.type.startswith("{}"):
            key, value = _decode_entry(field.type[2:], raw, depth)
            obj.setdefault(field.name, {})[key] = value
        else:
            value = _decode_value(field.type, raw, depth)
            if not field.name:
                obj.update(value)
            elif not (field.skip_zero and value in _ZERO) and value is not None:
                obj[field.name] = value
    return obj


def _decode_entry(type: str, raw: int | bytes, depth: int) -> tuple[str, Any]:
    entry = dict(_read(_bytes(raw)))
    return _text(entry.get(1, b"")), _decode_value(type, entry.get(2, b""), depth)


def _decode_value(type: str, raw: int | bytes, depth: int) -> Any:
    match type:
        case "string":
            return _text(raw)
        case "int":
            return _signed(raw)
        case "bool":
            return bool(_signed(raw))
        case "bytes":
            return base64.b64encode(_bytes(raw)).decode()
        case "double":
            return struct.unpack("<d", _bytes(raw))[0]
        case "time":
            return _decode_time(_bytes(raw))
        case "quantity":
            return _text(dict(_read(_bytes(raw))).get(1, b""))
        case "duration":
            nanoseconds = _signed(dict(_read(_bytes(raw))).get(1, 0))
            return f"{nanoseconds / 1e9:g}s"
        case "int-or-string":
            parts = dict(_read(_bytes(raw)))
            return _text(parts.get(3, b"")) if parts.get(1) else _signed(parts.get(2, 0))
        case "raw":
            text = _bytes(dict(_read(_bytes(raw))).get(1, b""))
            return msgspec.json.decode(text) if text else {}
    if type.startswith("items:"):
        return [_decode_value(type[8:], item, depth) for _, item in _read(_bytes(raw))]
    return _decode_message(type, _bytes(raw), depth + 1)


def _decode_time(data: bytes) -> str | None:
    parts = dict(_read(data))
    if not parts:
        return None
    seconds, nanoseconds = _signed(parts.get(1, 0)), _signed(parts.get(2, 0))
    moment = _EPOCH + timedelta(seconds=seconds, microseconds=nanoseconds // 1000)
    form = "%Y-%m-%dT%H:%M:%S.%fZ" if nanoseconds else "%Y-%m-%dT%H:%M:%SZ"
    return moment.strftime(form)
