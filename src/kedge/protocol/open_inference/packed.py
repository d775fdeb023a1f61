"""Typed contents of large tensors, between NumPy and the bytes that protocol buffers pack them in.

Protocol buffers hand out repeated numbers one Python object at a time: a second and more for a few
million, with everybody waiting. Packed, they are an array's own bytes (floats) or variable-length
integers, which NumPy reads and writes at once.
"""

from __future__ import annotations

import numpy as np

from kedge.protocol.datatypes import Array
from kedge.protocol.open_inference.messages import InferTensorContents

MANY = 256
"""Elements from which on this is quicker than one object at a time."""
_NUMBERS = {
    "bool_contents": 1,
    "int_contents": 2,
    "int64_contents": 3,
    "uint_contents": 4,
    "uint64_contents": 5,
    "fp32_contents": 6,
    "fp64_contents": 7,
}
_FIXED = {"fp32_contents": "<f4", "fp64_contents": "<f8"}
_SEVEN = np.uint64(7)
_RUN = 16 * 1024


def read_packed(contents: InferTensorContents, field: str) -> Array | None:
    """The elements of the only field that is set; None where there are others."""
    raw = contents.SerializeToString()
    if field not in _NUMBERS or not raw or raw[0] != _NUMBERS[field] << 3 | 2:
        return None
    length, start = _length(raw)
    if start + length != len(raw):
        return None
    if field in _FIXED:
        return np.frombuffer(raw, _FIXED[field], offset=start)
    packed = np.frombuffer(raw, np.uint8, offset=start)
    if field == "bool_contents":
        return packed.astype(bool)
    numbers = _from_varints(packed)
    return numbers if field.startswith("uint") else numbers.view(np.int64)


def write_packed(contents: InferTensorContents, field: str, array: Array) -> None:
    """Fills `field`, which is empty, with the elements of a flat array."""
    if field in _FIXED:
        packed = array.astype(_FIXED[field], copy=False).tobytes()
    elif field == "bool_contents":
        packed = array.astype(np.uint8).tobytes()
    else:
        kind = np.uint64 if field.startswith("uint") else np.int64
        packed = _to_varints(array.astype(kind).view(np.uint64))
    head = bytes((_NUMBERS[field] << 3 | 2,)) + _to_varints(np.array([len(packed)], np.uint64))
    contents.MergeFromString(head + packed)


def _length(raw: bytes) -> tuple[int, int]:
    """The length after the tag, and where it ends."""
    length = shift = 0
    position = 1
    while True:
        byte = raw[position]
        length |= (byte & 0x7F) << shift
        position += 1
        shift += 7
        if byte < 0x80:
            return length, position


def _from_varints(packed: Array) -> Array:
    stops = np.flatnonzero(packed < 0x80) + 1
    numbers = np.empty(len(stops), np.uint64)
    begin = 0
    for first in range(0, len(stops), _RUN):
        some = stops[first : first + _RUN]
        end = int(some[-1])
        numbers[first : first + _RUN] = _run_from_varints(packed[begin:end], some - begin)
        begin = end
    return numbers


def _run_from_varints(packed: Array, stops: Array) -> Array:
    starts = np.concatenate(([0], stops[:-1]))
    within = np.arange(len(packed)) - np.repeat(starts, stops - starts)
    groups = (packed & 0x7F).astype(np.uint64) << (within.astype(np.uint64) * _SEVEN)
    numbers: Array = np.add.reduceat(groups, starts)
    return numbers


def _to_varints(numbers: Array) -> bytes:
    runs = range(0, len(numbers), _RUN)
    return b"".join(_run_to_varints(numbers[start : start + _RUN]) for start in runs)


def _run_to_varints(numbers: Array) -> bytes:
    longest = max(1, -(-int(numbers.max()).bit_length() // 7))
    shifted = numbers[:, None] >> (np.arange(longest, dtype=np.uint64) * _SEVEN)
    there = shifted != 0
    there[:, 0] = True
    groups = shifted.astype(np.uint8) & 0x7F
    groups[:, :-1] |= there[:, 1:].view(np.uint8) << 7
    return bytes(groups[there])
