"""Objects as rows of a `meta.k8s.io/v1` Table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import msgspec

from kedge.api.columns import AGE, COLUMNS
from kedge.api.columns import Column as PathColumn
from kedge.api.scheme import Kind
from kedge.cluster.base import Object
from kedge.cluster.local.jsonpath import compile_path
from kedge.cluster.local.tables.ages import age
from kedge.cluster.local.tables.core import CORE_COLUMNS, Column

_NAME = Column("Name", lambda obj, _now: obj["metadata"]["name"], format="name")


@dataclass(frozen=True)
class TablePrinter:
    """The columns of one kind."""

    columns: tuple[Column, ...]

    def definitions(self) -> list[dict[str, Any]]:
        """As a Table's `columnDefinitions` has them."""
        return [
            {
                "name": column.name,
                "type": column.type,
                "format": column.format,
                "description": column.description or column.name,
                "priority": column.priority,
            }
            for column in self.columns
        ]

    def cells(self, obj: Object, now: datetime) -> list[Any]:
        return [column.value(obj, now) for column in self.columns]

    def row(self, obj: Object, now: datetime, include: str) -> dict[str, Any]:
        """One row; `include` is None, Metadata or Object, as the query `includeObject` says."""
        row: dict[str, Any] = {"cells": self.cells(obj, now)}
        if include == "Object":
            row["object"] = obj
        elif include != "None":
            row["object"] = {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": obj["metadata"],
            }
        return row


@cache
def printer_of(kind: Kind) -> TablePrinter:
    """How objects of a kind are printed; by name and age where nothing else is known."""
    if kind in CORE_COLUMNS:
        return TablePrinter(CORE_COLUMNS[kind])
    by_path = COLUMNS.get(kind, (AGE,))
    return TablePrinter((_NAME, *(_from_path(column) for column in by_path)))


def _from_path(column: PathColumn) -> Column:
    find = compile_path(column.path)
    value: Callable[[Object, datetime], Any]
    if column.type == "date":

        def value(obj: Object, now: datetime) -> Any:
            found = find(obj)
            return age(found[0], now) if found else None
    else:

        def value(obj: Object, now: datetime) -> Any:
            return _cell(find(obj), column.type)

    # The cell of a date is an age, that is, text.
    shown = "string" if column.type == "date" else column.type
    return Column(
        column.name, value, type=shown, priority=column.priority, description=column.description
    )


def _cell(found: list[Any], type: str) -> Any:
    if not found or found[0] is None:
        return None
    if type == "string":
        return ",".join(_text(value) for value in found)
    return found[0]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
