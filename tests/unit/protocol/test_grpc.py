"""Open Inference as protocol buffers."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kedge.protocol.datatypes import DATATYPES, Array
from kedge.protocol.errors import InvalidInput
from kedge.protocol.inference import (
    InferRequest,
    InferResponse,
    ModelMetadata,
    RequestedOutput,
    Tensor,
    TensorMetadata,
)
from kedge.protocol.open_inference import generate, grpc
from kedge.protocol.open_inference.messages import (
    InferTensorContents,
    ModelInferRequest,
    ModelInferResponse,
)
from kedge.protocol.open_inference.packed import read_packed, write_packed


def request() -> InferRequest:
    made = InferRequest.from_json(
        "m",
        {
            "a": ("FP32", [2, 2], [1, 2, 3, 4]),
            "b": ("BYTES", [2], ["x", ""]),
            "c": ("UINT8", [3], [0, 1, 255]),
            "d": ("INT64", [1], [-(2**63)]),
            "e": ("BOOL", [2], [True, False]),
        },
    )
    made.id = "7"
    made.parameters = {"s": "x", "i": -3, "b": True, "f": 0.5, "u": 2**63}
    made.outputs = [RequestedOutput("y", {"k": 1})]
    return made


@pytest.mark.parametrize("raw", [True, False])
def test_round_trip(raw: bool) -> None:
    sent = request()
    wire = grpc.encode_request(sent, raw=raw).SerializeToString()
    back = grpc.decode_request(ModelInferRequest.FromString(wire))
    assert back.raw is raw
    assert (back.id, back.parameters, back.outputs) == ("7", sent.parameters, sent.outputs)
    for one, other in zip(back.inputs, sent.inputs, strict=True):
        assert (one.name, one.datatype, one.shape) == (other.name, other.datatype, other.shape)
        np.testing.assert_array_equal(one.array, other.array)


@pytest.mark.parametrize("raw", [True, False])
def test_response_round_trip(raw: bool) -> None:
    outputs = [
        Tensor.from_array("a", np.array([[1.5, 2.5]])),
        Tensor.from_array("b", np.array(["x"], dtype=object)),
    ]
    message = grpc.encode_response(InferResponse("m", outputs, "7", "2", {"p": 1}), raw=raw)
    assert bool(message.raw_output_contents) is raw
    back = grpc.decode_response(ModelInferResponse.FromString(message.SerializeToString()))
    assert (back.model_version, back.parameters) == ("2", {"p": 1})
    assert back.output("a").array.tolist() == [[1.5, 2.5]]
    assert back.output("b").array.tolist() == [b"x"]


def test_half_floats_are_always_raw() -> None:
    outputs = [Tensor.from_array("a", np.array([0.5], "f2"))]
    message = grpc.encode_response(InferResponse("m", outputs), raw=False)
    assert list(message.raw_output_contents) == [b"\x00\x38"]


def wire(**fields: Any) -> ModelInferRequest:
    one = ModelInferRequest.InferInputTensor(
        **({"name": "x", "datatype": "FP32", "shape": [2]} | fields)
    )
    return ModelInferRequest(model_name="m", inputs=[one])


def test_bad_messages_are_named() -> None:
    cases: list[tuple[ModelInferRequest, str]] = [
        (ModelInferRequest(model_name="m"), "at least one tensor"),
        (wire(datatype="FP31"), "datatype 'FP31'"),
        (wire(shape=[-1]), "none negative"),
        (wire(), "has 0 elements in fp32_contents"),
        (wire(datatype="FP16"), "FP16 has no typed contents"),
    ]
    typed = wire()
    typed.inputs[0].contents.fp32_contents.extend([1, 2])
    typed.raw_input_contents.append(b"12345678")
    cases.append((typed, "contents field must not be specified when using raw_input_contents"))
    unpaired = wire()
    unpaired.raw_input_contents.extend([b"12345678", b""])
    cases.append((unpaired, "the number of inputs (1) does not match"))
    narrow = wire(datatype="UINT8", shape=[1])
    narrow.inputs[0].contents.uint_contents.append(300)
    cases.append((narrow, "outside the range of UINT8"))
    for message, expected in cases:
        with pytest.raises(InvalidInput) as caught:
            grpc.decode_request(message)
        assert expected in str(caught.value)


def test_metadata() -> None:
    metadata = ModelMetadata(
        "m", "p", ("1",), (TensorMetadata("x", "FP32", (-1, 4)),), (), {"k": "v"}
    )
    message = grpc.encode_metadata(metadata)
    assert list(message.inputs[0].shape) == [-1, 4]
    assert dict(message.properties) == {"k": "v"}


def test_generated_files_are_current() -> None:
    pytest.importorskip("grpc_tools")
    for name, text in generate.generate().items():
        assert (generate.HERE / name).read_text() == text, f"{name}: run generate.py"


def _wire(*arrays: Array) -> bytes:
    tensors = [Tensor.from_array(f"x{at}", array) for at, array in enumerate(arrays)]
    return grpc.encode_request(InferRequest("m", tensors, "id")).SerializeToString()


@pytest.mark.parametrize("size", [4, 100_000])
def test_raw_contents_are_taken_out_of_large_messages(size: int) -> None:
    arrays = np.arange(size, dtype="<f4"), np.arange(size)
    rest, tensors = grpc.split_raw(memoryview(_wire(*arrays)))
    assert (tensors is None) == (size == 4)
    back = grpc.decode_request(ModelInferRequest.FromString(bytes(rest)), tensors)
    for tensor, array in zip(back.inputs, arrays, strict=True):
        assert np.array_equal(tensor.array, array)
    assert back.id == "id"


@given(st.integers(0, 200), st.binary(max_size=20), st.integers(0, 2**64))
def test_splitting_loses_nothing(at: int, noise: bytes, number: int) -> None:
    """A damaged message is parsed as a whole, or says the same in parts."""
    whole = _wire(np.zeros(20_000))
    damaged = whole[:at] + noise + whole[at:]
    rest, tensors = grpc.split_raw(memoryview(damaged))
    if tensors is None:
        assert rest == damaged
        return
    with suppress(DecodeError):
        parsed = ModelInferRequest.FromString(damaged)
        assert list(parsed.raw_input_contents) == [bytes(one) for one in tensors]
        parsed.ClearField("raw_input_contents")
        assert parsed == ModelInferRequest.FromString(bytes(rest))


@pytest.mark.parametrize("count", [0, 3, 50_000])
@pytest.mark.parametrize("datatype", ["FP32", "BYTES", "BF16", "BOOL", "INT64"])
def test_large_answers_are_the_same_bytes(count: int, datatype: str) -> None:
    array = np.arange(count).astype(DATATYPES[datatype].dtype)
    array.setflags(write=False)
    response = InferResponse("m", [Tensor("y", datatype, (count,), array)] * 2, "id")
    one = ModelInferResponse.FromString(grpc.serialized(response, raw=True))
    assert one == grpc.encode_response(response, raw=True)


@given(st.data())
def test_many_elements_are_packed_as_few_are(data: st.DataObject) -> None:
    name = data.draw(
        st.sampled_from([n for n, row in DATATYPES.items() if row.size and row.contents])
    )
    field, dtype = DATATYPES[name].contents, DATATYPES[name].dtype
    array = data.draw(hnp.arrays(dtype, st.integers(1, 300)))
    one, other = InferTensorContents(), InferTensorContents()
    getattr(one, field).extend(array.tolist())
    write_packed(other, field, array)
    assert one.SerializeToString() == other.SerializeToString()
    back = read_packed(one, field)
    assert back is not None
    np.testing.assert_array_equal(back.astype(dtype), array)
    one.bytes_contents.append(b"x")
    assert read_packed(one, field) is None


@pytest.mark.parametrize("name", ["INT8", "UINT64", "FP32", "BOOL", "INT64"])
def test_large_typed_tensors_survive(name: str) -> None:
    array = np.arange(1000).astype(DATATYPES[name].dtype)
    if name == "INT64":
        array = -array
    made = InferRequest("m", [Tensor.from_array("x", array)])
    wire = grpc.encode_request(made, raw=False)
    np.testing.assert_array_equal(grpc.decode_request(wire).inputs[0].array, array)


def test_a_large_typed_tensor_beyond_its_range_is_refused() -> None:
    made = InferRequest("m", [Tensor.from_array("x", np.arange(1000))])
    wire = grpc.encode_request(made, raw=False)
    wire.inputs[0].datatype = "INT8"
    wire.inputs[0].contents.int_contents.extend(range(1000))
    with pytest.raises(InvalidInput, match="outside the range of INT8"):
        grpc.decode_request(wire)
