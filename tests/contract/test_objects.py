"""Creating, reading and replacing; versions, generations and who may write what."""

from __future__ import annotations

import pytest
from tests.contract.objects import config_map, deployment, pod

from kedge.api.scheme import CONFIG_MAP, DEPLOYMENT, NAMESPACE, POD
from kedge.cluster.base import Cluster
from kedge.cluster.errors import (
    AlreadyExists,
    ApiError,
    BadRequest,
    Conflict,
    Invalid,
    NotFound,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_what_was_created_is_read_back(cluster: Cluster, namespace: str) -> None:
    created = await cluster.create(CONFIG_MAP, config_map(namespace, labels={"a": "b"}))
    metadata = created["metadata"]
    assert metadata["uid"]
    assert metadata["resourceVersion"]
    assert metadata["creationTimestamp"]
    assert (created["apiVersion"], created["kind"]) == ("v1", "ConfigMap")
    assert await cluster.get(CONFIG_MAP, "settings", namespace) == created
    listed = await cluster.list(CONFIG_MAP, namespace, fields="metadata.name=settings")
    assert listed.items == [created]
    assert int(listed.resource_version) >= int(metadata["resourceVersion"])


async def test_a_name_is_taken_once(cluster: Cluster, namespace: str) -> None:
    await cluster.create(CONFIG_MAP, config_map(namespace))
    with pytest.raises(AlreadyExists, match='configmaps "settings" already exists'):
        await cluster.create(CONFIG_MAP, config_map(namespace))


async def test_what_is_not_there_is_not_found(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(NotFound, match='configmaps "none" not found') as caught:
        await cluster.get(CONFIG_MAP, "none", namespace)
    assert caught.value.details is not None
    assert caught.value.details["name"] == "none"
    with pytest.raises(NotFound):
        await cluster.replace(CONFIG_MAP, config_map(namespace, "none"))
    with pytest.raises(NotFound):
        await cluster.patch(CONFIG_MAP, "none", {"data": {}}, namespace=namespace)
    with pytest.raises(NotFound):
        await cluster.delete(CONFIG_MAP, "none", namespace)


async def test_nothing_is_created_in_a_namespace_that_is_not_there(cluster: Cluster) -> None:
    with pytest.raises(NotFound, match='namespaces "nowhere-at-all" not found'):
        await cluster.create(CONFIG_MAP, config_map("nowhere-at-all"))


async def test_the_server_makes_up_a_name(cluster: Cluster, namespace: str) -> None:
    wanted = config_map(namespace)
    del wanted["metadata"]["name"]
    wanted["metadata"]["generateName"] = "made-"
    names = {(await cluster.create(CONFIG_MAP, wanted))["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("made-") and len(name) == len("made-") + 5 for name in names)


@pytest.mark.parametrize("name", ["Upper", "under_score", "-dash", "a" * 254])
async def test_a_bad_name_is_refused(cluster: Cluster, namespace: str, name: str) -> None:
    with pytest.raises(Invalid, match=r"metadata\.name") as caught:
        await cluster.create(CONFIG_MAP, config_map(namespace, name))
    assert caught.value.details is not None
    assert caught.value.details["causes"][0]["field"] == "metadata.name"


async def test_a_new_object_has_no_version_yet(cluster: Cluster, namespace: str) -> None:
    # kube-apiserver calls it an internal error (500).
    with pytest.raises(ApiError, match="resourceVersion should not be set"):
        await cluster.create(CONFIG_MAP, config_map(namespace, resourceVersion="1"))


async def test_replacing_needs_the_latest_version(cluster: Cluster, namespace: str) -> None:
    first = await cluster.create(CONFIG_MAP, config_map(namespace))
    second = await cluster.replace(CONFIG_MAP, {**first, "data": {"color": "red"}})
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    with pytest.raises(Conflict, match="the object has been modified"):
        await cluster.replace(CONFIG_MAP, {**first, "data": {"color": "green"}})
    assert (await cluster.get(CONFIG_MAP, "settings", namespace))["data"] == {"color": "red"}


async def test_replacing_without_a_version_overwrites(cluster: Cluster, namespace: str) -> None:
    await cluster.create(CONFIG_MAP, config_map(namespace))
    await cluster.replace(CONFIG_MAP, config_map(namespace, data={"size": "2"}))
    assert (await cluster.get(CONFIG_MAP, "settings", namespace))["data"] == {"size": "2"}


async def test_a_write_that_changes_nothing_makes_no_version(
    cluster: Cluster, namespace: str
) -> None:
    first = await cluster.create(CONFIG_MAP, config_map(namespace))
    second = await cluster.replace(CONFIG_MAP, first)
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    patched = await cluster.patch(
        CONFIG_MAP, "settings", {"data": {"color": "blue"}}, namespace=namespace
    )
    assert patched["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_identity_cannot_be_changed(cluster: Cluster, namespace: str) -> None:
    first = await cluster.create(CONFIG_MAP, config_map(namespace))
    changed = {**first, "metadata": {**first["metadata"], "uid": "0", "resourceVersion": ""}}
    with pytest.raises(Conflict):
        await cluster.replace(CONFIG_MAP, changed)
    changed = {**first, "metadata": {**first["metadata"], "creationTimestamp": None}}
    replaced = await cluster.replace(CONFIG_MAP, changed)
    assert replaced["metadata"]["creationTimestamp"] == first["metadata"]["creationTimestamp"]


async def test_a_generation_counts_changes_of_the_spec(cluster: Cluster, namespace: str) -> None:
    created = await cluster.create(DEPLOYMENT, deployment(namespace))
    assert created["metadata"]["generation"] == 1
    same = await cluster.patch(
        DEPLOYMENT, "web", {"metadata": {"labels": {"x": "y"}}}, namespace=namespace
    )
    assert same["metadata"]["generation"] == 1
    changed = await cluster.patch(
        DEPLOYMENT, "web", {"spec": {"minReadySeconds": 1}}, namespace=namespace
    )
    assert changed["metadata"]["generation"] == 2
    read = await cluster.get(DEPLOYMENT, "web", namespace)
    await cluster.replace_status(
        DEPLOYMENT, {**read, "status": {**read.get("status", {}), "collisionCount": 3}}
    )
    assert (await cluster.get(DEPLOYMENT, "web", namespace))["metadata"]["generation"] == 2


async def test_status_and_the_rest_are_written_apart(cluster: Cluster, namespace: str) -> None:
    created = await cluster.create(POD, {**pod(namespace), "status": {"message": "early"}})
    assert "message" not in created["status"]
    status = {**created["status"], "message": "told"}
    spec = {**created["spec"], "activeDeadlineSeconds": 7}
    written = await cluster.replace_status(POD, {**created, "spec": spec, "status": status})
    assert written["status"]["message"] == "told"
    assert "activeDeadlineSeconds" not in written["spec"]
    changed = {**written, "metadata": {**written["metadata"], "labels": {"x": "y"}}}
    replaced = await cluster.replace(POD, {**changed, "status": {"message": "other"}})
    assert replaced["status"]["message"] == "told"
    assert replaced["metadata"]["labels"] == {"x": "y"}
    patched = await cluster.patch(POD, "lonely", {"status": {"message": "x"}}, namespace=namespace)
    assert patched["status"]["message"] == "told"


async def test_status_is_written_by_version_or_blindly(cluster: Cluster, namespace: str) -> None:
    first = await cluster.create(POD, pod(namespace))
    second = {**first, "status": {**first["status"], "message": "one"}}
    await cluster.replace_status(POD, second)
    with pytest.raises(Conflict):
        await cluster.replace_status(POD, second)
    metadata = {key: first["metadata"][key] for key in ("name", "namespace")}
    blind = {**first, "metadata": metadata, "status": {**first["status"], "message": "two"}}
    written = await cluster.replace_status(POD, blind)
    assert written["status"]["message"] == "two"


async def test_a_status_can_be_patched(cluster: Cluster, namespace: str) -> None:
    await cluster.create(POD, pod(namespace))
    patch = {"metadata": {"labels": {"x": "y"}}, "status": {"reason": "Told"}}
    patched = await cluster.patch(POD, "lonely", patch, namespace=namespace, subresource="status")
    assert patched["status"]["reason"] == "Told"
    assert patched["status"]["phase"] == "Pending"
    # Kubernetes lets a status write change labels and annotations; ours need not.
    assert patched["spec"]["schedulerName"] == "nobody"


async def test_missing_fields_get_their_defaults(cluster: Cluster, namespace: str) -> None:
    created = await cluster.create(DEPLOYMENT, deployment(namespace, replicas=None))
    spec = created["spec"]
    assert spec["replicas"] == 1
    assert spec["revisionHistoryLimit"] == 10
    assert spec["progressDeadlineSeconds"] == 600
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
    }
    template = spec["template"]["spec"]
    assert template["restartPolicy"] == "Always"
    assert template["terminationGracePeriodSeconds"] == 30
    assert template["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    await cluster.scale(DEPLOYMENT, "web", namespace, 0, field_manager="test")


async def test_objects_are_listed_by_namespace_and_by_selector(
    cluster: Cluster, namespace: str
) -> None:
    for name, labels in (
        ("a", {"app": "x", "tier": "1"}),
        ("b", {"app": "x", "tier": "2"}),
        ("c", {"app": "y"}),
    ):
        await cluster.create(CONFIG_MAP, config_map(namespace, name, labels=labels))

    async def names(selector: str) -> list[str]:
        listed = await cluster.list(CONFIG_MAP, namespace, labels=selector)
        return sorted(one["metadata"]["name"] for one in listed.items)

    assert await names("app=x") == ["a", "b"]
    assert await names("app==x,tier!=1") == ["b"]
    assert await names("app in (x, y),!tier") == ["c"]
    assert await names("tier") == ["a", "b"]
    assert await names("tier notin (1),app") == ["b", "c"]
    assert await names("app=z") == []
    everywhere = await cluster.list(CONFIG_MAP, labels="app=x")
    assert [one["metadata"]["name"] for one in everywhere.items] == ["a", "b"]
    with pytest.raises(BadRequest):
        await names("app=(")
    with pytest.raises(BadRequest):
        await cluster.list(CONFIG_MAP, namespace, fields="data.color=blue")


async def test_pods_are_selected_by_field(cluster: Cluster, namespace: str) -> None:
    await cluster.create(POD, pod(namespace, "a"))
    listed = await cluster.list(POD, namespace, fields="spec.nodeName=,status.phase=Pending")
    assert [one["metadata"]["name"] for one in listed.items] == ["a"]
    listed = await cluster.list(POD, namespace, fields="spec.nodeName=elsewhere")
    assert listed.items == []


async def test_a_list_longer_than_a_page_is_whole(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kedge.cluster.kubernetes.cluster._PAGE", 2)
    for number in range(5):
        await cluster.create(
            CONFIG_MAP, config_map(namespace, f"m{number}", labels={"one": "many"})
        )
    listed = await cluster.list(CONFIG_MAP, namespace, labels="one=many")
    assert [one["metadata"]["name"] for one in listed.items] == [f"m{n}" for n in range(5)]


async def test_unknown_fields_of_status_and_annotations_survive(
    cluster: Cluster, namespace: str
) -> None:
    annotations = {"example.com/json": '{"a": [1, "ü"]}'}
    created = await cluster.create(CONFIG_MAP, config_map(namespace, annotations=annotations))
    assert created["metadata"]["annotations"] == annotations


async def test_namespaces_are_cluster_scoped_and_active(cluster: Cluster, namespace: str) -> None:
    found = await cluster.get(NAMESPACE, namespace)
    assert "namespace" not in found["metadata"]
    assert found["status"]["phase"] == "Active"
