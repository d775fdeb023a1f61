"""V1 rows as pandas writes a frame: columns of labelled cells."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.protocol import v1
from kedge.protocol.errors import InvalidInput
from kedge.protocol.v1 import Columns


def columns(*listed: Any, wanted: list[str] | None = None) -> dict[str, list[Any]]:
    found = v1.rows({"inputs": list(listed)}, wanted)
    assert isinstance(found, Columns)
    return dict(found.values)


def test_labelled_cells_are_rows() -> None:
    frame = {"b": {"0": 3.5, "7": 1.5}, "a": {"0": 1, "7": 2}}
    assert columns(frame, wanted=["a", "b"]) == {"a": [1, 2], "b": [3.5, 1.5]}
    assert columns(frame, {"a": 9, "b": "x"}) == {"b": [3.5, 1.5, "x"], "a": [1, 2, 9]}


def test_labels_give_the_order() -> None:
    assert columns({"a": {"x": 1, "y": 2}, "b": {"y": 20, "x": 10}, "c": 0}) == {
        "a": [1, 2],
        "b": [10, 20],
        "c": [0, 0],
    }


def test_labels_that_differ_and_cells_that_are_objects_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"other row labels in column 'b'"):
        columns({"a": {"0": 1}, "b": {"1": 1}})
    with pytest.raises(InvalidInput, match=r"an object in column 'a'"):
        columns({"a": {"0": {"deep": 1}}})
