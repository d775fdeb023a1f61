"""The way of a write: identity, versions, generations, refusals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from tests.unit.cluster_local.local_objects import (
    make_config_map,
    make_deployment,
    make_isvc,
    make_pod,
)

from kedge.api.scheme import (
    CONFIG_MAP,
    DEPLOYMENT,
    INFERENCE_SERVICE,
    NAMESPACE,
    POD,
    SECRET,
    SERVICE,
    Kind,
)
from kedge.cluster.base import Object, PatchType
from kedge.cluster.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    UnsupportedMediaType,
)
from kedge.cluster.local.admission import Operation
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.registry import Registry
from kedge.cluster.local.requests import DeleteOptions, WriteOptions
from kedge.cluster.local.store import Store

LONG_AGO = "1999-01-01T00:00:00Z"


def create(registry: Registry, kind: Kind, obj: Object, **options: Any) -> Object:
    return registry.create(kind, "default", obj, WriteOptions(**options)).object


def test_a_kind_of_another_cluster_is_not_found(registry: Registry) -> None:
    foreign = Kind("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects", "")
    with pytest.raises(NotFound, match="could not find the requested resource"):
        registry.patch(foreign, "default", "x", {"metadata": {"name": "x"}}, PatchType.APPLY)
    with pytest.raises(NotFound):
        create(registry, foreign, {"metadata": {"name": "x"}})


def test_a_new_object_gets_its_identity(registry: Registry) -> None:
    sent = make_deployment()
    sent["metadata"] |= {
        "uid": "mine",
        "generation": 9,
        "creationTimestamp": "1999-01-01T00:00:00Z",
    }
    made = create(registry, DEPLOYMENT, {**sent, "status": {"replicas": 3}})
    metadata = made["metadata"]
    assert len(metadata["uid"]) == 36
    assert metadata["generation"] == 1
    assert metadata["creationTimestamp"] == "2026-01-01T00:00:00Z"
    assert int(metadata["resourceVersion"]) == registry.store.version
    assert "status" not in made
    assert sent["metadata"]["uid"] == "mine", "the caller's object must not change"


def test_generated_names(registry: Registry) -> None:
    made = create(registry, CONFIG_MAP, {"metadata": {"generateName": "job-"}})
    assert made["metadata"]["name"].startswith("job-")
    assert len(made["metadata"]["name"]) == 9


def test_a_name_can_be_taken_once(registry: Registry) -> None:
    create(registry, CONFIG_MAP, make_config_map())
    with pytest.raises(AlreadyExists, match='configmaps "a" already exists'):
        create(registry, CONFIG_MAP, make_config_map())


def test_a_missing_namespace_is_not_found(registry: Registry) -> None:
    with pytest.raises(NotFound, match='namespaces "nowhere" not found'):
        registry.create(CONFIG_MAP, "nowhere", {"metadata": {"name": "a"}})


def test_nothing_is_created_in_a_namespace_that_ends(registry: Registry) -> None:
    registry.create(NAMESPACE, "", {"metadata": {"name": "n"}})
    registry.delete(NAMESPACE, "", "n")
    with pytest.raises(Forbidden, match="being terminated"):
        registry.create(CONFIG_MAP, "n", {"metadata": {"name": "a"}})


def test_an_object_for_another_namespace_is_refused(registry: Registry) -> None:
    with pytest.raises(BadRequest, match="does not match the namespace"):
        registry.create(CONFIG_MAP, "kedge", make_config_map())


@pytest.mark.parametrize("field", ["apiVersion", "kind"])
def test_an_object_of_another_kind_is_refused(registry: Registry, field: str) -> None:
    with pytest.raises(BadRequest, match=field):
        create(registry, CONFIG_MAP, {**make_config_map(), field: "Other"})


def test_the_old_group_becomes_todays(registry: Registry) -> None:
    legacy = {**make_isvc(), "apiVersion": "serving.kubeflow.org/v1beta1"}
    made = create(registry, INFERENCE_SERVICE, legacy)
    assert made["apiVersion"] == "serving.kserve.io/v1beta1"


def test_a_dry_run_stores_nothing(registry: Registry) -> None:
    version = registry.store.version
    made = create(registry, DEPLOYMENT, make_deployment(), dry_run=True)
    assert made["spec"]["replicas"] == 1
    assert registry.store.version == version
    with pytest.raises(NotFound):
        registry.read(DEPLOYMENT, "default", "web")


def test_optimistic_concurrency(registry: Registry) -> None:
    made = create(registry, CONFIG_MAP, make_config_map(x="1"))
    registry.replace(CONFIG_MAP, "default", "a", {**made, "data": {"x": "2"}})
    with pytest.raises(Conflict, match="has been modified"):
        registry.replace(CONFIG_MAP, "default", "a", {**made, "data": {"x": "3"}})
    unconditional = registry.replace(CONFIG_MAP, "default", "a", make_config_map(x="4"))
    assert unconditional.object["data"] == {"x": "4"}


def test_custom_resources_are_never_replaced_unconditionally(registry: Registry) -> None:
    create(registry, INFERENCE_SERVICE, make_isvc())
    with pytest.raises(Invalid, match="resourceVersion"):
        registry.replace(INFERENCE_SERVICE, "default", "iris", make_isvc())


def test_an_update_that_changes_nothing_is_no_update(registry: Registry) -> None:
    made = create(registry, CONFIG_MAP, make_config_map(x="1"))
    again = registry.replace(CONFIG_MAP, "default", "a", made).object
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_identity_cannot_be_changed(registry: Registry) -> None:
    made = create(registry, CONFIG_MAP, make_config_map())
    changed = {
        **made,
        "metadata": {**made["metadata"], "creationTimestamp": "1999-01-01T00:00:00Z"},
    }
    kept = registry.replace(CONFIG_MAP, "default", "a", changed).object
    assert kept["metadata"]["creationTimestamp"] == made["metadata"]["creationTimestamp"]
    with pytest.raises(Conflict, match="UID in precondition"):
        registry.replace(
            CONFIG_MAP, "default", "a", {**made, "metadata": {**made["metadata"], "uid": "other"}}
        )
    with pytest.raises(BadRequest, match="does not match the name"):
        registry.replace(CONFIG_MAP, "default", "b", made)


def test_generation_counts_changes_of_the_spec_only(registry: Registry) -> None:
    def patch(body: Any, subresource: str = "") -> int:
        written = registry.patch(
            DEPLOYMENT, "default", "web", body, PatchType.MERGE, subresource=subresource
        )
        return int(written.object["metadata"]["generation"])

    create(registry, DEPLOYMENT, make_deployment())
    assert patch({"metadata": {"labels": {"x": "y"}}}) == 1
    assert patch({"status": {"replicas": 1}}, "status") == 1
    assert patch({"spec": {"replicas": 2}}) == 2
    assert patch({"spec": {"replicas": 2}}) == 2


def test_status_and_spec_are_written_apart(registry: Registry) -> None:
    made = create(registry, DEPLOYMENT, make_deployment())
    both = {**made, "spec": {**made["spec"], "replicas": 5}, "status": {"replicas": 5}}
    status = registry.replace(DEPLOYMENT, "default", "web", both, subresource="status").object
    assert (status["spec"]["replicas"], status["status"]) == (1, {"replicas": 5})
    both["metadata"]["resourceVersion"] = status["metadata"]["resourceVersion"]
    both["status"] = {"replicas": 9}
    spec = registry.replace(DEPLOYMENT, "default", "web", both).object
    assert (spec["spec"]["replicas"], spec["status"]) == (5, {"replicas": 5})


def test_unknown_fields_are_kept(registry: Registry) -> None:
    made = create(registry, CONFIG_MAP, {**make_config_map(), "future": {"x": [1]}})
    assert made["future"] == {"x": [1]}


def test_unknown_fields_are_warned_about_or_refused(registry: Registry) -> None:
    pod = make_pod(replicass=1)
    written = registry.create(POD, "default", pod, WriteOptions(field_validation="Warn"))
    assert len(written.warnings) == 1
    assert 'unknown field "spec.replicass"' in written.warnings[0]
    strict = WriteOptions(field_validation="Strict")
    with pytest.raises(BadRequest, match="strict decoding error"):
        registry.create(POD, "default", make_pod("q", replicass=1), strict)


def test_a_wrong_type_deep_inside_is_named(registry: Registry) -> None:
    pod = make_pod(containers=[{"name": "c", "image": "a", "ports": [{"containerPort": "80"}]}])
    with pytest.raises(Invalid) as caught:
        create(registry, POD, pod)
    assert caught.value.details is not None
    (cause,) = caught.value.details["causes"]
    assert cause["field"] == "spec.containers[0].ports[0].containerPort"
    assert "80" in cause["message"]


@pytest.mark.parametrize(
    ("kind", "obj", "field"),
    [
        (CONFIG_MAP, {"metadata": {}}, "metadata.name"),
        (CONFIG_MAP, {"metadata": {"name": "A_B"}}, "metadata.name"),
        (CONFIG_MAP, {"metadata": {"name": "a", "labels": {"x y": "1"}}}, "metadata.labels"),
        (CONFIG_MAP, {"metadata": {"name": "a", "labels": {"x": "a b"}}}, "metadata.labels"),
        (POD, make_pod(containers=[]), "spec.containers"),
        (POD, make_pod(containers=[{"name": "c"}]), "spec.containers[0].image"),
        (
            POD,
            make_pod(containers=[{"name": "c", "image": "a"}, {"name": "c", "image": "b"}]),
            "spec.containers[1].name",
        ),
        (
            POD,
            make_pod(
                containers=[
                    {"name": "c", "image": "a", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
                ]
            ),
            "spec.containers[0].volumeMounts[0].name",
        ),
        (DEPLOYMENT, make_deployment(replicas=-1), "spec.replicas"),
        (
            DEPLOYMENT,
            make_deployment(selector={"matchLabels": {"other": "x"}}),
            "spec.template.metadata.labels",
        ),
        (SERVICE, {"metadata": {"name": "s"}, "spec": {"ports": []}}, "spec.ports"),
        (
            SERVICE,
            {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 0}]}},
            "spec.ports[0].port",
        ),
    ],
)
def test_what_may_not_be_stored(registry: Registry, kind: Kind, obj: Object, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        create(registry, kind, obj)
    assert caught.value.details is not None
    assert field in [cause["field"] for cause in caught.value.details["causes"]]


@pytest.mark.parametrize(
    ("kind", "obj", "patch"),
    [
        (DEPLOYMENT, make_deployment(), {"spec": {"selector": {"matchLabels": {"x": "y"}}}}),
        (POD, make_pod(nodeName="n"), {"spec": {"nodeName": "m"}}),
        (POD, make_pod(), {"spec": {"restartPolicy": "Never"}}),
        (
            SERVICE,
            {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}},
            {"spec": {"clusterIP": "10.96.1.1"}},
        ),
        (SECRET, {"metadata": {"name": "s"}}, {"type": "other"}),
        (
            CONFIG_MAP,
            {"metadata": {"name": "c"}, "data": {"a": "1"}, "immutable": True},
            {"data": {"a": "2"}},
        ),
    ],
)
def test_what_may_not_change(registry: Registry, kind: Kind, obj: Object, patch: Object) -> None:
    made = create(registry, kind, obj)
    with pytest.raises(Invalid):
        registry.patch(kind, "default", made["metadata"]["name"], patch, PatchType.MERGE)


def test_a_pod_is_bound_once_and_may_change_its_image(registry: Registry) -> None:
    create(registry, POD, make_pod())
    registry.patch(POD, "default", "p", {"spec": {"nodeName": "n"}}, PatchType.MERGE)
    image = [{"op": "replace", "path": "/spec/containers/0/image", "value": "app:2"}]
    made = registry.patch(POD, "default", "p", image, PatchType.JSON).object
    assert (made["spec"]["nodeName"], made["spec"]["containers"][0]["image"]) == ("n", "app:2")


def test_strategic_patches_are_for_core_kinds(registry: Registry) -> None:
    create(registry, INFERENCE_SERVICE, make_isvc())
    with pytest.raises(UnsupportedMediaType, match=r"application/merge-patch\+json"):
        registry.patch(INFERENCE_SERVICE, "default", "iris", {}, PatchType.STRATEGIC)


def test_a_patch_with_a_version_is_conditional(registry: Registry) -> None:
    create(registry, CONFIG_MAP, make_config_map())
    stale = {"metadata": {"resourceVersion": "1"}, "data": {"x": "1"}}
    with pytest.raises(Conflict):
        registry.patch(CONFIG_MAP, "default", "a", stale, PatchType.MERGE)


def test_scale(registry: Registry) -> None:
    made = create(registry, DEPLOYMENT, make_deployment())
    written = registry.patch(
        DEPLOYMENT, "default", "web", {"spec": {"replicas": 4}}, PatchType.MERGE,
        subresource="scale",
    )  # fmt: skip
    assert written.object["spec"]["replicas"] == 4
    assert written.object["metadata"]["generation"] == 2
    with pytest.raises(Invalid, match="greater than or equal to 0"):
        registry.scale(DEPLOYMENT, "default", "web", {"spec": {"replicas": -1}}, WriteOptions())
    stale = {
        "metadata": {"resourceVersion": made["metadata"]["resourceVersion"]},
        "spec": {"replicas": 1},
    }
    with pytest.raises(Conflict):
        registry.scale(DEPLOYMENT, "default", "web", stale, WriteOptions())


@dataclass(frozen=True)
class Review:
    warnings: tuple[str, ...] = ()


class Strict:
    """Refuses what is named `bad` and warns about everything."""

    def __init__(self) -> None:
        self.seen: list[tuple[Operation, str]] = []

    def admit(self, kind: Kind, operation: Operation, obj: Object, old: Object | None) -> Review:
        self.seen.append((operation, obj["metadata"]["name"]))
        if obj["metadata"]["name"] == "bad":
            raise Invalid("no")
        return Review(("careful",))


def test_admission_is_asked_for_spec_and_not_for_status(store: Store) -> None:
    admission = Strict()
    registry = LocalCluster(store, admission).registry
    admission.seen.clear()
    with pytest.raises(Invalid, match="no"):
        registry.create(DEPLOYMENT, "default", make_deployment("bad"))
    written = registry.create(DEPLOYMENT, "default", make_deployment())
    assert written.warnings == ["careful"]
    registry.patch(
        DEPLOYMENT, "default", "web", {"status": {"replicas": 1}}, PatchType.MERGE,
        subresource="status",
    )  # fmt: skip
    registry.patch(DEPLOYMENT, "default", "web", {"spec": {"replicas": 2}}, PatchType.MERGE)
    assert admission.seen == [("CREATE", "bad"), ("CREATE", "web"), ("UPDATE", "web")]


@pytest.mark.parametrize("name", ["default", "kedge"])
def test_two_namespaces_always_stay(registry: Registry, name: str) -> None:
    assert registry.read(NAMESPACE, "", name).object["status"] == {"phase": "Active"}
    with pytest.raises(Forbidden):
        registry.delete(NAMESPACE, "", name)


def test_a_deletion_meant_for_another_object(registry: Registry) -> None:
    create(registry, CONFIG_MAP, make_config_map())
    with pytest.raises(Conflict):
        registry.delete(CONFIG_MAP, "default", "a", DeleteOptions(uid="other"))
    with pytest.raises(Conflict):
        registry.delete(CONFIG_MAP, "default", "a", DeleteOptions(resource_version="1"))
    assert registry.delete(CONFIG_MAP, "default", "a", DeleteOptions(dry_run=True)).gone
    assert registry.delete(CONFIG_MAP, "default", "a").gone
