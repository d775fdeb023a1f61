"""Open Inference as protocol buffers: messages to requests, responses to messages.

A request is raw when `raw_input_contents` carries its tensors; the answer then is raw, too. FP16
and BF16 have no typed field and always travel raw.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kedge.protocol.datatypes import (
    DATATYPES,
    MAX_DIMENSIONS,
    Array,
    Datatype,
    array_from_raw,
    array_to_blob,
    array_to_raw,
    element_count,
    find_datatype,
    to_bytes,
)
from kedge.protocol.errors import InvalidInput
from kedge.protocol.inference import (
    InferRequest,
    InferResponse,
    ModelMetadata,
    Parameter,
    Parameters,
    RequestedOutput,
    Tensor,
    TensorMetadata,
    object_array,
)
from kedge.protocol.open_inference.messages import (
    InferParameter,
    InferTensorContents,
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataResponse,
)
from kedge.protocol.open_inference.packed import MANY, read_packed, write_packed

_LARGE = 64 * 1024
_DELIMITED = 2
_RAW_INPUT = 7 << 3 | _DELIMITED
_RAW_OUTPUT = bytes((6 << 3 | _DELIMITED,))


def split_raw(wire: memoryview) -> tuple[bytes | memoryview, list[memoryview] | None]:
    """A serialized request without its raw contents, and these, not copied.

    None in their place where the message is small, or not quite regular: it is parsed as a whole.
    """
    if len(wire) < _LARGE:
        return wire, None
    kept: list[memoryview] = []
    raw: list[memoryview] = []
    position = 0
    try:
        while position < len(wire):
            start = position
            tag, position = _varint(wire, position)
            if tag & 7 == _DELIMITED:
                length, position = _varint(wire, position)
                stop = position + length
                if tag == _RAW_INPUT:
                    raw.append(wire[position:stop])
                else:
                    kept.append(wire[start:stop])
                position = stop
            else:
                return wire, None
    except IndexError:
        return wire, None
    return (b"".join(kept), raw) if position == len(wire) and raw else (wire, None)


def _varint(wire: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = wire[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise IndexError("a number of more than 64 bits")


def serialized(response: InferResponse, *, raw: bool) -> bytes:
    """`encode_response` as bytes; what is large is copied once."""
    if not raw or sum(tensor.array.nbytes for tensor in response.outputs) < _LARGE:
        return encode_response(response, raw=raw).SerializeToString()
    blobs = [array_to_blob(tensor.array, tensor.datatype) for tensor in response.outputs]
    pieces: list[bytes | memoryview] = [_message(response, blobs).SerializeToString()]
    for blob in blobs:
        pieces += [_RAW_OUTPUT + _number(len(blob)), blob]
    return b"".join(pieces)


def _number(value: int) -> bytes:
    """A varint."""
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def decode_request(
    message: ModelInferRequest,
    split: Sequence[memoryview] | None = None,
    request_id: str = "",
) -> InferRequest:
    """The request in a message; its raw contents are there or in `split`.

    Args:
        request_id: what the request is called if it does not say; else it is given a name here.
    """
    name = message.model_name
    if not message.inputs:
        raise InvalidInput("Expected at least one tensor in inputs.")
    raw: Sequence[bytes | memoryview] = message.raw_input_contents if split is None else split
    if raw and len(raw) != len(message.inputs):
        raise InvalidInput(
            f"the number of inputs ({len(message.inputs)}) does not match the expected number of "
            f"raw input contents ({len(raw)}) for model '{name}'."
        )
    inputs = [
        _decode_input(one, raw[index] if raw else None, name)
        for index, one in enumerate(message.inputs)
    ]
    parameters, outputs = message.parameters, message.outputs
    return InferRequest(
        name,
        inputs,
        message.id or request_id or str(uuid.uuid4()),
        message.model_version,
        decode_parameters(parameters) if parameters else {},
        [RequestedOutput(one.name, decode_parameters(one.parameters)) for one in outputs]
        if outputs
        else None,
        bool(raw),
    )


def _decode_input(
    one: ModelInferRequest.InferInputTensor, raw: bytes | memoryview | None, model_name: str
) -> Tensor:
    datatype = find_datatype(one.datatype, one.name)
    shape = tuple(one.shape)
    if shape and (min(shape) < 0 or len(shape) > MAX_DIMENSIONS):
        raise InvalidInput(
            f"Input '{one.name}' has shape {list(shape[:40])}; it must have at most "
            f"{MAX_DIMENSIONS} dimensions, none negative."
        )
    if raw is None:
        array = _from_contents(one.contents, datatype, shape, one.name)
    elif one.HasField("contents"):
        raise InvalidInput(
            "contents field must not be specified when using raw_input_contents for input "
            f"'{one.name}' for model '{model_name}'."
        )
    else:
        array = array_from_raw(raw, datatype, shape, one.name)
    parameters = decode_parameters(one.parameters) if one.parameters else {}
    return Tensor(one.name, datatype.name, shape, array, parameters)


def _from_contents(
    contents: InferTensorContents, datatype: Datatype, shape: tuple[int, ...], tensor: str
) -> Array:
    if not datatype.contents:
        raise InvalidInput(
            f"Input '{tensor}': {datatype.name} has no typed contents.",
            fix="Send it in raw_input_contents.",
        )
    values = getattr(contents, datatype.contents)
    if len(values) != (wanted := element_count(shape)):
        raise InvalidInput(
            f"Input '{tensor}' has {len(values)} elements in {datatype.contents}, but its shape "
            f"{list(shape)} needs {wanted}."
        )
    if datatype.name == "BYTES":
        return object_array(list(values)).reshape(shape)
    packed = read_packed(contents, datatype.contents) if wanted >= MANY else None
    whole = datatype.dtype.kind in "iu"
    array = np.array(values, None if whole else datatype.dtype) if packed is None else packed
    if whole and array.size:
        limits = np.iinfo(datatype.dtype)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise InvalidInput(
                f"Input '{tensor}' has a value outside the range of {datatype.name}."
            )
    return array.astype(datatype.dtype, copy=False).reshape(shape)


def decode_parameters(wire: Mapping[str, InferParameter]) -> Parameters:
    decoded: Parameters = {}
    for key, parameter in wire.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is not None:
            decoded[key] = getattr(parameter, kind)
    return decoded


def _parameter(value: Parameter) -> InferParameter:
    if isinstance(value, bool):
        return InferParameter(bool_param=value)
    if isinstance(value, int):
        if value >= 2**63:
            return InferParameter(uint64_param=value)
        return InferParameter(int64_param=value)
    if isinstance(value, float):
        return InferParameter(double_param=value)
    return InferParameter(string_param=value)


def encode_parameters(wire: Any, parameters: Parameters) -> None:
    """Writes `parameters` into a message's map."""
    for key, value in parameters.items():
        wire[key].CopyFrom(_parameter(value))


