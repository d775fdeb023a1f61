"""Sets of paths into an object, in the form of `FieldsV1`.

A set is a JSON object whose keys are path elements: `f:NAME` for a field, `k:{...}` for the item of
a keyed list, `v:VALUE` for a member of a set. An empty object is a path that belongs to the set;
one with children belongs to it only when it has the key `.`::

    {"f:spec": {"f:containers": {"k:{\\"name\\":\\"a\\"}": {".": {}, "f:image": {}}}}}

The root itself is never a member, so an empty root is the empty set.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from kedge.cluster.local.structure import Shape

FieldSet = dict[str, Any]

_SELF = "."
_encode = msgspec.json.Encoder(order="sorted").encode


def item_element(shape: Shape, item: dict[str, Any]) -> str:
    """The path element of an item of a keyed list."""
    key = dict(zip(shape.keys, shape.item_key(item), strict=True))
    return (
        "k:" + _encode({name: value for name, value in key.items() if value is not None}).decode()
    )


def value_element(value: Any) -> str:
    """The path element of a member of a set."""
    return "v:" + _encode(value).decode()


def fields_of(value: Any, shape: Shape) -> FieldSet:
    """The paths below `value`; empty where it is replaced as a whole."""
    if isinstance(value, dict) and not shape.atomic:
        entry = shape.is_map
        return {
            f"f:{key}": node_of(item, shape.child(key), member=entry) for key, item in value.items()
        }
    if isinstance(value, list) and shape.keys and _all_objects(value):
        items = shape.items
        return {item_element(shape, item): node_of(item, items, member=True) for item in value}
    if isinstance(value, list) and shape.is_set:
        return {value_element(item): {} for item in value}
    return {}


def node_of(value: Any, shape: Shape, *, member: bool) -> FieldSet:
    """The node of `value` itself: a member when asked, or when nothing lies below it."""
    below = fields_of(value, shape)
    if below and member:
        below[_SELF] = {}
    return below


def _all_objects(items: list[Any]) -> bool:
    return all(isinstance(item, dict) for item in items)


def _is_member(node: FieldSet) -> bool:
    return not node or _SELF in node


def _make_node(below: FieldSet, member: bool) -> FieldSet | None:
    """None when neither the path nor anything below it is in the set."""
    if not below:
        return {} if member else None
    return {_SELF: {}, **below} if member else below


def _elements(node: FieldSet) -> FieldSet:
    return {key: value for key, value in node.items() if key != _SELF}


def union(left: FieldSet, right: FieldSet) -> FieldSet:
    if not left or not right:
        return left or right
    joined = dict(left)
    for key, node in right.items():
        mine = joined.get(key)
        if mine is None:
            joined[key] = node
        elif mine != node:
            below = union(_elements(mine), _elements(node))
            joined[key] = _make_node(below, _is_member(mine) or _is_member(node)) or {}
    return joined


def difference(left: FieldSet, right: FieldSet) -> FieldSet:
    """What is in `left` and not in `right`."""
    if not left or not right:
        return left
    rest: FieldSet = {}
    for key, node in left.items():
        other = right.get(key)
        if other is None:
            rest[key] = node
            continue
        below = difference(_elements(node), _elements(other))
        made = _make_node(below, _is_member(node) and not _is_member(other))
        if made is not None:
            rest[key] = made
    return rest


def intersection(left: FieldSet, right: FieldSet) -> FieldSet:
    shared: FieldSet = {}
    for key, node in left.items():
        other = right.get(key)
        if other is None:
            continue
        below = intersection(_elements(node), _elements(other))
        made = _make_node(below, _is_member(node) and _is_member(other))
        if made is not None:
            shared[key] = made
    return shared


def cover(changed: FieldSet, owned: FieldSet) -> FieldSet:
    """The members of `owned` that `changed` touches: the same path, or one above or below it.

    A field that becomes a map, or a map that becomes a field, is thus a change of both.
    """
    touched: FieldSet = {}
    for key, node in owned.items():
        other = changed.get(key)
        if other is None:
            continue
        if not other:
            touched[key] = node
            continue
        below = cover(_elements(other), _elements(node))
        made = _make_node(below, _is_member(node) and (_SELF in other or not node))
        if made is not None:
            touched[key] = made
    return touched


def paths(fields: FieldSet, prefix: str = "") -> Iterator[str]:
    """The members, written as people read them: `.spec.containers[name="a"].image`."""
    for key, node in fields.items():
        if key == _SELF:
            continue
        here = prefix + _format(key)
        if _is_member(node):
            yield here
        yield from paths(node, here)


def _format(element: str) -> str:
    kind, _, rest = element.partition(":")
    if kind == "f":
        return f".{rest}"
    if kind == "k":
        pairs = msgspec.json.decode(rest)
        return "[" + ",".join(f"{key}={_encode(pairs[key]).decode()}" for key in pairs) + "]"
    return f"[={rest}]" if kind == "v" else f"[{rest}]"
