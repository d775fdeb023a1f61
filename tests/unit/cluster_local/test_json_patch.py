"""JSON patch, by the cases of RFC 6902 that matter."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.cluster.errors import BadRequest, Invalid
from kedge.cluster.local.patch import apply_json_patch, apply_merge_patch


@pytest.mark.parametrize(
    ("document", "operations", "expected"),
    [
        ({"a": 1}, [{"op": "add", "path": "/b", "value": 2}], {"a": 1, "b": 2}),
        ({"a": 1}, [{"op": "add", "path": "/a", "value": 2}], {"a": 2}),
        ({"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2, 3]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}], {"a": [1, 2]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2]}),
        ({"a": 1, "b": 2}, [{"op": "remove", "path": "/a"}], {"b": 2}),
        ({"a": [1, 2]}, [{"op": "remove", "path": "/a/0"}], {"a": [2]}),
        ({"a": 1}, [{"op": "replace", "path": "/a", "value": None}], {"a": None}),
        ({"a": {"b": 1}}, [{"op": "move", "from": "/a/b", "path": "/c"}], {"a": {}, "c": 1}),
        ({"a": [1]}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": [1], "b": [1]}),
        ({"a/b": {"c~d": 1}}, [{"op": "replace", "path": "/a~1b/c~0d", "value": 2}],
         {"a/b": {"c~d": 2}}),
        ({"a": 1}, [{"op": "test", "path": "/a", "value": 1}], {"a": 1}),
        ({}, [{"op": "add", "path": "", "value": {"x": 1}}], {"x": 1}),
    ],
)  # fmt: skip
def test_operations(document: Any, operations: Any, expected: Any) -> None:
    before = repr(document)
    assert apply_json_patch(document, operations) == expected
    assert repr(document) == before, "the original must not change"


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/missing"},
        {"op": "replace", "path": "/missing", "value": 1},
        {"op": "add", "path": "/list/5", "value": 1},
        {"op": "add", "path": "/list/01", "value": 1},
        {"op": "add", "path": "/scalar/x", "value": 1},
        {"op": "test", "path": "/scalar", "value": True},
        {"op": "move", "from": "/list", "path": "/list/0"},
    ],
)
def test_operations_that_do_not_fit(operation: Any) -> None:
    with pytest.raises(Invalid):
        apply_json_patch({"list": [1], "scalar": 1}, [operation])


@pytest.mark.parametrize(
    "patch",
    [{}, [1], [{"op": "fly", "path": "/a"}], [{"op": "add", "path": "a", "value": 1}],
     [{"op": "add", "path": "/a"}], [{"op": "add", "value": 1}]],
)  # fmt: skip
def test_what_is_no_json_patch(patch: Any) -> None:
    with pytest.raises(BadRequest):
        apply_json_patch({}, patch)


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ],
)
def test_merge_patches(target: Any, patch: Any, expected: Any) -> None:
    assert apply_merge_patch(target, patch) == expected