def encode_response(response: InferResponse, *, raw: bool) -> ModelInferResponse:
    """The message of a response; raw as asked, or where an output knows no other form."""
    raw = raw or any(not DATATYPES[tensor.datatype].contents for tensor in response.outputs)
    if raw:
        blobs = [array_to_raw(tensor.array, tensor.datatype) for tensor in response.outputs]
        message = _message(response, blobs)
        message.raw_output_contents.extend(blobs)
    else:
        message = _message(response)
        for wire, tensor in zip(message.outputs, response.outputs, strict=True):
            _to_contents(wire.contents, tensor)
    return message


def _message(
    response: InferResponse, blobs: Sequence[bytes | memoryview] = ()
) -> ModelInferResponse:
    """The message without its values; of `blobs` it says the sizes."""
    message = ModelInferResponse(
        model_name=response.model_name, model_version=response.model_version, id=response.id
    )
    if response.parameters:
        encode_parameters(message.parameters, response.parameters)
    for index, tensor in enumerate(response.outputs):
        wire = message.outputs.add(
            name=tensor.name, datatype=tensor.datatype, shape=tensor.array.shape
        )
        if tensor.parameters:
            encode_parameters(wire.parameters, tensor.parameters)
        if blobs:
            wire.parameters["binary_data_size"].int64_param = len(blobs[index])
    return message


def _to_contents(contents: InferTensorContents, tensor: Tensor) -> None:
    flat = tensor.array.ravel()
    field = DATATYPES[tensor.datatype].contents
    if tensor.datatype == "BYTES":
        contents.bytes_contents.extend(to_bytes(value) for value in flat.tolist())
    elif flat.size >= MANY and flat.dtype == DATATYPES[tensor.datatype].dtype:
        write_packed(contents, field, flat)
    else:
        getattr(contents, field).extend(flat.tolist())


def encode_request(request: InferRequest, *, raw: bool = True) -> ModelInferRequest:
    """The message of a request, as a client sends it."""
    message = ModelInferRequest(
        model_name=request.model_name, model_version=request.model_version, id=request.id
    )
    encode_parameters(message.parameters, request.parameters)
    for tensor in request.inputs:
        wire = message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        encode_parameters(wire.parameters, tensor.parameters)
        if raw:
            message.raw_input_contents.append(array_to_raw(tensor.array, tensor.datatype))
        else:
            _to_contents(wire.contents, tensor)
    for wanted in request.outputs or []:
        output = message.outputs.add(name=wanted.name)
        encode_parameters(output.parameters, wanted.parameters)
    return message


def decode_response(message: ModelInferResponse) -> InferResponse:
    """The response in a message, as a client reads it."""
    outputs = []
    for index, one in enumerate(message.outputs):
        datatype = find_datatype(one.datatype, one.name)
        shape = tuple(one.shape)
        if message.raw_output_contents:
            array = array_from_raw(message.raw_output_contents[index], datatype, shape, one.name)
        else:
            array = _from_contents(one.contents, datatype, shape, one.name)
        outputs.append(
            Tensor(one.name, datatype.name, shape, array, decode_parameters(one.parameters))
        )
    return InferResponse(
        message.model_name,
        outputs,
        message.id,
        message.model_version,
        decode_parameters(message.parameters),
    )


def encode_metadata(metadata: ModelMetadata) -> ModelMetadataResponse:
    return ModelMetadataResponse(
        name=metadata.name,
        versions=metadata.versions,
        platform=metadata.platform,
        inputs=[_tensor_metadata(tensor) for tensor in metadata.inputs],
        outputs=[_tensor_metadata(tensor) for tensor in metadata.outputs],
        properties=metadata.properties,
    )


def _tensor_metadata(tensor: TensorMetadata) -> ModelMetadataResponse.TensorMetadata:
    return ModelMetadataResponse.TensorMetadata(
        name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
    )
