"""Server-side apply through the registry: ownership, conflicts, removal."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.cluster_local.local_objects import make_deployment, make_pod

from kedge.api.scheme import CONFIG_MAP, DEPLOYMENT, HTTP_ROUTE, POD, Kind
from kedge.cluster.base import Object, PatchType
from kedge.cluster.errors import BadRequest, Conflict, NotFound
from kedge.cluster.local.apply import Manager, apply_config, own_applied
from kedge.cluster.local.apply.fieldset import (
    cover,
    difference,
    fields_of,
    intersection,
    paths,
    union,
)
from kedge.cluster.local.registry import Registry
from kedge.cluster.local.requests import WriteOptions
from kedge.cluster.local.structure import shape_of


def apply(
    registry: Registry,
    kind: Kind,
    obj: Object,
    manager: str = "kedge",
    *,
    force: bool = False,
    subresource: str = "",
) -> Object:
    name = obj["metadata"]["name"]
    options = WriteOptions(field_manager=manager)
    return registry.patch(
        kind, "default", name, obj, PatchType.APPLY, options, force=force, subresource=subresource
    ).object


def update(registry: Registry, kind: Kind, obj: Object, manager: str) -> Object:
    options = WriteOptions(field_manager=manager)
    return registry.replace(kind, "default", obj["metadata"]["name"], obj, options).object


def config(**data: str) -> Object:
    return {
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": "default"}, "data": data,
    }  # fmt: skip


def managers(obj: Object) -> dict[str, list[str]]:
    return {
        f"{entry['manager']}:{entry['operation']}": sorted(paths(entry["fieldsV1"]))
        for entry in obj["metadata"]["managedFields"]
    }


def test_apply_creates_and_owns_what_it_says(registry: Registry) -> None:
    made = apply(registry, DEPLOYMENT, make_deployment(replicas=2))
    assert made["metadata"]["generation"] == 1
    assert managers(made) == {
        "kedge:Apply": [
            ".spec.replicas",
            ".spec.selector",
            ".spec.template.metadata.labels.app",
            '.spec.template.spec.containers[name="c"]',
            '.spec.template.spec.containers[name="c"].image',
            '.spec.template.spec.containers[name="c"].name',
        ]
    }


def test_applying_the_same_again_changes_nothing(registry: Registry) -> None:
    made = apply(registry, DEPLOYMENT, make_deployment())
    again = apply(registry, DEPLOYMENT, make_deployment())
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_a_route_with_defaults_inside_a_list_settles(registry: Registry) -> None:
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "r", "namespace": "default"},
        "spec": {
            "parentRefs": [{"name": "g"}], "rules": [{"backendRefs": [{"name": "s", "port": 80}]}],
        },
    }  # fmt: skip
    made = apply(registry, HTTP_ROUTE, route)
    assert made["spec"]["rules"][0]["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    again = apply(registry, HTTP_ROUTE, route)
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_what_is_no_longer_applied_goes(registry: Registry) -> None:
    apply(registry, CONFIG_MAP, config(a="1", b="2"))
    assert apply(registry, CONFIG_MAP, config(a="1"))["data"] == {"a": "1"}


def test_what_others_own_too_stays(registry: Registry) -> None:
    apply(registry, CONFIG_MAP, config(a="1", b="2"))
    apply(registry, CONFIG_MAP, config(b="2"), "other")
    assert apply(registry, CONFIG_MAP, config(a="1"))["data"] == {"a": "1", "b": "2"}
    assert apply(registry, CONFIG_MAP, {**config(), "data": {}}, "other")["data"] == {"a": "1"}


def test_a_removed_list_item_goes_with_its_defaults(registry: Registry) -> None:
    two = make_deployment()
    two["spec"]["template"]["spec"]["containers"].append({"name": "d", "image": "d:1"})
    apply(registry, DEPLOYMENT, two)
    made = apply(registry, DEPLOYMENT, make_deployment())
    assert [one["name"] for one in made["spec"]["template"]["spec"]["containers"]] == ["c"]


def test_a_list_item_in_which_others_own_something_stays(registry: Registry) -> None:
    two = make_deployment()
    containers = two["spec"]["template"]["spec"]["containers"]
    containers.append({"name": "d", "image": "d:1", "args": ["x"]})
    apply(registry, DEPLOYMENT, two)
    containers[:] = [{"name": "d", "image": "d:1"}]
    del two["spec"]["selector"], two["spec"]["template"]["metadata"]
    two["spec"]["template"]["spec"]["containers"] = [{"name": "d", "image": "d:1"}]
    apply(registry, DEPLOYMENT, {**two, "spec": {"template": two["spec"]["template"]}}, "other")
    made = apply(registry, DEPLOYMENT, make_deployment())
    found = made["spec"]["template"]["spec"]["containers"]
    assert [one["name"] for one in found] == ["c", "d"]
    assert "args" not in found[1]


def test_another_value_for_an_owned_field_is_a_conflict(registry: Registry) -> None:
    apply(registry, CONFIG_MAP, config(a="1"))
    with pytest.raises(Conflict, match=r'conflict with "kedge": \.data\.a') as caught:
        apply(registry, CONFIG_MAP, config(a="2"), "other")
    assert caught.value.details is not None
    assert caught.value.details["causes"][0]["field"] == ".data.a"
    taken = apply(registry, CONFIG_MAP, config(a="2"), "other", force=True)
    assert taken["data"] == {"a": "2"}
    assert managers(taken) == {"other:Apply": [".data.a"]}


def test_the_same_value_is_shared_without_conflict(registry: Registry) -> None:
    apply(registry, CONFIG_MAP, config(a="1"))
    shared = apply(registry, CONFIG_MAP, config(a="1"), "other")
    assert managers(shared) == {"kedge:Apply": [".data.a"], "other:Apply": [".data.a"]}


def test_an_update_takes_ownership_of_what_it_changes(registry: Registry) -> None:
    made = apply(registry, CONFIG_MAP, config(a="1", b="2"))
    changed = update(registry, CONFIG_MAP, {**made, "data": {"a": "9", "b": "2"}}, "kubectl-edit")
    assert managers(changed) == {"kedge:Apply": [".data.b"], "kubectl-edit:Update": [".data.a"]}
    with pytest.raises(Conflict, match="kubectl-edit"):
        apply(registry, CONFIG_MAP, config(a="1", b="2"))


def test_replicas_that_are_not_applied_are_left_to_the_autoscaler(registry: Registry) -> None:
    made = apply(registry, DEPLOYMENT, make_deployment())
    scale = {"spec": {"replicas": 0}}
    options = WriteOptions(field_manager="kedge-autoscaler")
    registry.scale(DEPLOYMENT, "default", "web", scale, options)
    again = apply(registry, DEPLOYMENT, make_deployment())
    assert again["spec"]["replicas"] == 0
    assert again["metadata"]["uid"] == made["metadata"]["uid"]
    assert managers(again)["kedge-autoscaler:Update"] == [".spec.replicas"]


def test_status_is_applied_by_itself(registry: Registry) -> None:
    apply(registry, POD, make_pod())
    status = {
        **make_pod(),
        "spec": {"ignored": True},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    made = apply(registry, POD, status, "agent", subresource="status")
    assert made["status"]["conditions"] == [{"type": "Ready", "status": "True"}]
    assert "ignored" not in made["spec"]
    other = {**make_pod(), "status": {"conditions": [{"type": "Gate", "status": "True"}]}}
    both = apply(registry, POD, other, "other", subresource="status")
    assert [one["type"] for one in both["status"]["conditions"]] == ["Ready", "Gate"]


def test_status_in_a_plain_apply_is_ignored(registry: Registry) -> None:
    made = apply(registry, DEPLOYMENT, {**make_deployment(), "status": {"replicas": 7}})
    assert "status" not in made


def test_ownership_can_be_forgotten(registry: Registry) -> None:
    made = apply(registry, CONFIG_MAP, config(a="1"))
    made["metadata"]["managedFields"] = [{}]
    freed = update(registry, CONFIG_MAP, made, "kubectl")
    assert "managedFields" not in freed["metadata"]
    assert apply(registry, CONFIG_MAP, config(a="2"), "other")["data"] == {"a": "2"}


def test_unreadable_ownership_is_as_if_nothing_was_said(registry: Registry) -> None:
    made = apply(registry, CONFIG_MAP, config(a="1"))
    for garbage in ([5], [{"manager": "x"}], [{"manager": "x", "fieldsV1": {"f:data": 5}}]):
        claimed = {**made, "metadata": {**made["metadata"], "managedFields": garbage}}
        kept = update(registry, CONFIG_MAP, claimed, "kubectl")
        assert managers(kept) == {"kedge:Apply": [".data.a"]}


def test_an_applied_configuration_may_not_claim_ownership(registry: Registry) -> None:
    claimed = config(a="1")
    claimed["metadata"]["managedFields"] = [{"manager": "x"}]
    with pytest.raises(BadRequest, match="managedFields"):
        apply(registry, CONFIG_MAP, claimed)


def test_the_status_of_what_is_not_there_cannot_be_applied(registry: Registry) -> None:
    with pytest.raises(NotFound):
        apply(registry, POD, make_pod(), subresource="status")


def test_an_apply_meant_for_another_object_of_that_name(registry: Registry) -> None:
    gone = config(a="1")
    gone["metadata"]["uid"] = "of-an-object-long-deleted"
    with pytest.raises(Conflict):
        apply(registry, CONFIG_MAP, gone)


leaves = st.integers(0, 3)
trees: st.SearchStrategy[Any] = st.recursive(
    leaves, lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3), max_leaves=8
)
objects = st.dictionaries(st.sampled_from("abcd"), trees, max_size=4)
SHAPE = shape_of(CONFIG_MAP).child("unknown")


def members(obj: Any) -> set[str]:
    return set(paths(fields_of(obj, SHAPE)))


@given(objects, objects)
def test_field_sets_are_sets(left: Any, right: Any) -> None:
    one, two = fields_of(left, SHAPE), fields_of(right, SHAPE)
    assert set(paths(union(one, two))) == members(left) | members(right)
    assert set(paths(difference(one, two))) == members(left) - members(right)
    assert set(paths(intersection(one, two))) == members(left) & members(right)
    assert set(paths(cover(one, two))) >= members(left) & members(right)


@given(objects, objects)
def test_one_manager_alone_gets_exactly_what_it_applies(left: Any, right: Any) -> None:
    manager = Manager("one", "Apply", "v1", "t")
    live = apply_config({"metadata": {}}, left, SHAPE, manager)
    entries = own_applied({"metadata": {}}, live, left, SHAPE, manager, force=True)
    live["metadata"] = {"managedFields": entries}
    after = apply_config(live, right, SHAPE, manager)
    after.pop("metadata", None)
    assert after == right
