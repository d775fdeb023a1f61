"""Rows joined and told apart again: exactly, and only where nobody could notice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tests.unit.server.models import Doubler

from kedge.protocol.datatypes import Array
from kedge.protocol.v1 import Columns, Rows
from kedge.runtimes.tensors import Feeds
from kedge.server.joining import (
    Unsplittable,
    dependence,
    is_suspect,
    join,
    key_of,
    size_of,
    split,
)
from kedge.server.model import row_count

OUT = ("output-0",)
DTYPES = ("f4", "f8", "i1", "i8", "u2", "?", "U3")


@st.composite
def joinable(draw: st.DrawFn) -> list[Array]:
    """Arrays of one dtype and trailing shape."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    trailing = draw(arrays.array_shapes(min_dims=0, max_dims=2, max_side=3, min_side=0))
    counts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    return [draw(arrays.arrays(dtype, (count, *trailing))) for count in counts]


def same(one: Any, other: Any) -> bool:
    return bool(one.dtype == other.dtype and one.shape == other.shape) and one.tobytes() == (
        other.tobytes()
    )


@given(joinable())
def test_arrays_come_back_bit_for_bit_in_their_order(parts: list[Array]) -> None:
    assert len({key_of(part, OUT) for part in parts}) == 1
    together = join(parts)
    assert row_count(together) == sum(map(row_count, parts))
    apart = split({"a": together, "b": together}, [len(part) for part in parts])
    for part, answer in zip(parts, apart, strict=True):
        assert list(answer) == ["a", "b"]
        assert same(part, answer["a"])


@given(st.lists(st.lists(st.text(max_size=3), min_size=1, max_size=4), min_size=1, max_size=5))
def test_texts_and_columns_keep_their_order(parts: list[list[str]]) -> None:
    flat = [one for part in parts for one in part]
    assert join(parts) == flat
    columns = [Columns({"a": part, "b": [len(one) for one in part]}) for part in parts]
    assert len({key_of(one, OUT) for one in columns}) == 1
    joined = join(columns)
    assert joined.values == {"a": flat, "b": [len(one) for one in flat]}


def test_several_inputs_are_joined_by_name() -> None:
    parts = [
        Feeds({"a": np.zeros((1, 2)), "b": np.array([b"x"], dtype=object)}),
        Feeds({"a": np.ones((2, 2)), "b": np.array([b"y", b"z"], dtype=object)}),
    ]
    assert key_of(parts[0], OUT) == key_of(parts[1], OUT) is not None
    joined = join(parts)
    assert joined.arrays["a"].tolist() == [[0, 0], [1, 1], [1, 1]]
    assert joined.arrays["b"].tolist() == [b"x", b"y", b"z"]
    assert size_of(joined) == 3 * 2 * 8 + 3 * 8


@pytest.mark.parametrize(
    "other",
    [
        np.zeros((1, 3)),
        np.zeros((1, 2), "f4"),
        np.zeros((1, 2), object),
        np.zeros((1, 2, 1)),
        np.array(1.0),
        np.zeros((0, 2)),
        ["text"],
        Columns({"a": [1.0], "b": [1.0]}),
        Feeds({"a": np.zeros((1, 2))}),
    ],
)
def test_what_differs_is_not_joined(other: Any) -> None:
    assert key_of(np.zeros((1, 2)), OUT) != key_of(other, OUT)
    assert key_of(np.zeros((1, 2)), OUT) != key_of(np.zeros((1, 2)), ("again",))


def test_columns_of_other_types_or_uneven_are_not_joined() -> None:
    whole = key_of(Columns({"a": [1]}), OUT)
    assert whole != key_of(Columns({"a": [1.5]}), OUT)
    assert whole != key_of(Columns({"b": [1]}), OUT)
    assert key_of(Columns({"a": [1], "b": [1, 2]}), OUT) is None
    assert key_of(Feeds({"a": np.zeros(2), "b": np.zeros(3)}), OUT) is None
    mixed = key_of(np.array([["a", None]], dtype=object), OUT)
    assert mixed != key_of(np.array([["a", "b"]], dtype=object), OUT)


def test_an_answer_without_a_row_for_each_cannot_be_split() -> None:
    for wrong in (np.zeros(2), np.array(1.0), [1, 2, 3]):
        with pytest.raises(Unsplittable, match="output 'a' has shape"):
            split({"a": wrong}, [1, 2])  # type: ignore[dict-item]  # a model may return anything


def test_gaps_are_suspect() -> None:
    assert not is_suspect(np.zeros((1, 2)))
    assert is_suspect(np.array([[1.0, np.nan]]))
    assert is_suspect(np.array([[1, None]], dtype=object))
    assert is_suspect(Columns({"a": [1.0, None]}))
    assert is_suspect(Feeds({"a": np.array([np.inf])}))
    assert not is_suspect(["text"])
    assert not is_suspect(np.array([1]))


class Centring(Doubler):
    """Every row's answer depends on the rows beside it."""

    def compute(self, rows: Rows, outputs: tuple[str, ...]) -> Mapping[str, Array]:
        array = np.asarray(rows)
        return {name: array - array.mean(axis=0) for name in outputs}


class OneRow(Doubler):
    def compute(self, rows: Rows, outputs: tuple[str, ...]) -> Mapping[str, Array]:
        if row_count(rows) != 1:
            raise ValueError("one at a time")
        return super().compute(rows, outputs)


class Total(Doubler):
    def compute(self, rows: Rows, outputs: tuple[str, ...]) -> Mapping[str, Array]:
        return {name: np.asarray(rows).sum(axis=0, keepdims=True) for name in outputs}


class Rounding(Doubler):
    """Adds in an order that depends on how many rows there are, as BLAS does."""

    def compute(self, rows: Rows, outputs: tuple[str, ...]) -> Mapping[str, Array]:
        array = np.asarray(rows, dtype="f4") * np.float32(1 / 3)
        nudged = np.nextafter(array, np.float32(9)) if len(array) > 3 else array
        return dict.fromkeys(outputs, nudged)


def test_the_comparison_finds_models_that_cannot_be_joined() -> None:
    rows = np.zeros((1, 2))
    assert dependence(Doubler("m"), rows, OUT) == ""
    assert dependence(Rounding("m"), rows, OUT) == ""
    assert "depends on the rows beside it" in dependence(Centring("m"), rows, OUT)
    assert "has shape [1, 2] for 4 rows" in dependence(Total("m"), rows, OUT)
    with pytest.raises(ValueError, match="one at a time"):
        dependence(OneRow("m"), rows, OUT)
    assert dependence(Doubler("m"), Columns({"a": [1.0], "b": [1.0]}), OUT) == ""
