"""Requests and responses as pandas dataframes: a column is a tensor.

pandas is imported when it is asked for, and by nothing else here: a server without it serves
everything but dataframes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.protocol.codecs import CONTENT_TYPE, cells, encode_values
from kedge.protocol.errors import InvalidInput, Unsupported
from kedge.protocol.inference import Tensor

if TYPE_CHECKING:
    import pandas


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise Unsupported(
            "Dataframes need pandas, which this server has not.", fix="pip install pandas."
        ) from error
    return pandas


def to_dataframe(tensors: list[Tensor]) -> pandas.DataFrame:
    """A column per tensor, by its name and in order; wider tensors have an array in each cell."""
    columns: dict[str, Any] = {}
    height = len(tensors[0].array) if tensors and tensors[0].array.ndim else 1
    for tensor in tensors:
        rows = len(tensor.array) if tensor.array.ndim else 1
        if rows != height:
            raise InvalidInput(
                f"Input '{tensor.name}' has {rows} rows, but input '{tensors[0].name}' of the same "
                f"dataframe has {height}."
            )
        if tensor.name in columns:
            raise InvalidInput(f"Two inputs are called '{tensor.name}'; a column has one name.")
        columns[tensor.name] = _column(tensor, rows)
    return _pandas().DataFrame(columns)


def _column(tensor: Tensor, rows: int) -> Any:
    if tensor.array.size != rows:
        return list(tensor.array)
    return cells(tensor) if tensor.datatype == "BYTES" else tensor.array.reshape(rows)


def from_dataframe(frame: pandas.DataFrame) -> list[Tensor]:
    """A tensor of shape [rows] per column."""
    return [_tensor(str(name), frame[name]) for name in frame.columns]


def _tensor(name: str, column: pandas.Series[Any]) -> Tensor:
    pandas = _pandas()
    types = pandas.api.types
    if types.is_numeric_dtype(column.dtype):
        whole = not column.isna().any()
        array = column.to_numpy() if whole else column.to_numpy(dtype=float, na_value=float("nan"))
        if array.dtype.kind in "biuf":
            return Tensor.from_array(name, array)
    if types.is_datetime64_any_dtype(column.dtype):
        values = [one.to_pydatetime() for one in column]
    else:
        values = column.tolist()
    array, kind = encode_values(values)
    return Tensor(name, "BYTES", array.shape, array, {CONTENT_TYPE: kind})
