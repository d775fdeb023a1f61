"""The value that an applied configuration gives to a live object."""

from __future__ import annotations

from typing import Any

from kedge.cluster.local.apply.fieldset import FieldSet, item_element, value_element
from kedge.cluster.local.structure import Shape


def merge_applied(live: Any, applied: Any, shape: Shape) -> Any:
    """`live` with everything that `applied` says; neither is changed."""
    if isinstance(applied, dict) and not shape.atomic:
        merged = dict(live) if isinstance(live, dict) else {}
        for key, value in applied.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = merge_applied(merged.get(key), value, shape.child(key))
        return merged
    if isinstance(applied, list) and (shape.keys or shape.is_set):
        return _merge_items(live if isinstance(live, list) else [], applied, shape)
    return applied


def _merge_items(live: list[Any], applied: list[Any], shape: Shape) -> list[Any]:
    """Applied items in their order; live ones that are not applied stay where they were."""
    old = {_element(item, shape): item for item in live}
    wanted = {_element(item, shape): item for item in applied}
    merged: list[Any] = []
    done: set[str] = set()
    waiting = iter(wanted.items())
    for element, item in old.items():
        if element not in wanted:
            merged.append(item)
            continue
        if element in done:
            continue
        for key, value in waiting:
            merged.append(merge_applied(old.get(key), value, shape.items))
            done.add(key)
            if key == element:
                break
    merged += [merge_applied(old.get(key), value, shape.items) for key, value in waiting]
    return merged


def _element(item: Any, shape: Shape) -> str:
    if shape.keys and isinstance(item, dict):
        return item_element(shape, item)
    return value_element(item)


def prune(value: Any, unwanted: FieldSet, kept: FieldSet, shape: Shape) -> Any:
    """`value` without the paths in `unwanted`, except where something in `kept` lies there.

    What lies below a removed path and nobody owns (a default, say) goes with it. None when nothing
    is left.
    """
    if isinstance(value, dict):
        pruned = {
            key: left
            for key, item in value.items()
            if (left := _prune_at(f"f:{key}", item, unwanted, kept, shape.child(key))) is not _GONE
        }
        return pruned if pruned or not value else None
    if isinstance(value, list):
        left_items = [
            left
            for item in value
            if (left := _prune_at(_element(item, shape), item, unwanted, kept, shape.items))
            is not _GONE
        ]
        return left_items if left_items or not value else None
    return value


_GONE = object()


def _prune_at(element: str, item: Any, unwanted: FieldSet, kept: FieldSet, shape: Shape) -> Any:
    node = unwanted.get(element)
    if node is None:
        return item
    mine = kept.get(element)
    if mine is None and (not node or "." in node):
        return _GONE
    if not node:
        return item
    left = prune(item, node, mine or {}, shape)
    if left is None:
        # Emptied: it stays only where somebody wants just that, an empty object or list.
        return type(item)() if mine is not None and (not mine or "." in mine) else _GONE
    return left
