"""V1: what a payload means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kedge.protocol import v1
from kedge.protocol.errors import InvalidInput
from kedge.protocol.v1 import Columns


def test_numbers_become_an_array() -> None:
    rows = v1.rows({"instances": [[1, 2], [3, 4]]})
    assert isinstance(rows, np.ndarray)
    assert rows.tolist() == [[1, 2], [3, 4]]


def test_inputs_win_over_instances() -> None:
    rows = v1.rows({"inputs": [[1]], "instances": [[2]]})
    assert isinstance(rows, np.ndarray)
    assert rows.tolist() == [[1]]


def test_strings_stay_a_list() -> None:
    assert v1.rows({"instances": ["a", "b"]}) == ["a", "b"]


@pytest.mark.parametrize(
    ("instances", "expected"),
    [
        ([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}], {"a": [1, 2], "b": ["x", "y"]}),
        ([{"a": [1, 2], "b": [3, 4]}], {"a": [1, 2], "b": [3, 4]}),
        ([[{"a": 1}, {"a": 2}], [{"a": 3}]], {"a": [1, 2, 3]}),
        ([{"a": [1, 2], "b": 5}], {"a": [1, 2], "b": [5, 5]}),
    ],
)
def test_objects_become_columns(instances: list[Any], expected: dict[str, list[Any]]) -> None:
    rows = v1.rows({"instances": instances})
    assert isinstance(rows, Columns)
    assert rows.values == expected


def test_known_columns_fix_order_drop_and_fill() -> None:
    rows = v1.rows({"instances": [{"z": 1, "b": 2}]}, ["a", "b"])
    assert isinstance(rows, Columns)
    assert list(rows.values) == ["a", "b"]
    assert np.isnan(rows.values["a"][0])
    assert len(rows) == 1


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"raw", "unsupported payload type <class 'bytes'>"),
        ([1], "unsupported payload type <class 'list'>"),
        ({}, 'neither "instances" nor "inputs"'),
        ({"inputs": 3}, 'Expected "inputs" to be a list'),
        ({"instances": [[1, 2], [3]]}, "instances[1] has 1 values, but instances[0] has 2"),
        ({"instances": [[1, 2], 3]}, "instances[1] has no list"),
        ({"instances": ["a", 1]}, "instances[1] is not a string"),
        ({"instances": [{"a": 1}, 2]}, "instances[1] is not an object"),
        ({"instances": [{"a": [1, 2], "b": [1]}]}, "columns of different lengths"),
    ],
)
def test_wrong_payloads_are_named(payload: Any, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        v1.rows(payload)
    assert message in str(caught.value)


@pytest.mark.parametrize("kind", ["", "application/json", "application/json; charset=utf-8"])
def test_body_must_be_json(kind: str) -> None:
    assert v1.decode_request(b'{"instances": []}', kind) == {"instances": []}
    with pytest.raises(InvalidInput, match="Unrecognized request format"):
        v1.decode_request(b"nope", kind)


def test_other_content_types_reach_the_model_raw() -> None:
    assert v1.decode_request(b"\x00\x01", "application/avro") == b"\x00\x01"


def test_instances_must_be_a_list() -> None:
    with pytest.raises(InvalidInput, match='Expected "instances" to be a list'):
        v1.decode_request(b'{"instances": 3}')


def test_answers_lose_nan_and_keep_keys() -> None:
    answer = {"predictions": [float("nan"), np.float32(0.5), {1: np.array([1, 2])}]}
    assert v1.encode_response(answer) == b'{"predictions":[null,0.5,{"1":[1,2]}]}'
