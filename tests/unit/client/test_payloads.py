"""The same data over every protocol: rows, V1 bodies and V2 bodies turned into each other."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.client.errors import InferenceError
from kedge.client.payloads import is_v2, nest, sample_inputs, shape_of, to_v1, to_v2

ROWS = [[1.0, 2.0], [3.0, 4.0]]
DECLARED = [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
TENSOR = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": ROWS}


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (ROWS, {"instances": ROWS}),
        ([1.0, 2.0], {"instances": [[1.0, 2.0]]}),
        ([{"a": 1}], {"instances": [{"a": 1}]}),
        ({"instances": ROWS, "signature_name": "s"}, {"instances": ROWS, "signature_name": "s"}),
        ({"inputs": ROWS}, {"inputs": ROWS}),
        ({"inputs": [TENSOR]}, {"instances": ROWS}),
        ({"inputs": [{**TENSOR, "data": [1.0, 2.0, 3.0, 4.0]}]}, {"instances": ROWS}),
    ],
)
def test_to_v1(body: Any, wanted: Any) -> None:
    assert to_v1(body) == wanted


@pytest.mark.parametrize(
    ("body", "inputs", "wanted"),
    [
        (ROWS, DECLARED, [TENSOR]),
        ([1.0, 2.0], DECLARED, [{**TENSOR, "shape": [1, 2], "data": [[1.0, 2.0]]}]),
        ({"instances": ROWS}, DECLARED, [TENSOR]),
        (ROWS, [], [{"name": "input-0", "shape": [2, 2], "datatype": "FP64", "data": ROWS}]),
        (
            [["a"], ["b"]],
            [],
            [{"name": "input-0", "shape": [2, 1], "datatype": "BYTES", "data": [["a"], ["b"]]}],
        ),
        (
            [{"age": 3, "name": "x"}],
            [{"name": "age", "datatype": "INT64"}],
            [
                {"name": "age", "shape": [1], "datatype": "INT64", "data": [3]},
                {"name": "name", "shape": [1], "datatype": "BYTES", "data": ["x"]},
            ],
        ),
        (
            [[1, "x"], [2, "y"]],
            [{"name": "a", "datatype": "INT64"}, {"name": "b", "datatype": "BYTES"}],
            [
                {"name": "a", "shape": [2], "datatype": "INT64", "data": [1, 2]},
                {"name": "b", "shape": [2], "datatype": "BYTES", "data": ["x", "y"]},
            ],
        ),
    ],
)
def test_to_v2(body: Any, inputs: Any, wanted: Any) -> None:
    assert to_v2(body, inputs) == {"inputs": wanted}


def test_a_v2_body_goes_as_it_is() -> None:
    body = {"inputs": [TENSOR], "id": "7"}
    assert is_v2(body)
    assert to_v2(body, []) is body
    assert not is_v2({"inputs": ROWS})
    assert not is_v2(ROWS)


@pytest.mark.parametrize(
    ("convert", "told"),
    [
        (lambda: to_v1({"inputs": [TENSOR, TENSOR]}), "several tensors"),
        (lambda: to_v1("text"), "is a str"),
        (lambda: to_v2({"rows": 1}, []), 'neither "instances" nor "inputs"'),
        (lambda: to_v2([[1]], [*DECLARED, *DECLARED]), "1 values, and the model has 2 inputs"),
    ],
)
def test_what_cannot_be_sent_is_named(convert: Any, told: str) -> None:
    with pytest.raises(InferenceError, match=told) as caught:
        convert()
    assert caught.value.fix


def test_a_sample_has_the_declared_shape_and_type() -> None:
    declared = [*DECLARED, {"name": "t", "datatype": "BYTES", "shape": [-1]}]
    assert sample_inputs(declared) == [
        {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0.0, 0.0]},
        {"name": "t", "shape": [1], "datatype": "BYTES", "data": [""]},
    ]
    assert sample_inputs([]) == []


def test_nesting_and_shapes() -> None:
    assert nest([1, 2, 3, 4], [2, 2]) == [[1, 2], [3, 4]]
    assert nest(list(range(8)), [2, 2, 2]) == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    assert nest([1, 2], [2]) == [1, 2]
    assert shape_of([[1, 2, 3]]) == [1, 3]
    assert shape_of([]) == [0]
