"""JSON patch (RFC 6902): a list of operations at JSON pointers."""

from __future__ import annotations

import copy
from typing import Any

from kedge.cluster.errors import BadRequest, Invalid


def apply_json_patch(target: Any, operations: Any) -> Any:
    """The patched copy of `target`.

    Raises:
        BadRequest: `operations` is no JSON patch.
        Invalid: an operation does not fit the object, or a test fails.
    """
    if not isinstance(operations, list):
        raise BadRequest("a JSON patch is a list of operations")
    document = copy.deepcopy(target)
    for at, operation in enumerate(operations):
        if not isinstance(operation, dict):
            raise BadRequest(f"operation {at} of the JSON patch is no object")
        document = _apply(document, operation, at)
    return document


def _apply(document: Any, operation: dict[str, Any], at: int) -> Any:
    name = operation.get("op")
    path = _parse_pointer(operation.get("path"), at)
    match name:
        case "add":
            return _add(document, path, _value(operation, at))
        case "remove":
            return _remove(document, path)
        case "replace":
            if path:
                _get(document, path)
                return _put(document, path, _value(operation, at))
            return _value(operation, at)
        case "test":
            if not _equal(_get(document, path), _value(operation, at)):
                raise Invalid(f"the server rejected our request: testing value {_format(path)}"
                              " failed")  # fmt: skip
            return document
        case "move" | "copy":
            source = _parse_pointer(operation.get("from"), at)
            value = _get(document, source)
            if name == "move":
                if path[: len(source)] == source and path != source:
                    raise Invalid(f"cannot move {_format(source)} into itself")
                document = _remove(document, source)
            return _add(document, path, copy.deepcopy(value))
    raise BadRequest(f"operation {at} of the JSON patch has the unknown op {name!r}")


def _value(operation: dict[str, Any], at: int) -> Any:
    if "value" not in operation:
        raise BadRequest(f"operation {at} of the JSON patch has no value")
    return operation["value"]


def _parse_pointer(pointer: Any, at: int) -> list[str]:
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        raise BadRequest(f"operation {at} of the JSON patch: {pointer!r} is no JSON pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _format(path: list[str]) -> str:
    return "/" + "/".join(part.replace("~", "~0").replace("/", "~1") for part in path)


def _equal(left: Any, right: Any) -> bool:
    """Equality of JSON: true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    return bool(left == right)


def _get(document: Any, path: list[str]) -> Any:
    for depth, part in enumerate(path):
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list):
            document = document[_index(part, len(document) - 1, path[: depth + 1])]
        else:
            raise Invalid(f"the JSON patch names {_format(path[: depth + 1])}, which is not there")
    return document


def _index(part: str, last: int, path: list[str]) -> int:
    if not part.isdecimal() or (len(part) > 1 and part[0] == "0") or int(part) > last:
        raise Invalid(f"the JSON patch names {_format(path)}, which is not there")
    return int(part)


def _put(document: Any, path: list[str], value: Any) -> Any:
    parent = _get(document, path[:-1])
    if isinstance(parent, list):
        parent[_index(path[-1], len(parent) - 1, path)] = value
    else:
        parent[path[-1]] = value
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _get(document, path[:-1])
    if isinstance(parent, list):
        at = len(parent) if path[-1] == "-" else _index(path[-1], len(parent), path)
        parent.insert(at, value)
    elif isinstance(parent, dict):
        parent[path[-1]] = value
    else:
        raise Invalid(f"the JSON patch adds to {_format(path[:-1])}, which is a single value")
    return document


def _remove(document: Any, path: list[str]) -> Any:
    if not path:
        raise Invalid("the JSON patch removes the whole object")
    _get(document, path)
    parent = _get(document, path[:-1])
    if isinstance(parent, list):
        del parent[int(path[-1])]
    else:
        del parent[path[-1]]
    return document
