"""Datatypes: what JSON and raw bytes become, and that nothing is lost on the way back."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kedge.protocol.datatypes import (
    DATATYPES,
    array_from_json,
    array_from_raw,
    array_to_json,
    array_to_raw,
    datatype_of,
    find_datatype,
)
from kedge.protocol.errors import InvalidInput

NUMERIC = [name for name in DATATYPES if name not in ("BYTES", "BF16")]


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, np.ndarray[Any, Any]]:
    name = draw(st.sampled_from(NUMERIC))
    shape = draw(hnp.array_shapes(max_dims=3, max_side=4))
    return name, draw(hnp.arrays(DATATYPES[name].dtype, shape))


@given(tensors())
def test_raw_round_trip(tensor: tuple[str, np.ndarray[Any, Any]]) -> None:
    name, array = tensor
    raw = array_to_raw(array, name)
    assert len(raw) == array.size * DATATYPES[name].size
    back = array_from_raw(raw, DATATYPES[name], array.shape, "x")
    assert back.dtype == DATATYPES[name].dtype
    np.testing.assert_array_equal(back, array)


@given(tensors())
def test_json_round_trip(tensor: tuple[str, np.ndarray[Any, Any]]) -> None:
    """Numbers survive JSON bit for bit; what JSON cannot say (NaN, infinities) becomes NaN."""
    name, array = tensor
    text = orjson.dumps(array_to_json(array, "x"), option=orjson.OPT_SERIALIZE_NUMPY)
    back = array_from_json(orjson.loads(text), DATATYPES[name], array.shape, "x")
    expected = array
    if array.dtype.kind == "f":
        expected = np.where(np.isfinite(array), array, np.nan).astype(array.dtype)
    np.testing.assert_array_equal(back, expected)


@given(st.lists(st.binary(max_size=8), max_size=6))
def test_bytes_raw_round_trip(elements: list[bytes]) -> None:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    raw = array_to_raw(array, "BYTES")
    back = array_from_raw(raw, DATATYPES["BYTES"], (len(elements),), "x")
    assert back.tolist() == elements


@given(st.binary(max_size=64), st.lists(st.integers(0, 3), max_size=3))
def test_any_raw_bytes_decode_or_are_refused(raw: bytes, shape: list[int]) -> None:
    for datatype in DATATYPES.values():
        with suppress(InvalidInput):
            assert array_from_raw(raw, datatype, tuple(shape), "x").shape == tuple(shape)


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=2, max_side=5)))
def test_bfloat16_rounds_to_the_nearest(array: np.ndarray[Any, Any]) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with np.errstate(all="ignore"):
        expected = array.astype(ml_dtypes.bfloat16).astype(np.float32)
    raw = array_to_raw(array, "BF16")
    back = array_from_raw(raw, DATATYPES["BF16"], array.shape, "x")
    np.testing.assert_array_equal(back, expected)


def test_documented_blobs() -> None:
    """The examples of the binary tensor extension."""
    text = np.array([b"ab", b"c"], dtype=object)
    assert array_to_raw(text, "BYTES").hex(" ") == "02 00 00 00 61 62 01 00 00 00 63"
    assert array_to_raw(np.array([True, False, True]), "BOOL") == b"\x01\x00\x01"
    assert array_to_raw(np.array([1, 2], "f4"), "FP32").hex(" ") == "00 00 80 3f 00 00 00 40"


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "message"),
    [
        ("FP32", (2,), [1.0], "has 1 elements, but its shape [2] needs 2"),
        ("FP32", (2, 2), [[1, 2], [3]], "rows of different lengths"),
        ("FP32", (1,), ["1.5"], "text such as '1.5'"),
        ("FP32", (2,), [1.0, "x"], "text such as"),
        ("FP32", (1,), [{"a": 1}], "where a number belongs"),
        ("FP32", (2,), [True, False], "true and false"),
        ("FP32", (1,), 1.0, 'expected "data" to be a list'),
        ("INT8", (1,), [300], "outside the range of INT8 (-128 to 127): 300"),
        ("UINT8", (1,), [-1], "outside the range of UINT8"),
        ("INT64", (1,), [1.5], "holds fractions"),
        ("INT64", (1,), [2**70], "the number 1180591620717411303424"),
        ("INT32", (1,), [None], "null"),
        ("BOOL", (1,), [1], "numbers such as 1"),
        ("BYTES", (1,), [1], "which is not a string"),
        ("FP64", (1,), [10**400], "too large for a float"),
    ],
)
def test_wrong_json_is_named(
    datatype: str, shape: tuple[int, ...], data: Any, message: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        array_from_json(data, DATATYPES[datatype], shape, "in")
    assert "'in'" in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("datatype", "data", "expected"),
    [
        ("FP32", [1, 2], np.array([1, 2], "f4")),
        ("FP64", [1.5, None], np.array([1.5, np.nan])),
        ("INT64", [1.0, 2.0], np.array([1, 2])),
        ("UINT64", [2**63, 1], np.array([2**63, 1], "u8")),
        ("FP64", [2**70, 1], np.array([2.0**70, 1.0])),
        ("BOOL", [True, False], np.array([True, False])),
        ("FP16", [0.5, 1], np.array([0.5, 1], "f2")),
    ],
)
def test_lenient_json(datatype: str, data: Any, expected: np.ndarray[Any, Any]) -> None:
    array = array_from_json(data, DATATYPES[datatype], (2,), "in")
    assert array.dtype == expected.dtype
    np.testing.assert_array_equal(array, expected)


def test_nested_text_keeps_its_shape() -> None:
    array = array_from_json([["a", "b"], ["c", "d"]], DATATYPES["BYTES"], (2, 2), "in")
    assert array.tolist() == [[b"a", b"b"], [b"c", b"d"]]


def test_bytes_that_json_cannot_carry() -> None:
    with pytest.raises(InvalidInput, match="binary_data"):
        array_to_json(np.array([b"\xff"], dtype=object), "out")


def test_names_are_found_in_any_case() -> None:
    assert find_datatype("fp32", "in").name == "FP32"
    with pytest.raises(InvalidInput, match="datatype 'FLOAT', which does not exist"):
        find_datatype("FLOAT", "in")


@pytest.mark.parametrize(
    ("array", "name"),
    [
        (np.array(["a"]), "BYTES"),
        (np.array([b"a"]), "BYTES"),
        (np.array(["2020-01-01"], "M8[D]"), "BYTES"),
        (np.array([1], ">i8"), "INT64"),
        (np.array([1.0], "f2"), "FP16"),
    ],
)
def test_datatype_of(array: np.ndarray[Any, Any], name: str) -> None:
    assert datatype_of(array) == name


def test_datatype_of_complex_is_refused() -> None:
    with pytest.raises(TypeError, match="complex"):
        datatype_of(np.array([1j]))
