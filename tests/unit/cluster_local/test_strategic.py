"""Strategic merge patch, with the directives that kubectl writes."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.api.scheme import DEPLOYMENT, POD, SERVICE
from kedge.cluster.errors import BadRequest
from kedge.cluster.local.patch import apply_strategic_patch
from kedge.cluster.local.structure import shape_of

CONTAINERS = [
    {"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}],
     "ports": [{"containerPort": 80}], "args": ["1", "2"]},
    {"name": "b", "image": "b:1"},
]  # fmt: skip


def patch_pod(spec: dict[str, Any], patch: dict[str, Any]) -> Any:
    return apply_strategic_patch({"spec": spec}, {"spec": patch}, shape_of(POD))["spec"]


def test_lists_merge_by_their_key() -> None:
    patched = patch_pod(
        {"containers": CONTAINERS},
        {"containers": [
            {"name": "a", "env": [{"name": "Y", "value": "3"}, {"name": "Z", "value": "4"}]},
            {"name": "c", "image": "c:1"},
        ]},
    )  # fmt: skip
    first, second, third = patched["containers"]
    assert [(one["name"], one["value"]) for one in first["env"]] == [
        ("X", "1"), ("Y", "3"), ("Z", "4"),
    ]  # fmt: skip
    assert (first["image"], second, third) == ("a:1", CONTAINERS[1], {"name": "c", "image": "c:1"})


def test_lists_without_a_key_are_replaced() -> None:
    patched = patch_pod({"containers": CONTAINERS}, {"containers": [{"name": "a", "args": ["3"]}]})
    assert patched["containers"][0]["args"] == ["3"]


def test_null_removes_a_field() -> None:
    patched = patch_pod({"nodeName": "n", "containers": CONTAINERS}, {"nodeName": None})
    assert "nodeName" not in patched


def test_delete_directive_removes_an_item() -> None:
    patched = patch_pod(
        {"containers": CONTAINERS}, {"containers": [{"name": "b", "$patch": "delete"}]}
    )
    assert [one["name"] for one in patched["containers"]] == ["a"]


def test_replace_directive_of_a_list() -> None:
    patched = patch_pod(
        {"containers": CONTAINERS},
        {"containers": [{"name": "z", "image": "z:1"}, {"$patch": "replace"}]},
    )
    assert patched["containers"] == [{"name": "z", "image": "z:1"}]


def test_replace_and_delete_directives_of_an_object() -> None:
    spec = {"securityContext": {"runAsUser": 1, "fsGroup": 2}, "containers": CONTAINERS}
    replaced = patch_pod(spec, {"securityContext": {"$patch": "replace", "runAsUser": 5}})
    assert replaced["securityContext"] == {"runAsUser": 5}
    deleted = patch_pod(spec, {"securityContext": {"$patch": "delete"}})
    assert "securityContext" not in deleted


def test_element_order() -> None:
    patched = patch_pod(
        {"containers": CONTAINERS},
        {
            "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}],
            "containers": [{"name": "c", "image": "c:1"}],
        },
    )
    assert [one["name"] for one in patched["containers"]] == ["c", "b", "a"]


def test_primitive_lists() -> None:
    target = {"metadata": {"finalizers": ["a", "b"]}}
    patch = {"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}
    patched = apply_strategic_patch(target, patch, shape_of(POD))
    assert patched["metadata"]["finalizers"] == ["b", "c"]


def test_retained_keys() -> None:
    target = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    patched = apply_strategic_patch(target, patch, shape_of(DEPLOYMENT))
    assert patched["spec"]["strategy"] == {"type": "Recreate"}


def test_volumes_keep_only_the_source_that_is_named() -> None:
    patched = patch_pod(
        {"volumes": [{"name": "v", "emptyDir": {}}]},
        {
            "volumes": [
                {"$retainKeys": ["name", "hostPath"], "name": "v", "hostPath": {"path": "/"}}
            ]
        },
    )
    assert patched["volumes"] == [{"name": "v", "hostPath": {"path": "/"}}]


def test_service_ports_merge_by_port() -> None:
    target = {"spec": {"ports": [{"port": 80, "name": "a"}]}}
    patch = {"spec": {"ports": [{"port": 80, "targetPort": 8080}]}}
    patched = apply_strategic_patch(target, patch, shape_of(SERVICE))
    assert patched["spec"]["ports"] == [{"port": 80, "name": "a", "targetPort": 8080}]


@pytest.mark.parametrize(
    "patch",
    [{"containers": [{"image": "x"}]}, {"securityContext": {"$patch": "explode"}}],
)
def test_malformed_patches(patch: Any) -> None:
    with pytest.raises(BadRequest):
        patch_pod({"containers": CONTAINERS}, patch)
