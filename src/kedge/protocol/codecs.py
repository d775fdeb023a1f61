"""Tensors as the values they stand for, by `content_type`: MLServer's convention.

A tensor's parameter `content_type` says what its elements are beyond their datatype:

=========== =============================== =======================================
content type decoded                         travels as
=========== =============================== =======================================
np           an array                        its own datatype; BYTES hold text
str          a list of texts                 BYTES, UTF-8
base64       a list of bytes                 BYTES, base64
datetime     a list of `datetime.datetime`   BYTES, ISO 8601
pd_json      a list of JSON values           BYTES, JSON
=========== =============================== =======================================

A request's own `content_type` is for it as a whole: `pd` is a dataframe (see `dataframes`), `dict`
an array per name; any other is that of its one input.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from kedge.protocol.datatypes import Array, to_bytes
from kedge.protocol.errors import InvalidInput

if TYPE_CHECKING:
    from kedge.protocol.inference import InferRequest, Tensor

CONTENT_TYPE = "content_type"


def content_type_of(parameters: Mapping[str, Any]) -> str:
    found = parameters.get(CONTENT_TYPE, "")
    return found.partition(";")[0].strip().lower() if isinstance(found, str) else ""


# -- decoding ------------------------------------------------------------------------------------


def decode_tensor(tensor: Tensor) -> Any:
    """What a tensor stands for; without a content type, text is text and all else an array."""
    kind = content_type_of(tensor.parameters)
    if kind in _ELEMENTS and tensor.datatype == "BYTES":
        return cells(tensor)
    if kind == "np" or tensor.datatype != "BYTES":
        return _text_array(tensor) if tensor.datatype == "BYTES" else tensor.array
    return tensor.data


def decode_request(request: InferRequest) -> Any:
    """What a request stands for; without a content type of its own, a dict by input."""
    kind = content_type_of(request.parameters)
    if kind == "pd":
        return request.as_dataframe()
    if kind and kind != "dict":
        if len(request.inputs) != 1:
            raise InvalidInput(
                f'A request of content type "{kind}" has one input, but this one has '
                f"{len(request.inputs)}.",
                fix='For a column per input, set "content_type" to "pd".',
            )
        (tensor,) = request.inputs
        return tensor.array if kind == "np" and tensor.datatype != "BYTES" else tensor.decode()
    return {tensor.name: tensor.decode() for tensor in request.inputs}


def cells(tensor: Tensor) -> list[Any]:
    """A tensor's elements as values, flat."""
    if tensor.datatype != "BYTES":
        return tensor.array.ravel().tolist()
    kind = content_type_of(tensor.parameters)
    if kind in ("", "np", "str", "pd"):
        return tensor.data if kind == "" else tensor.texts()
    decode = _ELEMENTS.get(kind)
    if decode is None:
        return tensor.data
    found = []
    for index, element in enumerate(tensor.array.ravel().tolist()):
        try:
            found.append(decode(to_bytes(element)))
        except ValueError as error:
            raise InvalidInput(
                f"Input '{tensor.name}' has content type {kind}, but its element {index} is not "
                f"of it: {error}."
            ) from error
    return found


def _text_array(tensor: Tensor) -> Array:
    return np.array(tensor.texts()).reshape(tensor.array.shape)


def _base64(raw: bytes) -> bytes:
    try:
        return base64.b64decode(raw, validate=True)
    except binascii.Error:
        return raw  # As MLServer: it was not encoded after all.


_ELEMENTS: dict[str, Callable[[bytes], Any]] = {
    "str": bytes.decode,
    "base64": _base64,
    "datetime": lambda raw: datetime.fromisoformat(raw.decode()),
    "pd_json": orjson.loads,
}


# -- encoding ------------------------------------------------------------------------------------


def encode_values(values: Sequence[Any]) -> tuple[Array, str]:
    """Values of a list as the elements of a BYTES tensor, and their content type."""
    fits = (row for row in _ENCODERS if all(isinstance(one, row[1]) for one in values))
    kind, _, encode = next(fits)
    array: Array = np.empty(len(values), dtype=object)
    array[:] = [encode(one) for one in values]
    return array, kind


_ENCODERS: tuple[tuple[str, type, Callable[[Any], bytes]], ...] = (
    ("str", str, str.encode),
    ("base64", bytes, base64.b64encode),
    ("datetime", datetime, lambda one: one.isoformat().encode()),
    ("pd_json", object, orjson.dumps),
)
