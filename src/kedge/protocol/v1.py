"""The V1 format: `{"instances": [...]}` in, `{"predictions": [...]}` out.

What the instances mean is the model's affair; `rows` gives the reading that the framework runtimes
share: numbers become an array, objects become columns, strings stay a list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import orjson

from kedge.protocol.datatypes import Array
from kedge.protocol.errors import InvalidInput

_JSON_TYPES = ("application/json", "application/cloudevents+json", "application/ld+json")
_ENCODING = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows given as objects: one list of values per column, all of one length."""

    values: Mapping[str, list[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.values.values()), []))


Rows = Array | list[str] | Columns


class Prepared(dict[str, Any]):
    """A request whose rows were read before it came here: a large one, elsewhere.

    Attributes:
        rows: what `rows` says of it.
    """

    __slots__ = ("rows",)

    def __init__(self, rows: Rows) -> None:
        self.rows = rows


def decode_request(body: bytes | memoryview, content_type: str = "") -> Any:
    """The JSON value of a body; bytes when the client declares that it is not JSON."""
    kind = content_type.partition(";")[0].strip().lower()
    try:
        payload = orjson.loads(body)
    except (orjson.JSONDecodeError, RecursionError) as error:
        if kind and kind not in _JSON_TYPES and not kind.endswith("+json"):
            return body
        raise InvalidInput(f"Unrecognized request format: {error}") from error
    if isinstance(payload, dict):
        check(payload)
    return payload


def check(payload: dict[str, Any]) -> None:
    """What every V1 request must be, whatever the model makes of it."""
    if not isinstance(payload.get("instances", []), list):
        raise InvalidInput('Expected "instances" to be a list')


def encode_response(body: Any) -> bytes:
    """JSON; NaN and infinities become null, keys become strings."""
    return orjson.dumps(body, option=_ENCODING)


def instances(payload: Any) -> list[Any]:
    """The rows of a request: `inputs` is a synonym of `instances` and wins."""
    if not isinstance(payload, dict):
        raise InvalidInput(
            f"unsupported payload type {type(payload)}",
            fix='Send a JSON object: {"instances": [[...], ...]}.',
        )
    for key in ("inputs", "instances"):
        if key in payload:
            if not isinstance(payload[key], list):
                raise InvalidInput(f'Expected "{key}" to be a list')
            return cast(list[Any], payload[key])
    raise InvalidInput(
        'The request has neither "instances" nor "inputs".',
        fix='Send a JSON object: {"instances": [[...], ...]}.',
    )


def holds_objects(payload: Any) -> bool:
    """Whether the rows are objects, which name their columns."""
    if not isinstance(payload, dict):
        return False
    listed = payload.get("inputs", payload.get("instances"))
    if not isinstance(listed, list) or not listed:
        return False
    first = listed[0]
    return isinstance(first, dict) or (
        isinstance(first, list) and bool(first) and isinstance(first[0], dict)
    )


def rows(payload: Any, columns: Sequence[str] | None = None) -> Rows:
    """What the instances say: an array of numbers, a list of strings, or columns.

    `columns` fixes the order of columns, drops others, and fills missing ones with NaN.
    """
    if isinstance(payload, Prepared):
        return payload.rows
    listed = instances(payload)
    if not listed:
        return np.array([])
    first = listed[0]
    if isinstance(first, dict):
        return _columns(listed, columns)
    if isinstance(first, list) and first and isinstance(first[0], dict):
        flat = []
        for index, row in enumerate(listed):
            if not isinstance(row, list):
                raise InvalidInput(f"instances[{index}] is not a list of objects as the first is.")
            flat.extend(row)
        return _columns(flat, columns)
    if isinstance(first, str):
        for index, row in enumerate(listed):
            if not isinstance(row, str):
                raise InvalidInput(f"instances[{index}] is not a string as the first is.")
        return listed
    try:
        return np.array(listed)
    except ValueError as error:
        raise InvalidInput(_ragged(listed)) from error


def _ragged(listed: list[Any]) -> str:
    length = len(listed[0]) if isinstance(listed[0], list) else 0
    for index, row in enumerate(listed):
        if not isinstance(row, list) or len(row) != length:
            found = f"{len(row)} values" if isinstance(row, list) else "no list"
            return f"instances[{index}] has {found}, but instances[0] has {length}."
    return "The instances have rows of different shapes."


def _columns(listed: list[Any], wanted: Sequence[str] | None) -> Columns:
    """Objects with scalar values are one row each; with lists they hold a column each.

    A column may also be an object of its rows' labels, as pandas writes a frame.
    """
    listed = [_unlabelled(row, index) for index, row in enumerate(listed)]
    names: dict[str, None] = {}
    for row in listed:
        names.update(dict.fromkeys(row))
    names = dict.fromkeys(wanted) if wanted is not None else names
    values: dict[str, list[Any]] = {name: [] for name in names}
    for index, row in enumerate(listed):
        height = _height(row, index)
        for name, column in values.items():
            value = row.get(name, float("nan"))
            column.extend(value if isinstance(value, list) else [value] * height)
    return Columns(values)


def _unlabelled(row: Any, index: int) -> dict[str, Any]:
    """The row, with a list for each column that is an object of labels: all of the same ones."""
    if not isinstance(row, dict):
        raise InvalidInput(f"instances[{index}] is not an object as the first is.")
    labelled = {name: value for name, value in row.items() if isinstance(value, dict)}
    if not labelled:
        return row
    labels = next(iter(labelled.values())).keys()
    for name, value in labelled.items():
        if any(isinstance(cell, dict | list) for cell in value.values()):
            raise InvalidInput(
                f"instances[{index}] has an object in column '{name}', where a number or a text "
                "belongs."
            )
        if value.keys() != labels:
            raise InvalidInput(
                f"instances[{index}] has other row labels in column '{name}' than in the first."
            )
    return row | {name: [value[one] for one in labels] for name, value in labelled.items()}


def _height(row: dict[str, Any], index: int) -> int:
    heights = {len(value) for value in row.values() if isinstance(value, list)}
    if len(heights) > 1:
        raise InvalidInput(f"instances[{index}] has columns of different lengths.")
    return heights.pop() if heights else 1
