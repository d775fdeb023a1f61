"""The datatypes of Open Inference tensors, and how each becomes a NumPy array and back.

Raw bytes are little endian, row major, without padding; BYTES is, for every element, its length in
four bytes and then the element. NumPy has no bfloat16: BF16 tensors are held as float32, which
carries every one of its values.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from kedge.protocol.errors import InvalidInput

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Datatype:
    """One row of the protocol's datatype table.

    Attributes:
        name: as it is written on the wire.
        size: bytes of one element in raw form; 0 when elements vary.
        dtype: the NumPy type that holds it.
        contents: field of `InferTensorContents` for typed gRPC values; empty when it must be raw.
    """

    name: str
    size: int
    dtype: np.dtype[Any]
    contents: str


def _row(name: str, size: int, code: str, contents: str) -> tuple[str, Datatype]:
    return name, Datatype(name, size, np.dtype(code), contents)


DATATYPES: dict[str, Datatype] = dict(
    (
        _row("BOOL", 1, "?", "bool_contents"),
        _row("UINT8", 1, "u1", "uint_contents"),
        _row("UINT16", 2, "<u2", "uint_contents"),
        _row("UINT32", 4, "<u4", "uint_contents"),
        _row("UINT64", 8, "<u8", "uint64_contents"),
        _row("INT8", 1, "i1", "int_contents"),
        _row("INT16", 2, "<i2", "int_contents"),
        _row("INT32", 4, "<i4", "int_contents"),
        _row("INT64", 8, "<i8", "int64_contents"),
        _row("FP16", 2, "<f2", ""),
        _row("BF16", 2, "<f4", ""),
        _row("FP32", 4, "<f4", "fp32_contents"),
        _row("FP64", 8, "<f8", "fp64_contents"),
        _row("BYTES", 0, "O", "bytes_contents"),
    )
)

_BY_DTYPE = {
    (row.dtype.kind, row.dtype.itemsize): row.name
    for row in DATATYPES.values()
    if row.name != "BF16"
}
_LENGTH = struct.Struct("<I")
MAX_DIMENSIONS = 32
"""Of a tensor, in any form; NumPy 1 has no more."""


def find_datatype(name: str, tensor: str) -> Datatype:
    """The datatype called `name` (in any case), or an error that names the tensor."""
    found = DATATYPES.get(name) or DATATYPES.get(name.upper())
    if found is None:
        raise InvalidInput(
            f"Input '{tensor}' has datatype '{name}', which does not exist.",
            fix=f"Use one of {', '.join(DATATYPES)}.",
        )
    return found


def datatype_of(array: Array) -> str:
    """The protocol's name for what `array` holds; text, dates and objects travel as BYTES."""
    kind = array.dtype.kind
    if kind in "OUSMm":
        return "BYTES"
    name = _BY_DTYPE.get((kind, array.dtype.itemsize))
    if name is None:
        raise TypeError(f"no datatype of the protocol holds NumPy's {array.dtype}")
    return name


def element_count(shape: Sequence[int]) -> int:
    count = 1
    for extent in shape:
        count *= extent
    return count


def _reshape(array: Array, shape: tuple[int, ...], tensor: str) -> Array:
    if array.shape == shape:
        return array
    if array.size != (wanted := element_count(shape)):
        raise InvalidInput(
            f"Input '{tensor}' has {array.size} elements, but its shape {list(shape)} "
            f"needs {wanted}."
        )
    return array.reshape(shape)


# -- JSON ----------------------------------------------------------------------------------------


def array_from_json(data: object, datatype: Datatype, shape: tuple[int, ...], tensor: str) -> Array:
    """The array for a JSON list, nested as the tensor is or flat in row-major order."""
    if not isinstance(data, list):
        raise InvalidInput(f"Input '{tensor}': expected \"data\" to be a list.")
    if datatype.name == "BYTES":
        return _reshape(_bytes_from_json(data, tensor), shape, tensor)
    try:
        array = np.array(data)
    except ValueError as error:
        fault = "is nested too deeply" if _depth(data) > 32 else "has rows of different lengths"
        raise InvalidInput(f"Input '{tensor}' {fault}.") from error
    if array.dtype is datatype.dtype and array.shape == shape:
        return array
    return _reshape(_converted(array, data, datatype, tensor), shape, tensor)


