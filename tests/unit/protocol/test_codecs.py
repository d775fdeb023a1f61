"""Tensors, requests and responses as the values they stand for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.protocol.errors import InvalidInput
from kedge.protocol.inference import InferRequest, InferResponse, Tensor
from kedge.protocol.open_inference import rest

PEOPLE = {
    "parameters": {"content_type": "pd"},
    "inputs": [
        {"name": "First Name", "datatype": "BYTES", "parameters": {"content_type": "str"},
         "shape": [2], "data": ["Joanne", "Michael"]},
        {"name": "Age", "datatype": "INT32", "shape": [2, 1], "data": [34, 22]},
        {"name": "Born", "datatype": "BYTES", "parameters": {"content_type": "datetime"},
         "shape": [2], "data": ["1990-01-02T03:04:05", "2002-12-31"]},
        {"name": "Photo", "datatype": "BYTES", "parameters": {"content_type": "base64"},
         "shape": [2], "data": ["aGVsbG8=", "no base64"]},
        {"name": "More", "datatype": "BYTES", "parameters": {"content_type": "pd_json"},
         "shape": [2], "data": ['{"a": 1}', "null"]},
        {"name": "Plain", "datatype": "BYTES", "shape": [2], "data": ["ö", ""]},
        {"name": "Where", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]},
    ],
}  # fmt: skip


def read(body: dict[str, Any]) -> InferRequest:
    return rest.decode_request(orjson.dumps(body), "m")


def tensor(kind: str, *elements: str, name: str = "x") -> dict[str, Any]:
    return {
        "name": name, "datatype": "BYTES", "shape": [len(elements)], "data": list(elements),
        "parameters": {"content_type": kind},
    }  # fmt: skip


def test_a_dataframe_has_a_column_per_input() -> None:
    pytest.importorskip("pandas")
    frame = read(PEOPLE).as_dataframe()
    assert list(frame.columns) == [one["name"] for one in PEOPLE["inputs"]]  # type: ignore[index]  # a dict of the test
    assert frame["First Name"].tolist() == ["Joanne", "Michael"]
    assert frame["Age"].dtype == np.int32 and frame["Age"].tolist() == [34, 22]
    assert frame["Born"][0] == datetime(1990, 1, 2, 3, 4, 5)
    assert frame["Photo"].tolist() == [b"hello", b"no base64"]
    assert frame["More"].tolist() == [{"a": 1}, None]
    assert frame["Plain"].tolist() == ["ö", ""]
    assert frame["Where"][1].tolist() == [3, 4]


def test_a_dataframe_of_unequal_columns_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'b' has 1 rows, but input 'a'"):
        read(
            {"inputs": [tensor("str", "x", "y", name="a"), tensor("str", "z", name="b")]}
        ).as_dataframe()
    with pytest.raises(InvalidInput, match="Two inputs are called 'a'"):
        read({"inputs": [tensor("str", "x", name="a")] * 2}).as_dataframe()


def test_a_response_of_a_dataframe_says_what_its_columns_are() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "number": [1, 2],
            "gap": pandas.array([1, None], dtype="Int64"),
            "flag": [True, False],
            "text": ["a", "b"],
            "raw": [b"a", b"b"],
            "when": pandas.to_datetime(["2020-01-01T00:00:00", "2021-01-01T01:00:00"]),
            "mixed": [{"a": 1}, 2],
        }
    )
    response = InferResponse.from_dataframe("m", frame)
    kinds = {one.name: one.parameters.get("content_type", one.datatype) for one in response.outputs}
    assert kinds == {
        "number": "INT64", "gap": "FP64", "flag": "BOOL", "text": "str", "raw": "base64",
        "when": "datetime", "mixed": "pd_json",
    }  # fmt: skip
    assert response.parameters == {"content_type": "pd"}
    (raw,), _ = rest.encode_response(response)
    told = orjson.loads(raw)
    assert [one["shape"] for one in told["outputs"]] == [[2]] * 7
    assert told["outputs"][1]["data"] == [1.0, None]
    assert told["outputs"][5]["data"][1] == "2021-01-01T01:00:00"
    back = rest.decode_response(raw).as_dataframe()
    assert back["raw"].tolist() == [b"a", b"b"] and back["mixed"].tolist() == [{"a": 1}, 2]
    again = InferRequest.from_dataframe("m", frame).as_dataframe()
    assert again["when"].tolist() == frame["when"].tolist()


@pytest.mark.parametrize(
    ("inputs", "kind", "told"),
    [
        ([tensor("str", "a")], "", {"x": ["a"]}),
        ([tensor("str", "a")], "str", ["a"]),
        ([tensor("base64", "aGk=")], "base64", [b"hi"]),
        ([tensor("", "a"), tensor("base64", "aGk=", name="y")], "dict", {"x": ["a"], "y": [b"hi"]}),
        ([tensor("np", "a", "b")], "np", np.array(["a", "b"])),
    ],
)
def test_requests_decode_by_their_content_type(
    inputs: list[dict[str, Any]], kind: str, told: Any
) -> None:
    found = read({"inputs": inputs, "parameters": {"content_type": kind}}).decode()
    assert np.array_equal(found, told) if isinstance(told, np.ndarray) else found == told


def test_numbers_decode_to_arrays() -> None:
    request = InferRequest.from_json("m", {"x": ("FP32", [2], [1, 2]), "y": ("INT8", [1], [3])})
    assert {name: one.dtype for name, one in request.decode().items()} == {
        "x": np.float32, "y": np.int8,
    }  # fmt: skip
    request.parameters["content_type"] = "np"
    with pytest.raises(InvalidInput, match="has one input, but this one has 2"):
        request.decode()


@pytest.mark.parametrize(
    ("kind", "element"), [("datetime", "yesterday"), ("pd_json", "{"), ("datetime", "ÿ")]
)
def test_an_element_of_another_kind_is_named(kind: str, element: str) -> None:
    with pytest.raises(InvalidInput, match=f"'x' has content type {kind}, but its element 0"):
        read({"inputs": [tensor(kind, element)]}).decode()


@given(
    st.lists(st.text(), min_size=1)
    | st.lists(st.binary(), min_size=1)
    | st.lists(st.datetimes(timezones=st.none() | st.just(UTC)), min_size=1)
    | st.lists(st.lists(st.integers(-(2**53), 2**53) | st.none() | st.booleans()), min_size=1)
)
def test_values_survive_the_wire(values: list[Any]) -> None:
    made = Tensor.from_values("x", values)
    (raw,), _ = rest.encode_response(InferResponse("m", [made]))
    assert rest.decode_response(raw).outputs[0].decode() == values
