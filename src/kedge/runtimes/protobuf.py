"""Protocol buffers walked, not decoded: what a model file says of itself, with no framework.

ONNX files, TensorFlow's SavedModels and Paddle's older programs are protocol buffers. The fields
that matter are few and stand in the outermost messages; weights are stepped over, whatever their
size.
"""

from __future__ import annotations

from collections.abc import Iterator

Field = int | memoryview

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_FIELD_NUMBER = 1000


class Damaged(Exception):
    """The bytes are no protocol buffer, or end too early."""


def text(value: Field) -> str:
    """A field that holds text; empty for any other."""
    return bytes(value).decode("utf-8", "replace") if isinstance(value, memoryview) else ""


def messages(view: memoryview, wanted: int) -> Iterator[memoryview]:
    """The messages (or bytes) that stand under one field number."""
    for number, value in fields(view):
        if number == wanted and isinstance(value, memoryview):
            yield value


def fields(view: memoryview) -> Iterator[tuple[int, Field]]:
    """The fields of one message, as (number, value)."""
    at, end = 0, len(view)
    while at < end:
        key, at = _varint(view, at)
        number, kind = key >> 3, key & 7
        if not 0 < number < _MOST_FIELD_NUMBER:
            raise Damaged("it does not look like a protocol buffer")
        value: Field
        if kind == _VARINT:
            value, at = _varint(view, at)
        else:
            length, at = _length(view, at, kind)
            if at + length > end:
                raise Damaged(f"it ends {at + length - end} bytes too early")
            value, at = view[at : at + length], at + length
        yield number, value


def _length(view: memoryview, at: int, kind: int) -> tuple[int, int]:
    if kind == _BYTES:
        return _varint(view, at)
    if kind in (_FIXED32, _FIXED64):
        return (4 if kind == _FIXED32 else 8), at
    raise Damaged("it does not look like a protocol buffer")


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    result = shift = 0
    while shift < 70:
        if at >= len(view):
            raise Damaged("it ends within a number")
        byte = view[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
    raise Damaged("it does not look like a protocol buffer")
