"""OpenAPI v2 in protobuf, the only form in which kubectl reads it.

The message is `openapi.v2.Document` of gnostic's models. Only the fields that our document has are
known here, each with its number and how it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

MEDIA_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""Clients also ask for it as `v2@v1.0`, which is no media type that they could read back."""

_Encoder = Callable[[Any], bytes]
_encode_json = msgspec.json.Encoder().encode


def encode_document(document: dict[str, Any]) -> bytes:
    """The document as `openapi.v2.Document`."""
    return b"".join(
        (
            _text(1, document["swagger"]),
            _field(2, _info(document["info"])),
            _field(8, _named(document["paths"], 2, _path_item)),
            _field(9, _named(document["definitions"], 1, _schema)),
        )
    )


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, body: bytes) -> bytes:
    """A field of bytes: a message or a string."""
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def _text(number: int, value: str) -> bytes:
    return _field(number, value.encode())


def _integer(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _any(value: Any) -> bytes:
    """`Any`: a value as YAML, of which JSON is a part."""
    return _text(2, _encode_json(value).decode() + "\n")


def _named(values: dict[str, Any], number: int, encode: _Encoder) -> bytes:
    """A map as repeated pairs of name and value."""
    return b"".join(
        _field(number, _text(1, name) + _field(2, encode(value))) for name, value in values.items()
    )


def _extensions(number: int, values: dict[str, Any]) -> bytes:
    given = {name: value for name, value in values.items() if name.startswith("x-")}
    return _named(given, number, _any)


def _info(info: dict[str, Any]) -> bytes:
    return _text(1, info["title"]) + _text(2, info["version"])


_OPERATIONS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}


def _path_item(item: dict[str, Any]) -> bytes:
    return b"".join(
        _field(_OPERATIONS[method], _operation(operation)) for method, operation in item.items()
    )


def _operation(operation: dict[str, Any]) -> bytes:
    parts = [_text(5, operation["operationId"])]
    parts += [_field(8, _parameter(parameter)) for parameter in operation["parameters"]]
    parts.append(_field(9, _responses(operation["responses"])))
    parts.append(_extensions(13, operation))
    return b"".join(parts)


def _parameter(parameter: dict[str, Any]) -> bytes:
    """A parameter of the query: four messages deep in gnostic's model."""
    schema = _text(2, parameter["in"]) + _text(4, parameter["name"]) + _text(6, parameter["type"])
    query_parameter = _field(3, schema)
    non_body = _field(2, query_parameter)
    return _field(1, non_body)


def _responses(responses: dict[str, Any]) -> bytes:
    def encode(response: dict[str, Any]) -> bytes:
        schema_item = _field(1, _schema(response["schema"]))
        return _field(1, _text(1, response["description"]) + _field(2, schema_item))

    return _named(responses, 1, encode)


def _schema(schema: dict[str, Any]) -> bytes:
    return b"".join(_schema_fields(schema))


def _schema_fields(schema: dict[str, Any]) -> Iterator[bytes]:
    for name, number in _SCHEMA_TEXTS.items():
        if name in schema:
            yield _text(number, schema[name])
    for name, number in _SCHEMA_INTEGERS.items():
        if name in schema:
            yield _integer(number, schema[name])
    for required in schema.get("required", ()):
        yield _text(19, required)
    for value in schema.get("enum", ()):
        yield _field(20, _any(value))
    if "default" in schema:
        yield _field(5, _any(schema["default"]))
    if "additionalProperties" in schema:
        yield _field(21, _field(1, _schema(schema["additionalProperties"])))
    if "type" in schema:
        yield _field(22, _text(1, schema["type"]))
    if "items" in schema:
        yield _field(23, _field(1, _schema(schema["items"])))
    for one in schema.get("allOf", ()):
        yield _field(24, _schema(one))
    if "properties" in schema:
        yield _field(25, _named(schema["properties"], 1, _schema))
    yield _extensions(31, schema)


_SCHEMA_TEXTS = {"$ref": 1, "format": 2, "title": 3, "description": 4, "pattern": 13}
_SCHEMA_INTEGERS = {"maxLength": 11, "minLength": 12, "maxItems": 14, "minItems": 15}
