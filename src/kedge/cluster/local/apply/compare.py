"""What differs between two states of an object, as sets of paths.

Equal branches are skipped at the speed of a comparison, so the cost follows the change, not the
object.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kedge.cluster.local.apply.fieldset import (
    FieldSet,
    fields_of,
    item_element,
    node_of,
    value_element,
)
from kedge.cluster.local.structure import Shape


@dataclass
class Difference:
    """Paths with another value or none before (`changed`), and paths that are gone."""

    changed: FieldSet = field(default_factory=dict)
    removed: FieldSet = field(default_factory=dict)


def compare(old: Any, new: Any, shape: Shape) -> Difference:
    """The difference between two objects (or two keyed lists, or two sets)."""
    result = Difference()
    befores, afters = _parts(old, shape), _parts(new, shape)
    for element, (value, inner) in afters.items():
        before = befores.get(element)
        if before is None:
            result.changed[element] = node_of(value, inner, member=_owns_itself(shape))
        elif before[0] != value:
            _descend(result, element, before[0], value, inner)
    for element, (value, inner) in befores.items():
        if element not in afters:
            result.removed[element] = _whole(value, inner)
    return result


def _descend(result: Difference, element: str, old: Any, new: Any, shape: Shape) -> None:
    if not _comparable(old, new, shape):
        result.changed[element] = {}
        if fields_of(old, shape) and not fields_of(new, shape):
            result.removed[element] = fields_of(old, shape)
        return
    inner = compare(old, new, shape)
    if inner.changed:
        result.changed[element] = inner.changed
    if inner.removed:
        result.removed[element] = inner.removed


def _comparable(old: Any, new: Any, shape: Shape) -> bool:
    if shape.atomic:
        return False
    if isinstance(old, dict) and isinstance(new, dict):
        return True
    if isinstance(old, list) and isinstance(new, list):
        return bool(shape.keys or shape.is_set)
    return False


def _parts(value: Any, shape: Shape) -> dict[str, tuple[Any, Shape]]:
    if isinstance(value, dict):
        return {f"f:{key}": (item, shape.child(key)) for key, item in value.items()}
    if isinstance(value, list) and shape.keys:
        return {
            item_element(shape, item): (item, shape.items)
            for item in value
            if isinstance(item, dict)
        }
    if isinstance(value, list):
        return {value_element(item): (item, shape.items) for item in value}
    return {}


def _owns_itself(shape: Shape) -> bool:
    """Whether an entry of this place is a path of its own besides what lies below it."""
    return bool(shape.keys or shape.is_set or shape.is_map)


def _whole(value: Any, shape: Shape) -> FieldSet:
    """Every path at and below `value`, those of containers included."""
    below = fields_of(value, shape)
    for key, node in below.items():
        if node and "." not in node:
            node["."] = {}
        below[key] = node
    if below:
        below["."] = {}
    return below
