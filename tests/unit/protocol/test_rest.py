"""Open Inference over HTTP: bodies to requests and responses to bodies."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.protocol.datatypes import Array
from kedge.protocol.errors import InvalidInput
from kedge.protocol.inference import InferRequest, InferResponse, RequestedOutput, Tensor
from kedge.protocol.open_inference import rest


def body(**fields: Any) -> bytes:
    return orjson.dumps(fields)


def _deep(datatype: bytes, depth: int) -> bytes:
    data = b"[" * depth + b"]" * depth
    return b'{"inputs":[{"name":"x","shape":[1],"datatype":"%b","data":%b}]}' % (datatype, data)


def tensor(**fields: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]} | fields


def test_plain_request() -> None:
    request = rest.decode_request(
        body(
            id="7",
            parameters={"a": 1},
            inputs=[tensor(parameters={"b": "c"})],
            outputs=[{"name": "y", "parameters": {"binary_data": True}}],
        ),
        "m",
        "2",
    )
    assert (request.id, request.model_name, request.model_version) == ("7", "m", "2")
    assert request.parameters == {"a": 1}
    assert request.inputs[0].parameters == {"b": "c"}
    assert request.inputs[0].array.tolist() == [1, 2]
    assert request.outputs == [RequestedOutput("y", {"binary_data": True})]


def test_an_id_is_made_when_none_came() -> None:
    request = rest.decode_request(body(inputs=[tensor()]), "m")
    assert len(request.id) == 36


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "Unrecognized request format"),
        (b"{", "Unrecognized request format"),
        (b"\xff\xfe", "Unrecognized request format"),
        (b'{"inputs":[{"name":"\xff"}]}', "Unrecognized request format"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "missing required field `inputs`"),
        (body(inputs=[]), 'Expected "inputs" to hold at least one tensor'),
        (body(inputs={}), "Expected `array`, got `object` - at `$.inputs`"),
        (body(inputs=[tensor(name=3)]), "`$.inputs[0].name`"),
        (body(inputs=[tensor(shape=["2"])]), "`$.inputs[0].shape[0]`"),
        (body(inputs=[tensor(shape=[-2])]), "none negative"),
        (body(inputs=[tensor(shape=[1] * 40)]), "at most 32 dimensions"),
        (body(inputs=[tensor(datatype="FP31")]), "datatype 'FP31', which does not exist"),
        (body(inputs=[tensor()], id=7), "`$.id`"),
        (body(inputs=[tensor()], parameters={"a": {}}), "parameter 'a', which must be a string"),
        (body(inputs=[tensor()], outputs=[{}]), "missing required field `name`"),
        (
            body(inputs=[{"name": "x", "shape": [1], "datatype": "FP32"}]),
            "'data' field is missing for input 'x' for model 'm'",
        ),
        (b"[" * 100_000, "Expected `object`, got `array`"),
        (b'{"other":' + b"[" * 100_000, "Unrecognized request format"),
        (_deep(b"FP32", 60_000), "Unrecognized request format"),
        (_deep(b"FP32", 100), "nested too deeply"),
        (_deep(b"BYTES", 100), "nested too deeply"),
    ],
)
def test_bad_bodies_are_named(raw: bytes, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        rest.decode_request(raw, "m")
    assert message in str(caught.value)


def binary(size: Any, blob: bytes) -> tuple[bytes, int]:
    one = {"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": size}}
    head = body(inputs=[one])
    return head + blob, len(head)


def test_binary_tensor() -> None:
    raw, length = binary(8, np.array([1, 2], "f4").tobytes())
    request = rest.decode_request(raw, "m", "", length)
    assert request.raw
    assert request.inputs[0].array.tolist() == [1, 2]


def test_json_and_binary_tensors_may_be_mixed() -> None:
    blob = np.array([3, 4], "f4").tobytes()
    one = {"name": "b", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    head = body(inputs=[tensor(), one])
    request = rest.decode_request(head + blob, "m", "", len(head))
    assert [each.array.tolist() for each in request.inputs] == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("size", "blob", "message"),
    [
        (8, b"1234", "binary_data_size 8, but 4 bytes of binary data are left"),
        (4, b"1234", "has 4 bytes of binary data, but FP32 of shape [2] needs 8"),
        (8, b"123456789", "has 9 bytes of binary data, but its inputs account for 8"),
        (-1, b"12345678", "binary_data_size -1"),
        (True, b"12345678", "binary_data_size True"),
        ("8", b"12345678", "binary_data_size '8'"),
    ],
)
def test_bad_binary_is_named(size: Any, blob: bytes, message: str) -> None:
    raw, length = binary(size, blob)
    with pytest.raises(InvalidInput) as caught:
        rest.decode_request(raw, "m", "", length)
    assert message in str(caught.value)


def test_a_length_beyond_the_body_is_named() -> None:
    with pytest.raises(InvalidInput, match="says 99, but the body has 2 bytes"):
        rest.decode_request(b"{}", "m", "", 99)


def response() -> InferResponse:
    outputs = [
        Tensor.from_array("a", np.array([[1, 2], [3, 4]])),
        Tensor.from_array("b", np.array(["x", "y"], dtype=object)),
    ]
    return InferResponse("m", outputs, "7")


def test_json_response_is_flat_and_without_nulls() -> None:
    pieces, length = rest.encode_response(response())
    assert length is None
    assert pieces == [
        b'{"model_name":"m","id":"7","outputs":[{"name":"a","shape":[2,2],"datatype":"INT64",'
        b'"data":[1,2,3,4]},{"name":"b","shape":[2],"datatype":"BYTES","data":["x","y"]}]}'
    ]


@pytest.mark.parametrize(
    ("parameters", "outputs", "expected"),
    [
        ({}, None, []),
        ({"binary_data_output": True}, None, ["a", "b"]),
        ({}, [RequestedOutput("a", {"binary_data": True}), RequestedOutput("b")], ["a"]),
        (
            {"binary_data_output": True},
            [RequestedOutput("a", {"binary_data": False}), RequestedOutput("b")],
            ["b"],
        ),
    ],
)
def test_which_outputs_are_binary(
    parameters: dict[str, Any], outputs: list[RequestedOutput] | None, expected: list[str]
) -> None:
    request = InferRequest("m", [], parameters=parameters, outputs=outputs)
    pieces, length = rest.encode_response(response(), request)
    head = orjson.loads(pieces[0])
    assert [one["name"] for one in head["outputs"] if "data" not in one] == expected
    assert (length is not None) == bool(expected)
    sizes = [one["parameters"]["binary_data_size"] for one in head["outputs"] if "data" not in one]
    assert sizes == [len(piece) for piece in pieces[1:]]


@given(st.booleans())
def test_request_round_trip(as_binary: bool) -> None:
    request = InferRequest.from_json(
        "m",
        {
            "a": ("FP32", [2, 2], [1, 2, 3, 4]),
            "b": ("BYTES", [2], ["x", ""]),
            "c": ("BOOL", [1], [True]),
        },
    )
    raw, length = rest.encode_request(request, binary=as_binary)
    back = rest.decode_request(raw, "m", "", length)
    assert [one.array.tolist() for one in back.inputs] == [
        one.array.tolist() for one in request.inputs
    ]


def test_response_round_trip() -> None:
    request = InferRequest("m", [], outputs=[RequestedOutput("a", {"binary_data": True})])
    pieces, length = rest.encode_response(response(), request)
    back = rest.decode_response(b"".join(pieces), length)
    assert back.output("a").array.tolist() == [[1, 2], [3, 4]]
    assert back.output("b").array.tolist() == [b"x", b"y"]


@given(st.binary(max_size=200), st.one_of(st.none(), st.integers(-5, 250)))
def test_any_bytes_are_decoded_or_refused(raw: bytes, length: int | None) -> None:
    with suppress(InvalidInput):
        rest.decode_request(raw, "m", "", length)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "shape", "datatype", "data", "parameters", "inputs"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_JSON, _JSON, st.sampled_from(["FP32", "INT8", "BYTES", "BOOL", "UINT64", "BF16"]))
def test_any_json_is_decoded_or_refused(data: Any, shape: Any, datatype: str) -> None:
    raw = (
        orjson.dumps(
            {"inputs": [{"name": "x", "shape": shape, "datatype": datatype, "data": data}]},
            option=orjson.OPT_NON_STR_KEYS,
            default=str,
        )
        if _fits(data) and _fits(shape)
        else b"{}"
    )
    try:
        request = rest.decode_request(raw, "m")
    except InvalidInput:
        return
    assert request.inputs[0].array.shape == request.inputs[0].shape


def _fits(value: Any) -> bool:
    """orjson writes integers of up to 64 bits."""
    if isinstance(value, int):
        return -(2**63) <= value < 2**64
    if isinstance(value, list):
        return all(_fits(one) for one in value)
    if isinstance(value, dict):
        return all(_fits(one) for one in value.values())
    return True


@pytest.mark.parametrize(
    "array",
    [
        np.array([0, 2]),
        np.array([[0.5, np.nan], [np.inf, 1e300]]),
        np.array([[1.5], [2.5]], dtype=np.float32),
        np.array([[[1, 2]]], dtype=np.uint8),
        np.array([True, False]),
        np.arange(6).reshape(2, 3).T,
        np.zeros((0, 3)),
    ],
)
@pytest.mark.parametrize("version", ["", "1"])
def test_results_are_written_as_their_tensors_would_be(array: Array, version: str) -> None:
    request = InferRequest("m", [], 'a "name"')
    results = {"one": array, 'an"other': array}
    tensors = [Tensor.from_array(name, one) for name, one in results.items()]
    whole, _ = rest.encode_response(InferResponse("m", tensors, request.id, version))
    assert rest.encode_results("m", version, request, results) == b"".join(whole)


@pytest.mark.parametrize("array", [np.array(["a"]), np.array(3), np.array([1], dtype=">i8")])
def test_results_that_are_no_rows_of_numbers_take_the_long_way(array: Array) -> None:
    assert rest.encode_results("m", "", InferRequest("m", []), {"one": array}) is None


def test_a_request_without_an_id_gets_that_of_its_transport() -> None:
    raw = body(inputs=[tensor()])
    assert rest.decode_request(raw, "m", request_id="abc").id == "abc"
    assert rest.decode_request(body(id="own", inputs=[tensor()]), "m", request_id="a").id == "own"
