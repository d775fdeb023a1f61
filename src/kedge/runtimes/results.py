"""What a model of unknown make returns, as named arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from kedge.protocol.datatypes import Array


def named_arrays(result: Any) -> dict[str, Array]:
    """A mapping or a table gives an output per key or column; all else is `output-0`."""
    if isinstance(result, Mapping):
        return {str(name): _array(value) for name, value in result.items()}
    if hasattr(result, "columns") and hasattr(result, "to_numpy"):
        return {str(column): result[column].to_numpy() for column in result.columns}
    return {"output-0": _array(result)}


def _array(value: Any) -> Array:
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        objects = np.empty(len(value), dtype=object)
        objects[:] = value
        return objects
    array = np.asarray(value)
    return array if array.ndim else array.reshape(1)


def without_objects(array: Array) -> Array:
    """Objects as JSON text, for protocols that carry tensors."""
    if array.dtype.kind != "O" or not any(isinstance(one, Mapping) for one in array.flat):
        return array
    texts = np.empty(array.size, dtype=object)
    texts[:] = [orjson.dumps(one, option=orjson.OPT_SERIALIZE_NUMPY) for one in array.flat]
    return texts.reshape(array.shape)
