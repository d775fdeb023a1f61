"""Checks an object against its kind's types, and gives the types as JSON schema.

- `check(kind, obj)`: every field that is unknown, of the wrong type or missing.
- `openapi(kind)`: one self-contained structural schema, as a CustomResourceDefinition needs it.
- `definitions(kinds)`: the same types by name and joined by `$ref`, as an OpenAPI document needs
  them; the kinds themselves carry `x-kubernetes-group-version-kind`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from kedge.api.findings import nearest, shown
from kedge.api.openapi import definitions, openapi
from kedge.api.quantity import parse_quantity
from kedge.api.scheme import Kind
from kedge.api.shapes import (
    Field,
    Free,
    ListOf,
    MapOf,
    Scalar,
    Shape,
    StructOf,
    StructShape,
    struct_shape,
)

__all__ = ["FieldProblem", "check", "definitions", "openapi"]

Problem = Literal["unknown", "type", "required"]


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One field that is not as its type says.

    Attributes:
        path: where, as `spec.predictor.containers[0].image`.
        detail: what is wrong and how to mend it, without the path.
        kind: a field the type does not have, a value of the wrong type, or a missing field.
        suggestion: the nearest known name of an unknown field, relative to its parent; may be
            empty.
    """

    path: str
    detail: str
    kind: Problem
    suggestion: str = ""

    @property
    def message(self) -> str:
        """The whole sentence; of an unknown field, in the words of a kube-apiserver."""
        if self.kind == "unknown":
            return self.detail.replace("unknown field", f'unknown field "{self.path}"', 1)
        return f"{self.path}: {self.detail}"


def check(
    kind: Kind, obj: dict[str, Any], known: dict[str, Any] | None = None
) -> list[FieldProblem]:
    """What is wrong with an object's shape, in the order of its fields.

    Args:
        known: an object that was checked before; what `obj` says in the same words is not again.
    """
    shape = struct_shape(kind.type)
    if known:
        changed = {name: value for name, value in obj.items() if known.get(name) != value}
        found = _check_struct(shape, changed, "")
        return [one for one in found if one.kind != "required" or obj.get(one.path) is None]
    return list(_check_struct(shape, obj, ""))


def _check_struct(shape: StructShape, obj: Any, path: str) -> Iterator[FieldProblem]:
    if not isinstance(obj, dict):
        yield _type_problem(path or "object", "an object", obj)
        return
    misspelt: dict[str, str] = {}
    for name, value in obj.items():
        field = shape.fields.get(name)
        if field is not None:
            if value is not None:
                yield from _check(field.shape, value, _join(path, name))
        elif not shape.preserve_unknown:
            problem = _unknown(shape, str(name), path)
            misspelt[problem.suggestion] = str(name)
            yield problem
    for name, field in shape.fields.items():
        if field.required and obj.get(name) is None:
            yield _missing(_join(path, name), field, misspelt.get(name, ""))


def _check(shape: Shape, value: Any, path: str) -> Iterator[FieldProblem]:
    match shape:
        case Scalar():
            yield from _check_scalar(shape, value, path)
        case StructOf(cls):
            yield from _check_struct(struct_shape(cls), value, path)
        case ListOf(items, min_items):
            yield from _check_list(items, min_items, value, path)
        case MapOf(values):
            yield from _check_map(values, value, path)
        case Free(must_be_object):
            if must_be_object and not isinstance(value, dict):
                yield _type_problem(path, "an object", value)


def _check_list(items: Shape, min_items: int, value: Any, path: str) -> Iterator[FieldProblem]:
    if not isinstance(value, list):
        yield _type_problem(path, "a list", value)
        return
    if len(value) < min_items:
        yield FieldProblem(path, "the list is empty. Fix: Remove it or add an entry.", "type")
    for i, item in enumerate(value):
        if item is None:
            yield _type_problem(f"{path}[{i}]", _expected(items), item)
        else:
            yield from _check(items, item, f"{path}[{i}]")


def _check_map(values: Shape, value: Any, path: str) -> Iterator[FieldProblem]:
    if not isinstance(value, dict):
        yield _type_problem(path, "an object", value)
        return
    for key, item in value.items():
        if item is not None:
            yield from _check(values, item, _join(path, str(key)))


def _check_scalar(shape: Scalar, value: Any, path: str) -> Iterator[FieldProblem]:
    if not _has_type(shape, value):
        yield _type_problem(path, _expected(shape), value)
        return
    wrong = _constraint(shape, value)
    if wrong:
        yield FieldProblem(path, f"{shown(value)} {wrong}", "type")


