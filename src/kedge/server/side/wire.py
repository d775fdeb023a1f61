"""What the server and its side process tell each other.

A message is a number and the descriptor of a file in memory. The file holds the length of its head,
the head (`Question` or `Told`), and then bytes that the head explains: the body, or arrays and
pieces at the offsets the head gives.

Values that are no arrays travel as pieces: a stream of small msgpack values and of marks that say
into which list or object they go, so that nobody has to decode much at once.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from kedge.protocol.datatypes import Array

Buffer = bytes | bytearray | memoryview

LENGTH = struct.Struct("<Q")
NUMBER = struct.Struct("<Q")
PIECE_BYTES = 32 * 1024
_MARK = struct.Struct("<BL")
_VALUE, _RUN, _LIST, _DICT, _KEY, _END = range(6)
_DEEPEST = 8
_ALIGNED = 64
_PARTS = 512


class Question(Struct, array_like=True):
    """A body to decode.

    Attributes:
        rows: of V1, the rows are wanted as arrays where they are some.
        columns: the order of columns, where rows are objects.
        limit: bytes of the body when it is unpacked.
    """

    protocol: str
    model: str = ""
    version: str = ""
    content_type: str = ""
    encoding: str = ""
    limit: int = 0
    json_length: int | None = None
    request_id: str = ""
    rows: bool = False
    columns: list[str] | None = None


class Place(Struct, array_like=True):
    """An array in the bytes after the head; without a dtype, pieces of a value."""

    offset: int
    length: int
    dtype: str = ""
    shape: tuple[int, ...] = ()


class TensorPlace(Struct, array_like=True):
    """A tensor; of BYTES, its place holds the texts."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: dict[str, Any]
    place: Place


class Output(Struct, array_like=True):
    """A requested output."""

    name: str
    parameters: dict[str, Any]


class Told(Struct, array_like=True):
    """What became of a body: one of an error, a request, rows, a value; or it is not JSON.

    Attributes:
        error: the reason and the message of a `ServingError`.
        columns: rows that are columns, by name.
        rows: rows that are an array, or texts.
    """

    error: tuple[str, str] | None = None
    id: str = ""
    parameters: dict[str, Any] = {}
    inputs: list[TensorPlace] | None = None
    outputs: list[Output] | None = None
    raw: bool = False
    rows: Place | None = None
    columns: list[tuple[str, Place]] | None = None
    value: Place | None = None


# -- files in memory -----------------------------------------------------------------------------


def new_file(parts: Sequence[Buffer]) -> int:
    """The descriptor of a file in memory that holds `parts`."""
    file = os.memfd_create("kedge-json", os.MFD_CLOEXEC)
    try:
        for start in range(0, len(parts), _PARTS):
            write(file, parts[start : start + _PARTS])
    except BaseException:
        os.close(file)
        raise
    return file


def write(file: int, parts: Sequence[Buffer]) -> None:
    """Writes all of `parts` (not more than the system takes at once), whatever it takes."""
    left = [memoryview(part).cast("B") for part in parts if len(part)]
    while left:
        written = os.writev(file, left)
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if written:
            left[0] = left[0][written:]


class Writer:
    """Collects what comes after a head, each array where its type may stand."""

    def __init__(self) -> None:
        self.parts: list[Buffer] = []
        self._size = 0

    def array(self, array: Array) -> Place:
        solid = np.ascontiguousarray(array)
        gap = -self._size % _ALIGNED
        raw = solid.reshape(-1).view(np.uint8).data if solid.size else b""
        place = Place(self._size + gap, len(raw), solid.dtype.str, array.shape)
        self._add(bytes(gap), raw)
        return place

    def value(self, value: Any) -> Place:
        start = self._size
        for piece in pieces(value):
            self._add(piece)
        return Place(start, self._size - start)

    def _add(self, *parts: Buffer) -> None:
        for part in parts:
            self.parts.append(part)
            self._size += len(part)


def array_at(view: memoryview, place: Place) -> Array:
    """The array at a place, without copying."""
    raw = view[place.offset : place.offset + place.length]
    return np.frombuffer(raw, dtype=np.dtype(place.dtype)).reshape(place.shape)


# -- pieces --------------------------------------------------------------------------------------


def pieces(value: Any, depth: int = 0) -> Iterator[bytes]:
    """A value as marks and small msgpack values."""
    encoded = msgspec.msgpack.encode(value)
    if len(encoded) <= PIECE_BYTES or depth >= _DEEPEST or not isinstance(value, (list, dict)):
        yield _mark(_VALUE, encoded)
    elif isinstance(value, list):
        yield _mark(_LIST)
        yield from _elements(value, len(encoded), depth)
        yield _mark(_END)
    else:
        yield _mark(_DICT)
        for key, one in value.items():
            yield _mark(_KEY, key.encode())
            yield from pieces(one, depth + 1)
        yield _mark(_END)


def _elements(value: list[Any], size: int, depth: int) -> Iterator[bytes]:
    """Runs of elements that are small together; large ones by themselves."""
    start, most = 0, max(1, len(value) * PIECE_BYTES // size)
    while start < len(value):
        encoded = msgspec.msgpack.encode(value[start : start + most])
        if len(encoded) <= 4 * PIECE_BYTES:
            yield _mark(_RUN, encoded)
            start += most
        elif most > 1:
            most = max(1, most // 4)
        else:
            yield from pieces(value[start], depth + 1)
            start += 1


def _mark(kind: int, data: bytes = b"") -> bytes:
    return _MARK.pack(kind, len(data)) + data


def rebuilt(view: memoryview) -> Generator[None, None, Any]:
    """The value of which `view` holds the pieces."""
    marks = _marks(view)
    value = yield from _rebuilt(marks, *next(marks))
    return value


def _marks(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    position = 0
    while position < len(view):
        kind, length = _MARK.unpack_from(view, position)
        position += _MARK.size + length
        yield kind, view[position - length : position]


def _rebuilt(
    marks: Iterator[tuple[int, memoryview]], kind: int, data: memoryview
) -> Generator[None, None, Any]:
    if kind == _VALUE:
        yield
        return msgspec.msgpack.decode(data)
    if kind == _LIST:
        listed: list[Any] = []
        for kind, data in marks:
            if kind == _END:
                return listed
            if kind == _RUN:
                listed.extend(msgspec.msgpack.decode(data))
                yield
            else:
                listed.append((yield from _rebuilt(marks, kind, data)))
    found: dict[str, Any] = {}
    for kind, data in marks:
        if kind == _END:
            return found
        key = bytes(data).decode()
        found[key] = yield from _rebuilt(marks, *next(marks))
    raise EOFError("pieces end too early")
