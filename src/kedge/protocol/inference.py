"""Requests and responses as every transport sees them: tensors over NumPy arrays.

JSON, binary and gRPC bodies are decoded into these types and encoded from them; models never learn
which transport a request came by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from kedge.protocol import codecs
from kedge.protocol.datatypes import (
    DATATYPES,
    Array,
    array_from_json,
    datatype_of,
    element_count,
    find_datatype,
    to_bytes,
)
from kedge.protocol.errors import InvalidInput

if TYPE_CHECKING:
    import pandas

Parameter = bool | int | float | str
Parameters = dict[str, Parameter]


@dataclass(slots=True)
class Tensor:
    """A named array as it travels.

    Attributes:
        array: the values. BYTES is an object array of `bytes`; BF16 is held as float32. An array
            that came in binary form is a view of the request's bytes and therefore read-only.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    array: Array
    parameters: Parameters = field(default_factory=dict)
    _known: tuple[Array, list[str]] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_texts(
        cls,
        name: str,
        array: Array,
        texts: list[str],
        parameters: Parameters,
    ) -> Tensor:
        """A BYTES tensor whose elements, which stay as they are, were read as text."""
        array.flags.writeable = False
        return cls(name, "BYTES", array.shape, array, parameters, (array, texts))

    @classmethod
    def from_array(cls, name: str, array: Array) -> Tensor:
        return cls(name, datatype_of(array), array.shape, array)

    def texts(self) -> list[str]:
        """The elements of a BYTES tensor as text, flat."""
        if self._known is not None and self._known[0] is self.array:
            return self._known[1]
        try:
            return [to_bytes(element).decode("utf-8") for element in self.array.ravel().tolist()]
        except UnicodeDecodeError as error:
            raise InvalidInput(f"Input '{self.name}' holds bytes that are not UTF-8.") from error

    def decode(self) -> Any:
        """What the tensor stands for, by its `content_type`; see `kedge.protocol.codecs`."""
        return codecs.decode_tensor(self)

    @classmethod
    def from_values(cls, name: str, values: Sequence[Any]) -> Tensor:
        """Texts, bytes, datetimes or any JSON values, with the content type that says so."""
        array, kind = codecs.encode_values(values)
        return cls(name, "BYTES", array.shape, array, {codecs.CONTENT_TYPE: kind})

    def as_numpy(self) -> Array:
        return self.array

    def as_string(self) -> list[str]:
        return self.texts()

    @property
    def data(self) -> list[Any]:
        """The elements as a flat list; BYTES as text where they are text."""
        if self.datatype != "BYTES":
            return self.array.ravel().tolist()
        try:
            return list(self.texts())
        except InvalidInput:
            return self.array.ravel().tolist()


def misfit(tensor: Tensor) -> str:
    """Why a tensor's array is not what its datatype and shape say; empty when it is."""
    array, datatype = tensor.array, tensor.datatype
    if datatype not in DATATYPES:
        return f"there is no datatype {datatype!r}"
    if not isinstance(array, np.ndarray):
        return f"its array is a {type(array).__name__}"
    if array.dtype.kind not in "biufOUSMm" or (datatype == "BYTES") != (
        array.dtype.kind in "OUSMm"
    ):
        return f"{datatype} is not for arrays of {array.dtype}"
    if array.shape != tuple(tensor.shape) and array.size != element_count(tensor.shape):
        return f"its shape is {list(tensor.shape)}, but its array's is {list(array.shape)}"
    return ""


@dataclass(slots=True)
class RequestedOutput:
    """An output the client asks for by name."""

    name: str
    parameters: Parameters = field(default_factory=dict)