def _has_type(shape: Scalar, value: Any) -> bool:
    match shape.type:
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "int-or-string":
            return isinstance(value, int | str) and not isinstance(value, bool)
        case "quantity":
            return parse_quantity(value) is not None


def _constraint(shape: Scalar, value: Any) -> str:
    """What is wrong with a value of the right type; empty when nothing is."""
    if shape.enum and value not in shape.enum:
        allowed = [word for word in shape.enum if word]
        meant = nearest(str(value), allowed)
        hint = f"Write `{meant}`." if meant else f"Use one of {', '.join(allowed)}."
        return f"is not one of {', '.join(allowed)}. Fix: {hint}"
    if shape.pattern and not re.search(shape.pattern, value):
        return f"does not match {shape.pattern}. Fix: Use a value of that form."
    if shape.minimum is not None and value < shape.minimum:
        return f"is below {shape.minimum}. Fix: Use {_range(shape)}."
    if shape.maximum is not None and value > shape.maximum:
        return f"is above {shape.maximum}. Fix: Use {_range(shape)}."
    if shape.min_length is not None and len(value) < shape.min_length:
        return "is empty. Fix: Give it a value or remove the entry."
    if shape.max_length is not None and len(value) > shape.max_length:
        return f"is longer than {shape.max_length} characters. Fix: Shorten it."
    return ""


def _range(shape: Scalar) -> str:
    if shape.maximum is None:
        return f"{shape.minimum} or more"
    return f"a whole number from {shape.minimum or 0} to {shape.maximum}"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _expected(shape: Shape) -> str:
    match shape:
        case Scalar(type="string"):
            return "a string"
        case Scalar(type="boolean"):
            return "true or false"
        case Scalar(type="integer"):
            return "a whole number"
        case Scalar(type="quantity"):
            return "a quantity such as 500m or 2Gi"
        case Scalar(type="int-or-string"):
            return "a whole number or a string"
        case Scalar():
            return "a number"
        case ListOf():
            return "a list"
        case _:
            return "an object"


def _type_problem(path: str, expected: str, value: Any) -> FieldProblem:
    message = f"expected {expected}, got {_described(value)}. Fix: {_mend(expected, value)}"
    return FieldProblem(path, message, "type")


def _described(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return f"the boolean {shown(value)}"
        case int() | float():
            return f"the number {shown(value)}"
        case str():
            return f"the string {shown(value)}"
        case list():
            return "a list"
        case _:
            return "an object"


def _mend(expected: str, value: Any) -> str:
    if expected == "a string" and isinstance(value, bool | int | float):
        return f'Put it in quotes: "{shown(value)}".'
    if expected == "a whole number" and isinstance(value, str) and value.strip("-").isdigit():
        return f"Write it without quotes: {value}."
    if expected == "true or false" and isinstance(value, str) and value in ("true", "false"):
        return f"Write it without quotes: {value}."
    if expected == "a list" and value is not None:
        return "Start each entry with a dash, also a single one."
    return f"Write {expected}."


def _missing(path: str, field: Field, misspelt: str) -> FieldProblem:
    what = f" ({field.description[:1].lower()}{field.description[1:].rstrip('.')})"
    hint = f"Add `{path}`{what if field.description else ''}."
    if misspelt:
        hint = f"Write `{path.rpartition('.')[2]}` where it says `{misspelt}`."
    return FieldProblem(path, f"required and missing. Fix: {hint}", "required")


def _unknown(shape: StructShape, name: str, parent: str) -> FieldProblem:
    path = _join(parent, name)
    suggestion = _suggest(shape, name)
    hint = f', did you mean "{suggestion}"?' if suggestion else ""
    return FieldProblem(path, f"unknown field{hint}", "unknown", suggestion)


def _suggest(shape: StructShape, name: str) -> str:
    """The nearest known name: here, or exactly this one a level deeper."""
    folded = name.casefold()
    for known in shape.fields:
        if known.casefold() == folded:
            return known
    for known, field in shape.fields.items():
        deeper = _own_struct(field.shape)
        if deeper is not None and name in deeper.fields:
            return f"{known}.{name}"
    return nearest(name, shape.fields)


def _own_struct(shape: Shape) -> StructShape | None:
    if isinstance(shape, StructOf) and shape.cls.__module__.startswith("kedge."):
        return struct_shape(shape.cls)
    return None
