"""Rows for the boosters: a matrix of numbers, whatever form the request gave them in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kedge.protocol.datatypes import Array
from kedge.protocol.errors import InvalidInput
from kedge.protocol.v1 import Columns, Rows


def to_matrix(rows: Rows, features: int, model: str, names: Sequence[str] | None) -> Array:
    """An array of `features` columns of floats; NaN and null stand for a missing value."""
    if isinstance(rows, list):
        raise InvalidInput(f"Model {model} takes numbers, but the rows are text.")
    if isinstance(rows, Columns):
        rows = _from_columns(rows, model)
    if rows.size == 0:
        raise InvalidInput(f"The request to model {model} has no rows.")
    if rows.ndim != 2:
        raise InvalidInput(
            f"Model {model} takes rows of {features} values, but the request's shape is "
            f"{list(rows.shape)}.",
            fix=f"Send [[...]]: a list of lists of {features} values each.",
        )
    if rows.shape[1] != features:
        named = f" ({', '.join(names)})" if names else ""
        raise InvalidInput(
            f"Each row has {rows.shape[1]} values, but model {model} takes {features}{named}."
        )
    return rows if rows.dtype.kind in "fiu" else _numbers(rows, model)


def _numbers(rows: Array, model: str) -> Array:
    for value in rows.ravel().tolist():
        if isinstance(value, (str, bytes, dict, list)):
            raise InvalidInput(f"Model {model} takes numbers, but a row holds {str(value)[:40]!r}.")
    return rows.astype(np.float64)


def _from_columns(columns: Columns, model: str) -> Array:
    lengths = {len(values) for values in columns.values.values()}
    if len(lengths) != 1:
        raise InvalidInput("The rows do not all have the same fields.")
    return np.array([np.array(values, dtype=object) for values in columns.values.values()]).T