def _depth(data: Any) -> int:
    depth = 0
    while isinstance(data, list):
        depth += 1
        data = data[0] if data else None
    return depth


def _converted(array: Array, data: list[Any], datatype: Datatype, tensor: str) -> Array:
    target = datatype.dtype
    if array.dtype == target:
        return array
    kind = array.dtype.kind
    if array.size == 0:
        return array.astype(target)
    if target.kind == "f" and kind in "iuf":
        return _floats(array, target, datatype, tensor)
    if target.kind in "iu" and kind in "iuf":
        if kind == "f" and target.itemsize == 8:
            array = _exact(array, data)
        return _integers(array, target, datatype, tensor)
    if target.kind == "f" and kind == "O":
        return _floats_with_nulls(array, target, datatype, tensor)
    raise InvalidInput(
        f"Input '{tensor}' has datatype {datatype.name}, but \"data\" holds "
        f"{_describe(array)}, which is not one."
    )


def _describe(array: Array) -> str:
    if array.dtype.kind in "US":
        return f"text such as {str(array.flat[0])!r}"
    if array.dtype.kind == "b":
        return "true and false"
    for value in array.flat:
        if value is None:
            return "null"
        if isinstance(value, (str, dict, list)):
            return f"a {type(value).__name__} such as {str(value)[:40]!r}"
        if isinstance(value, int) and not -(2**63) <= value < 2**64:
            return f"the number {str(value)[:40]}"
    return f"numbers such as {array.flat[0]}"


def _exact(array: Array, data: list[Any]) -> Array:
    """Beyond 53 bits NumPy reads whole numbers of different sizes as floats, and rounds them."""
    objects = np.array(data, dtype=object)
    return objects if all(type(value) is int for value in objects.flat) else array


def _integers(array: Array, target: np.dtype[Any], datatype: Datatype, tensor: str) -> Array:
    """Whole numbers within the type's range; 1.0 is taken for 1, 1.5 is refused."""
    limits = np.iinfo(target)
    with np.errstate(invalid="ignore"):
        if array.dtype.kind == "f" and not bool(np.all(array == np.floor(array))):
            raise InvalidInput(
                f"Input '{tensor}' has datatype {datatype.name}, but \"data\" holds fractions."
            )
        low, high = array.min(), array.max()
    if int(low) < limits.min or int(high) > limits.max:
        raise InvalidInput(
            f"Input '{tensor}' has a value outside the range of {datatype.name} "
            f"({limits.min} to {limits.max}): {low if int(low) < limits.min else high}."
        )
    return array.astype(target)


def _floats(array: Array, target: np.dtype[Any], datatype: Datatype, tensor: str) -> Array:
    """Numbers that the type can hold; a larger one would silently be infinity."""
    if target.itemsize == 8:
        return array.astype(target)
    try:
        with np.errstate(over="raise"):
            return array.astype(target)
    except FloatingPointError as error:
        raise InvalidInput(
            f"Input '{tensor}' holds a number too large for {datatype.name}."
        ) from error


def _floats_with_nulls(
    array: Array, target: np.dtype[Any], datatype: Datatype, tensor: str
) -> Array:
    """Numbers of any size; null is NaN."""
    values = array.ravel().tolist()
    if not all(value is None or isinstance(value, (int, float)) for value in values):
        raise InvalidInput(f"Input '{tensor}' holds {_describe(array)} where a number belongs.")
    try:
        floats = np.array(values, dtype=np.float64).reshape(array.shape)
        return _floats(floats, target, datatype, tensor)
    except OverflowError as error:
        raise InvalidInput(f"Input '{tensor}' holds a number too large for a float.") from error


def _bytes_from_json(data: list[Any], tensor: str) -> Array:
    flat: list[bytes] = []
    shape = _collect_text(data, flat, tensor, 0)
    array = np.empty(len(flat), dtype=object)
    array[:] = flat
    return array.reshape(shape) if element_count(shape) == len(flat) else array


def _collect_text(data: list[Any], into: list[bytes], tensor: str, depth: int) -> tuple[int, ...]:
    if depth > 32:
        raise InvalidInput(f"Input '{tensor}' is nested too deeply.")
    inner: tuple[int, ...] = ()
    for element in data:
        if isinstance(element, str):
            into.append(element.encode("utf-8"))
        elif isinstance(element, list):
            inner = _collect_text(element, into, tensor, depth + 1)
        else:
            raise InvalidInput(
                f"Input '{tensor}' has datatype BYTES, but \"data\" holds {str(element)[:40]}, "
                "which is not a string."
            )
    return (len(data), *inner)


