"""Open Inference as protocol buffers: messages to requests, responses to messages.

A request is raw when `raw_input_contents` carries its tensors; the answer then is raw, too. FP16
and BF16 have no typed field and always travel raw.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np

from kedge.protocol.datatypes import (
    DATATYPES,
    MAX_DIMENSIONS,
    Array,
    Datatype,
    array_from_raw,
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


def decode_request(message: ModelInferRequest) -> InferRequest:
    """The request in a message."""
    name = message.model_name
    if not message.inputs:
        raise InvalidInput("Expected at least one tensor in inputs.")
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise InvalidInput(
            f"the number of inputs ({len(message.inputs)}) does not match the expected number of "
            f"raw input contents ({len(raw)}) for model '{name}'."
        )
    inputs = [
        _decode_input(one, raw[index] if raw else None, name)
        for index, one in enumerate(message.inputs)
    ]
    return InferRequest(
        model_name=name,
        inputs=inputs,
        id=message.id or str(uuid.uuid4()),
        model_version=message.model_version,
        parameters=decode_parameters(message.parameters),
        outputs=[
            RequestedOutput(one.name, decode_parameters(one.parameters)) for one in message.outputs
        ]
        or None,
        raw=bool(raw),
    )


def _decode_input(
    one: ModelInferRequest.InferInputTensor, raw: bytes | None, model_name: str
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
    try:
        return np.array(values, dtype=datatype.dtype).reshape(shape)
    except OverflowError as error:
        raise InvalidInput(
            f"Input '{tensor}' has a value outside the range of {datatype.name}."
        ) from error


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
    message = ModelInferResponse(
        model_name=response.model_name, model_version=response.model_version, id=response.id
    )
    if response.parameters:
        encode_parameters(message.parameters, response.parameters)
    for tensor in response.outputs:
        wire = message.outputs.add(
            name=tensor.name, datatype=tensor.datatype, shape=tensor.array.shape
        )
        if tensor.parameters:
            encode_parameters(wire.parameters, tensor.parameters)
        if raw:
            blob = array_to_raw(tensor.array, tensor.datatype)
            wire.parameters["binary_data_size"].int64_param = len(blob)
            message.raw_output_contents.append(blob)
        else:
            _to_contents(wire.contents, tensor)
    return message


def _to_contents(contents: InferTensorContents, tensor: Tensor) -> None:
    values = tensor.array.ravel().tolist()
    if tensor.datatype == "BYTES":
        contents.bytes_contents.extend(to_bytes(value) for value in values)
    else:
        getattr(contents, DATATYPES[tensor.datatype].contents).extend(values)


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
