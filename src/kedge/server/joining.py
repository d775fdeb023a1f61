"""Joining the rows of several requests, and telling their answers apart again.

Whether two requests may be joined is decided from all that `ArrayModel.compute` would see of them
but the values: kinds of rows, names, datatypes, trailing shape, and the outputs asked for. What
else a request says (its id, parameters, form) is read before and after `compute`, for it alone;
so a V1 and a gRPC request may share a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from kedge.protocol.datatypes import Array
from kedge.protocol.v1 import Columns, Rows
from kedge.server.model import ArrayModel, row_count

Key = tuple[Any, ...]
Results = Mapping[str, Array]


@runtime_checkable
class Bundle(Protocol):
    """Rows of a runtime's own making that hold an array per name."""

    @property
    def arrays(self) -> Mapping[str, Array]: ...

    def __len__(self) -> int: ...

    def replaced(self, arrays: Mapping[str, Array]) -> Any:
        """The same with other arrays."""


class Unsplittable(Exception):
    """A model's answer has not a row for each row it was asked with."""


def key_of(rows: Any, outputs: tuple[str, ...]) -> Key | None:
    """Requests with equal keys may be joined; None goes alone."""
    if isinstance(rows, np.ndarray):
        return _array_key(rows, outputs) if rows.ndim and len(rows) else None
    if not len(rows):
        return None
    if isinstance(rows, list):
        return ("text", outputs)
    if isinstance(rows, Columns):
        if len({len(values) for values in rows.values.values()}) != 1:
            return None
        columns = tuple((name, _kinds(values)) for name, values in rows.values.items())
        return ("columns", columns, outputs)
    if isinstance(rows, Bundle):
        if any(not one.ndim or len(one) != len(rows) for one in rows.arrays.values()):
            return None
        named = tuple((name, _array_key(one, ())) for name, one in rows.arrays.items())
        return ("bundle", named, outputs)
    return None


def _array_key(array: Array, outputs: tuple[str, ...]) -> Key:
    if array.dtype.kind == "O":
        return (array.dtype, array.shape[1:], outputs, _kinds(array.ravel().tolist()))
    return (array.dtype, array.shape[1:], outputs)


def _kinds(values: Iterable[Any]) -> frozenset[type]:
    """Frameworks infer a column's type from its values: those joined must be of the same."""
    return frozenset(map(type, values))


def size_of(rows: Any) -> int:
    """Bytes, or an estimate of them."""
    if isinstance(rows, np.ndarray):
        return rows.nbytes
    if isinstance(rows, list):
        return sum(map(len, rows))
    if isinstance(rows, Bundle):
        return sum(one.nbytes for one in rows.arrays.values())
    return len(rows) * len(rows.values) * 32


def join(parts: Sequence[Any]) -> Any:
    """All rows of `parts`, which have equal keys, in their order."""
    first = parts[0]
    if isinstance(first, np.ndarray):
        return np.concatenate(parts)
    if isinstance(first, list):
        return [row for part in parts for row in part]
    if isinstance(first, Columns):
        return Columns(
            {name: [one for part in parts for one in part.values[name]] for name in first.values}
        )
    return first.replaced(
        {name: np.concatenate([part.arrays[name] for part in parts]) for name in first.arrays}
    )


def split(results: Results, counts: Sequence[int]) -> list[Results]:
    """The answers to each part, by its number of rows."""
    total = sum(counts)
    for name, array in results.items():
        if not isinstance(array, np.ndarray) or not array.ndim or len(array) != total:
            found = np.shape(array)
            raise Unsplittable(f"output '{name}' has shape {list(found)} for {total} rows")
    parts: list[Results] = []
    start = 0
    for count in counts:
        stop = start + count
        parts.append({name: array[start:stop] for name, array in results.items()})
        start = stop
    return parts


def is_suspect(rows: Any) -> bool:
    """The rows hold NaN, infinity or null, which many models refuse."""
    if isinstance(rows, np.ndarray):
        return _holds_gaps(rows)
    if isinstance(rows, Columns):
        return any(_is_gap(value) for values in rows.values.values() for value in values)
    if isinstance(rows, Bundle):
        return any(_holds_gaps(one) for one in rows.arrays.values())
    return False


def _holds_gaps(array: Array) -> bool:
    if array.dtype.kind == "f":
        return not bool(np.isfinite(array).all())
    return array.dtype.kind == "O" and any(_is_gap(one) for one in array.ravel().tolist())


def _is_gap(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not np.isfinite(value))


# -- the proof at warm-up ------------------------------------------------------------------------


def dependence(model: ArrayModel, rows: Rows, outputs: Sequence[str]) -> str:
    """Why requests to `model` must not be joined; empty when a comparison found no reason.

    Compares predict(a + b) with predict(a) and predict(b), `rows` being the one and variations of
    it the other.
    """
    parts = [rows, join([_varied(rows, seed) for seed in (1, 2, 3)])]
    asked: list[tuple[str, ...]] = [(name,) for name in outputs]
    for wanted in asked or [()]:
        try:
            apart = [model.compute(part, wanted) for part in parts]
        except Exception:
            parts[1] = join([rows, rows, rows])  # It takes its own sample, and no variation of it.
            apart = [model.compute(part, wanted) for part in parts]
        try:
            results = model.compute(join(parts), wanted)
            together = split(results, [row_count(part) for part in parts])
        except Unsplittable as error:
            return str(error)
        except Exception as error:
            return f"it refuses several rows at once ({type(error).__name__})"
        for alone, joined in zip(apart, together, strict=True):
            for name, array in alone.items():
                if name not in joined or not _same(array, joined[name], results[name]):
                    return f"output '{name}' of a row depends on the rows beside it"
    return ""


def _same(one: Array, other: Array, whole: Array) -> bool:
    """Equal, or equal up to the order in which floats of this size are added."""
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape or one.dtype != other.dtype:
        return one.dtype.kind == other.dtype.kind == "U" and np.array_equal(one, other)
    if one.dtype.kind not in "fc":
        return bool(np.array_equal(one, other))
    epsilon = float(np.finfo(one.dtype).eps)
    scale = float(np.max(np.abs(whole), initial=0.0, where=np.isfinite(whole)))
    return bool(
        np.allclose(one, other, rtol=epsilon * 2048, atol=epsilon * 256 * scale, equal_nan=True)
    )


def _varied(rows: Any, seed: int) -> Any:
    """Rows of the same kind with other numbers in them; text stays as it is."""
    numbers = np.random.default_rng(seed)
    if isinstance(rows, np.ndarray):
        return _varied_array(rows, numbers)
    if isinstance(rows, Columns):
        return Columns(
            {
                name: [
                    value + float(numbers.normal()) if isinstance(value, float) else value
                    for value in values
                ]
                for name, values in rows.values.items()
            }
        )
    if isinstance(rows, Bundle):
        return rows.replaced({name: _varied_array(a, numbers) for name, a in rows.arrays.items()})
    return rows


def _varied_array(array: Array, numbers: np.random.Generator) -> Array:
    if array.dtype.kind == "f":
        return (array + numbers.normal(size=array.shape) * 3).astype(array.dtype)
    if array.dtype.kind in "iu":
        return numbers.integers(0, 2, size=array.shape).astype(array.dtype)
    return array
