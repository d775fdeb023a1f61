"""What people give to be predicted, turned into what a protocol wants.

Taken are a V1 body (`{"instances": [...]}`), a V2 body (`{"inputs": [{"name": ...}]}`) and bare
rows (`[[6.8, 2.8, 4.8, 1.4]]`, or one row). Rows become V2 tensors by the model's own metadata, so
that the same data works over every protocol.
"""

from __future__ import annotations

from typing import Any

from kedge.client.errors import InferenceError

_EXAMPLE = "[[6.8, 2.8, 4.8, 1.4]]"

ZEROS: dict[str, Any] = {"BYTES": "", "BOOL": False, "FP16": 0.0, "FP32": 0.0, "FP64": 0.0}
"""The sample value of a datatype; 0 for the integers."""


def is_v2(body: Any) -> bool:
    """Whether a body is an Open Inference request."""
    inputs = body.get("inputs") if isinstance(body, dict) else None
    return (
        isinstance(inputs, list)
        and bool(inputs)
        and all(isinstance(one, dict) and "datatype" in one for one in inputs)
    )


def to_v1(body: Any) -> dict[str, Any]:
    """The V1 request that a body means."""
    if is_v2(body):
        if len(body["inputs"]) != 1:
            raise _not_for("V1", "several tensors cannot be told as rows")
        tensor = body["inputs"][0]
        return {"instances": nest(tensor["data"], tensor["shape"])}
    if isinstance(body, dict):
        return body
    return {"instances": _rows(body)}


def to_v2(body: Any, inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """The V2 request that a body means, for a model whose metadata lists `inputs`."""
    if is_v2(body):
        found: dict[str, Any] = body
        return found
    if isinstance(body, dict):
        rows = body.get("instances", body.get("inputs"))
        if rows is None:
            raise _not_for("V2", 'it has neither "instances" nor "inputs"')
    else:
        rows = body
    rows = _rows(rows)
    if rows and isinstance(rows[0], dict):
        return {"inputs": _columns(rows, inputs)}
    if len(inputs) > 1:
        return {"inputs": _split(rows, inputs)}
    declared = inputs[0] if inputs else {"name": "input-0"}
    datatype = declared.get("datatype") or _datatype(rows)
    return {"inputs": [_tensor(str(declared["name"]), datatype, rows)]}


def sample_inputs(inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row of zeros for each input that a model's metadata declares; [] when it declares none.

    A dimension that may vary is taken as 1.
    """
    tensors = []
    for declared in inputs:
        shape = [1 if extent < 0 else int(extent) for extent in declared.get("shape") or [1]]
        datatype = str(declared.get("datatype") or "FP32")
        data = [ZEROS.get(datatype, 0)] * _product(shape)
        tensors.append(
            {"name": declared["name"], "shape": shape, "datatype": datatype, "data": data}
        )
    return tensors


def nest(data: list[Any], shape: list[int]) -> Any:
    """Flat data as nested lists of that shape; nested data as it is."""
    if len(shape) < 2 or (data and isinstance(data[0], list)):
        return data
    step = _product(shape[1:])
    return [nest(data[i : i + step], shape[1:]) for i in range(0, len(data), step or 1)]


def shape_of(data: Any) -> list[int]:
    """The shape of nested lists, by their first elements."""
    shape = []
    while isinstance(data, list):
        shape.append(len(data))
        data = data[0] if data else None
    return shape


def _rows(data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise InferenceError(
            f"The data is a {type(data).__name__}, and rows are a list.",
            code=400,
            fix=f"Give rows such as {_EXAMPLE}, or a whole V1 or V2 request.",
        )
    return data if data and isinstance(data[0], list | dict) else [data]


def _columns(rows: list[Any], inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that are objects: a tensor for each key."""
    types = {one["name"]: one.get("datatype") for one in inputs}
    tensors = []
    for name in rows[0]:
        column = [row.get(name) for row in rows]
        tensors.append(_tensor(name, types.get(name) or _datatype(column), column))
    return tensors


def _split(rows: list[Any], inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows for a model that wants a tensor per column."""
    if rows and len(rows[0]) != len(inputs):
        names = ", ".join(str(one["name"]) for one in inputs)
        raise InferenceError(
            f"A row has {len(rows[0])} values, and the model has {len(inputs)} inputs: {names}.",
            code=400,
            fix="Give one value for each input.",
        )
    return [
        _tensor(one["name"], one.get("datatype") or "FP64", [row[i] for row in rows])
        for i, one in enumerate(inputs)
    ]


def _tensor(name: str, datatype: str, data: list[Any]) -> dict[str, Any]:
    return {"name": name, "shape": shape_of(data), "datatype": datatype, "data": data}


def _datatype(data: Any) -> str:
    """The datatype that holds values of which nothing is declared."""
    while isinstance(data, list) and data:
        data = data[0]
    if isinstance(data, str):
        return "BYTES"
    return "BOOL" if isinstance(data, bool) else "FP64"


def _product(shape: list[int]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size


def _not_for(protocol: str, why: str) -> InferenceError:
    return InferenceError(
        f"The data cannot be sent over {protocol}: {why}.",
        code=400,
        fix=f"Give rows such as {_EXAMPLE}, or choose another --protocol.",
    )
