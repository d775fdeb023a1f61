"""Requests against declared inputs: what is converted, what is refused, and by what name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pytest

from kedge.protocol.datatypes import Array
from kedge.protocol.errors import InvalidInput
from kedge.protocol.inference import InferRequest, RequestedOutput, TensorMetadata
from kedge.runtimes.tensors import Feeds, TensorModel, conform, sample, texts
from kedge.server.model import row_count


class Echo(TensorModel):
    """Answers its inputs, under its outputs' names."""

    def run(self, feeds: Mapping[str, Array], outputs: tuple[str, ...]) -> Mapping[str, Array]:
        return {name: feeds[name.removeprefix("same-")] for name in outputs}


def echo(**inputs: tuple[str, tuple[int, ...]]) -> Echo:
    model = Echo("m")
    model.inputs = tuple(TensorMetadata(name, *of) for name, of in inputs.items())
    model.outputs = tuple(TensorMetadata(f"same-{name}", *of) for name, of in inputs.items())
    return model


ONE = echo(x=("FP32", (-1, 2)))
TWO = echo(x=("FP32", (-1, 2)), ids=("INT32", (-1,)))


def request(**inputs: tuple[str, list[int], Any]) -> InferRequest:
    return InferRequest.from_json("m", inputs)


def test_one_input_takes_any_name() -> None:
    rows, outputs = ONE.rows(request(anything=("FP64", [1, 2], [[1, 2]])))
    assert (rows.dtype, rows.tolist(), outputs) == (np.float32, [[1.0, 2.0]], ("same-x",))
    answer = ONE.predict(request(x=("FP32", [1, 2], [[1, 2]])), {})
    assert answer.output("same-x").array.tolist() == [[1.0, 2.0]]


def test_several_inputs_go_by_name() -> None:
    given = request(ids=("INT64", [1], [7]), x=("INT8", [1, 2], [[1, 2]]))
    rows, outputs = TWO.rows(given)
    assert isinstance(rows, Feeds)
    assert row_count(cast(Any, rows)) == 1
    assert [array.dtype for array in rows.arrays.values()] == [np.float32, np.int32]
    assert outputs == ("same-x", "same-ids")
    given.outputs = [RequestedOutput("same-ids")]
    assert [one.name for one in TWO.predict(given, {}).outputs] == ["same-ids"]


def test_requested_outputs_must_exist() -> None:
    given = request(x=("FP32", [1, 2], [[1, 2]]))
    given.outputs = [RequestedOutput("nope")]
    with pytest.raises(InvalidInput, match="Unexpected inference output 'nope'"):
        ONE.rows(given)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": ("FP32", [1, 2], [1, 2])}, "Input 'ids' is missing."),
        (
            {"x": ("FP32", [1, 2], [1, 2]), "ids": ("INT32", [1], [1]), "y": ("INT8", [1], [1])},
            "Model m has no input 'y'. Fix: It takes 'x' FP32",
        ),
        (
            {"x": ("FP32", [1, 3], [1, 2, 3]), "ids": ("INT32", [1], [1])},
            "Input 'x' has shape [1, 3], but the model takes [-1, 2] (-1 is any extent).",
        ),
        ({"x": ("FP32", [0, 2], []), "ids": ("INT32", [1], [1])}, "Input 'x' has no rows."),
    ],
)
def test_requests_that_do_not_fit(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        TWO.rows(request(**inputs))
    assert message in str(caught.value)


def test_v1_rows_and_objects() -> None:
    assert ONE.predict({"instances": [[1, 2]]}, {})["predictions"].tolist() == [[1.0, 2.0]]
    assert ONE.predict({"instances": [{"x": [1, 2]}]}, {})["predictions"].tolist() == [[1.0, 2.0]]
    rows = TWO.predict({"instances": [{"x": [1, 2], "ids": 3}, {"x": [4, 5], "ids": 6}]}, {})
    assert rows["predictions"][1] == {"same-x": [4.0, 5.0], "same-ids": 6}


@pytest.mark.parametrize(
    ("instances", "message"),
    [
        ([], "has no rows"),
        ([[1, 2]], 'Send {"instances": [{"x": ..., "ids": ...}]}.'),
        ([{"x": [1, 2], "ids": 1}, 5], "instances[1] is not an object"),
        ([{"x": [1, 2], "ids": 1}, {"x": [1, 2]}], "instances[1] has other fields"),
        ([{"x": [1, 2], "ids": 1}, {"x": [1], "ids": 1}], "'x' has rows of different shapes"),
    ],
)
def test_v1_rows_that_do_not_fit(instances: list[Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        TWO.rows({"instances": instances})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("array", "datatype", "message"),
    [
        (np.array([1.5]), "INT64", "holds fractions"),
        (np.array([300]), "UINT8", "takes UINT8 (0 to 255), but holds 300"),
        (np.array([-1]), "UINT8", "holds -1"),
        (np.array(["a"]), "FP32", "takes FP32, but the request holds text"),
        (np.array([True]), "FP32", "holds true and false"),
        (np.array([1, None]), "FP32", "holds text or null"),
        (np.array([1.0]), "BYTES", "takes BYTES, but the request holds numbers"),
    ],
)
def test_values_that_would_be_lost(array: Array, datatype: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        conform(array, TensorMetadata("x", datatype, (-1,)))
    assert message in str(caught.value)


def test_values_that_are_kept() -> None:
    wanted = TensorMetadata("x", "UINT8", (-1,))
    assert conform(np.array([1.0, 255.0]), wanted).tolist() == [1, 255]
    array = np.zeros(3, np.uint8)
    assert conform(array, wanted) is array
    assert texts(np.array([b"\xc3\xa9", "b"], dtype=object)).tolist() == ["é", "b"]
    with pytest.raises(InvalidInput, match="not UTF-8"):
        texts(np.array([b"\xff"], dtype=object))


def test_samples_fit() -> None:
    for datatype in ("FP32", "INT64", "BOOL", "BYTES"):
        declared = TensorMetadata("x", datatype, (-1, 3))
        assert conform(sample(declared), declared).shape == (1, 3)
    assert TWO.predict(TWO.warm_up(), {}).output("same-ids").array.tolist() == [0]
