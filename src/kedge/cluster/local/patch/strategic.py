"""Strategic merge patch: Kubernetes' own format, in which lists merge by a key of their items.

Directives inside the patch: `$patch` (replace, delete, merge), `$deleteFromPrimitiveList/NAME`,
`$setElementOrder/NAME` and `$retainKeys`.
"""

from __future__ import annotations

import copy
from typing import Any

from kedge.cluster.errors import BadRequest
from kedge.cluster.local.structure import Shape

_PATCH = "$patch"
_DELETE_FROM = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"
_RETAIN = "$retainKeys"


def apply_strategic_patch(target: Any, patch: Any, shape: Shape) -> Any:
    """The patched copy of `target`.

    Raises:
        BadRequest: a directive is malformed, or a list item lacks its merge key.
    """
    if not isinstance(patch, dict):
        raise BadRequest("a strategic merge patch is an object")
    return _merge_object(target if isinstance(target, dict) else {}, patch, shape, "")


def _merge_object(
    target: dict[str, Any], patch: dict[str, Any], shape: Shape, path: str
) -> dict[str, Any]:
    directive = patch.get(_PATCH)
    if directive == "replace":
        replaced: dict[str, Any] = _clean({k: v for k, v in patch.items() if k != _PATCH})
        return replaced
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise BadRequest(f"unknown $patch directive {directive!r} at {path or 'the top'}")
    merged = dict(target)
    if isinstance(retained := patch.get(_RETAIN), list):
        merged = {key: value for key, value in merged.items() if key in retained}
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None:
            merged.pop(key, None)
            continue
        merged[key] = _merge(merged.get(key), value, patch.get(_ORDER + key), shape.child(key),
                             f"{path}.{key}" if path else key)  # fmt: skip
        if isinstance(value, dict) and value.get(_PATCH) == "delete":
            del merged[key]
    _delete_primitives(merged, patch)
    _reorder(merged, patch, shape)
    return merged


def _merge(target: Any, value: Any, order: Any, shape: Shape, path: str) -> Any:
    if isinstance(value, dict):
        return _merge_object(target if isinstance(target, dict) else {}, value, shape, path)
    if not isinstance(value, list):
        return value
    if shape.patch_key is not None:
        return _merge_items(target if isinstance(target, list) else [], value, shape, path)
    if shape.is_set:
        return _merge_primitives(target if isinstance(target, list) else [], value)
    return _clean(value)


def _merge_items(target: list[Any], patch: list[Any], shape: Shape, path: str) -> list[Any]:
    """A list of objects with a merge key."""
    key = shape.patch_key or ""
    if any(isinstance(item, dict) and item.get(_PATCH) == "replace" for item in patch):
        return [
            _clean({k: v for k, v in item.items() if k != _PATCH})
            for item in patch
            if isinstance(item, dict) and item.keys() != {_PATCH}
        ]
    merged = list(target)
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise BadRequest(f"map: {item} does not contain declared merge key: {key} (at {path})")
        places = [at for at, old in enumerate(merged) if old.get(key) == item[key]]
        if item.get(_PATCH) == "delete":
            merged = [old for old in merged if old.get(key) != item[key]]
        elif not places:
            merged.append(_merge_object({}, item, shape.items, path))
        else:
            at = places[0]
            merged[at] = _merge_object(merged[at], item, shape.items, f"{path}[{item[key]}]")
    return merged


def _merge_primitives(target: list[Any], patch: list[Any]) -> list[Any]:
    return target + [item for item in patch if item not in target]


def _delete_primitives(merged: dict[str, Any], patch: dict[str, Any]) -> None:
    for directive, unwanted in patch.items():
        if directive.startswith(_DELETE_FROM):
            name = directive.removeprefix(_DELETE_FROM)
            if not isinstance(unwanted, list):
                raise BadRequest(f"{directive} is no list")
            if isinstance(merged.get(name), list):
                merged[name] = [item for item in merged[name] if item not in unwanted]


def _reorder(merged: dict[str, Any], patch: dict[str, Any], shape: Shape) -> None:
    for directive, order in patch.items():
        if not directive.startswith(_ORDER):
            continue
        name = directive.removeprefix(_ORDER)
        items = merged.get(name)
        if not isinstance(order, list) or not isinstance(items, list):
            continue
        key = shape.child(name).patch_key
        wanted = [item.get(key) if isinstance(item, dict) else item for item in order]
        merged[name] = _ordered(items, wanted, key)


def _ordered(items: list[Any], wanted: list[Any], key: str | None) -> list[Any]:
    """Items that `wanted` names in its order; the others stay behind their predecessors."""

    def identity(item: Any) -> Any:
        return item.get(key) if key is not None and isinstance(item, dict) else item

    named = [item for value in wanted for item in items if identity(item) == value]
    ordered: list[Any] = []
    at = 0
    for item in items:
        if identity(item) in wanted:
            ordered.append(named[at])
            at += 1
        else:
            ordered.append(item)
    return ordered


def _clean(value: Any) -> Any:
    """A copy without nulls and directives, for what has no counterpart in the target."""
    if isinstance(value, dict):
        return {
            key: _clean(item)
            for key, item in value.items()
            if item is not None and not key.startswith("$")
        }
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return copy.copy(value)