@dataclass(slots=True)
class InferRequest:
    """One inference, from whichever transport.

    Attributes:
        id: the client's, or one generated when it gave none.
        model_version: empty when the client asked for none in particular.
        outputs: what to return, in order; None means everything.
        raw: the client sent its tensors in binary form (over gRPC the answer then is, too).
    """

    model_name: str
    inputs: list[Tensor]
    id: str = ""
    model_version: str = ""
    parameters: Parameters = field(default_factory=dict)
    outputs: list[RequestedOutput] | None = None
    raw: bool = False

    @classmethod
    def from_json(
        cls, model_name: str, inputs: Mapping[str, tuple[str, list[int], object]]
    ) -> InferRequest:
        """A request written by hand, for tests and warm-up: name -> (datatype, shape, data)."""
        tensors = [
            Tensor(
                name,
                datatype,
                tuple(shape),
                array_from_json(data, find_datatype(datatype, name), tuple(shape), name),
            )
            for name, (datatype, shape, data) in inputs.items()
        ]
        return cls(model_name, tensors)

    @classmethod
    def from_dataframe(cls, model_name: str, frame: pandas.DataFrame) -> InferRequest:
        """A request with a column per input."""
        from kedge.protocol import dataframes

        tensors = dataframes.from_dataframe(frame)
        return cls(model_name, tensors, parameters={codecs.CONTENT_TYPE: "pd"})

    def as_dataframe(self) -> pandas.DataFrame:
        """The inputs as columns; needs pandas."""
        from kedge.protocol import dataframes

        return dataframes.to_dataframe(self.inputs)

    def decode(self) -> Any:
        """What the request stands for, by its `content_type`; see `kedge.protocol.codecs`."""
        return codecs.decode_request(self)

    def input(self, name: str) -> Tensor:
        for tensor in self.inputs:
            if tensor.name == name:
                return tensor
        raise InvalidInput(
            f"Input '{name}' is missing; the request has "
            f"{', '.join(repr(tensor.name) for tensor in self.inputs)}."
        )


@dataclass(slots=True)
class InferResponse:
    """The answer to an `InferRequest`."""

    model_name: str
    outputs: list[Tensor]
    id: str = ""
    model_version: str = ""
    parameters: Parameters = field(default_factory=dict)

    @classmethod
    def from_arrays(cls, model_name: str, outputs: Mapping[str, Array]) -> InferResponse:
        """A response by name and array; the server adds the request's id."""
        tensors = [Tensor.from_array(name, array) for name, array in outputs.items()]
        return cls(model_name, tensors)

    @classmethod
    def from_dataframe(cls, model_name: str, frame: pandas.DataFrame) -> InferResponse:
        """A response with a column per output; the server adds the request's id."""
        from kedge.protocol import dataframes

        tensors = dataframes.from_dataframe(frame)
        return cls(model_name, tensors, parameters={codecs.CONTENT_TYPE: "pd"})

    def as_dataframe(self) -> pandas.DataFrame:
        """The outputs as columns; needs pandas."""
        from kedge.protocol import dataframes

        return dataframes.to_dataframe(self.outputs)

    def output(self, name: str) -> Tensor:
        for tensor in self.outputs:
            if tensor.name == name:
                return tensor
        raise KeyError(name)

    def select(self, requested: list[RequestedOutput] | None) -> InferResponse:
        """Only the outputs asked for, in the order asked for."""
        if requested is None:
            return self
        by_name = {tensor.name: tensor for tensor in self.outputs}
        chosen = []
        for wanted in requested:
            tensor = by_name.get(wanted.name)
            if tensor is None:
                raise unexpected_output(wanted.name, self.model_name, by_name)
            chosen.append(tensor)
        self.outputs = chosen
        return self


def unexpected_output(name: str, model_name: str, known: Mapping[str, object]) -> InvalidInput:
    return InvalidInput(
        f"Unexpected inference output '{name}' for model '{model_name}'",
        fix=f"Ask for {' or '.join(repr(one) for one in known)}.",
    )


@dataclass(frozen=True, slots=True)
class TensorMetadata:
    """One input or output as the model declares it; -1 in a shape is any extent."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a model tells of itself."""

    name: str
    platform: str = ""
    versions: tuple[str, ...] = ()
    inputs: tuple[TensorMetadata, ...] = ()
    outputs: tuple[TensorMetadata, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        body: dict[str, object] = {"name": self.name}
        if self.versions:
            body["versions"] = list(self.versions)
        body["platform"] = self.platform
        body["inputs"] = [_tensor_json(tensor) for tensor in self.inputs]
        body["outputs"] = [_tensor_json(tensor) for tensor in self.outputs]
        if self.properties:
            body["properties"] = dict(self.properties)
        return body


def _tensor_json(tensor: TensorMetadata) -> dict[str, object]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    """What the server tells of itself."""

    name: str
    version: str
    extensions: tuple[str, ...]


def object_array(elements: list[object]) -> Array:
    """A one-dimensional array of objects: `numpy.array` would look inside them."""
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return cast(Array, array)