def array_to_json(array: Array, tensor: str) -> Any:
    """What orjson writes for `array`: its elements flat, in row-major order.

    NaN and infinities become null there. Elements of BYTES must be UTF-8; others need binary.
    """
    if array.dtype.kind not in "OUSMm":
        flat = array.ravel()
        if not flat.flags.c_contiguous or not flat.dtype.isnative:
            flat = np.ascontiguousarray(flat, dtype=flat.dtype.newbyteorder("="))
        return flat
    try:
        return [
            element.decode("utf-8") if isinstance(element, bytes) else str(element)
            for element in array.ravel().tolist()
        ]
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"Output '{tensor}' holds bytes that are not UTF-8, which JSON cannot carry.",
            fix='Ask for it in binary form: "parameters": {"binary_data": true}.',
        ) from error


# -- raw bytes -----------------------------------------------------------------------------------


def array_from_raw(
    raw: bytes | memoryview, datatype: Datatype, shape: tuple[int, ...], tensor: str
) -> Array:
    """The array in a raw blob, without copying where the type allows (then it is read-only)."""
    if datatype.name == "BYTES":
        return _reshape(_bytes_from_raw(raw, tensor), shape, tensor)
    wanted = element_count(shape) * datatype.size
    if len(raw) != wanted:
        raise InvalidInput(
            f"Input '{tensor}' has {len(raw)} bytes of binary data, but {datatype.name} of shape "
            f"{list(shape)} needs {wanted}."
        )
    if datatype.name == "BF16":
        halves = np.frombuffer(raw, dtype="<u2").astype("<u4") << np.uint32(16)
        return halves.view("<f4").reshape(shape)
    if datatype.name == "BOOL":
        return cast(Array, np.frombuffer(raw, dtype="u1").astype(bool).reshape(shape))
    return cast(Array, np.frombuffer(raw, dtype=datatype.dtype).reshape(shape))


def _bytes_from_raw(raw: bytes | memoryview, tensor: str) -> Array:
    view = memoryview(raw)
    elements: list[bytes] = []
    position, end = 0, len(view)
    while position < end:
        start = position + 4
        stop = start + _LENGTH.unpack_from(view, position)[0] if start <= end else end + 1
        if stop > end:
            raise InvalidInput(
                f"Input '{tensor}': its BYTES data ends within element {len(elements)}."
            )
        elements.append(bytes(view[start:stop]))
        position = stop
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array


def array_to_raw(array: Array, datatype: str) -> bytes:
    """The raw blob of `array` when it travels as `datatype`."""
    if datatype == "BYTES":
        return b"".join(
            part
            for element in array.ravel().tolist()
            for encoded in (to_bytes(element),)
            for part in (_LENGTH.pack(len(encoded)), encoded)
        )
    if datatype == "BF16":
        return _to_bfloat16(array).tobytes()
    return array.astype(DATATYPES[datatype].dtype, copy=False).tobytes()


def array_to_blob(array: Array, datatype: str) -> bytes | memoryview:
    """The same without a copy, where nobody can change the array any more."""
    row = DATATYPES[datatype]
    if array.flags.writeable or not array.flags.c_contiguous or array.dtype is not row.dtype:
        return array_to_raw(array, datatype)
    if not array.size or datatype in ("BYTES", "BF16"):
        return array_to_raw(array, datatype)
    return array.data.cast("B")


def _to_bfloat16(array: Array) -> Array:
    """The upper halves of float32, rounded to nearest even; NaN stays NaN."""
    bits = np.ascontiguousarray(array, dtype="<f4").view("<u4")
    rounded = (bits + ((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF)) >> np.uint32(16)
    quiet = (bits >> np.uint32(16)) | np.uint32(0x40)
    return np.where(np.isnan(array), quiet, rounded).astype("<u2")


def to_bytes(element: object) -> bytes:
    """One element of a BYTES tensor as it travels: text as UTF-8."""
    return element if isinstance(element, bytes) else str(element).encode("utf-8")
