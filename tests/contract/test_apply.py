"""Server-side apply: who owns which field, what goes when nobody does."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.objects import config_map, deployment

from kedge.api.scheme import CONFIG_MAP, DEPLOYMENT
from kedge.cluster.base import Cluster, Object
from kedge.cluster.errors import Conflict

pytestmark = pytest.mark.asyncio(loop_scope="session")


def managers(obj: Object) -> set[str]:
    return {
        entry["manager"]
        for entry in obj["metadata"]["managedFields"]
        if entry["operation"] == "Apply"
    }


async def test_apply_creates_then_changes(cluster: Cluster, namespace: str) -> None:
    created = await cluster.apply(CONFIG_MAP, config_map(namespace))
    assert created["data"] == {"color": "blue"}
    assert managers(created) == {"kedge"}
    changed = await cluster.apply(CONFIG_MAP, config_map(namespace, data={"color": "red"}))
    assert changed["data"] == {"color": "red"}
    assert changed["metadata"]["uid"] == created["metadata"]["uid"]


async def test_applying_the_same_again_changes_nothing(cluster: Cluster, namespace: str) -> None:
    first = await cluster.apply(DEPLOYMENT, deployment(namespace))
    again = await cluster.apply(DEPLOYMENT, deployment(namespace))
    assert again["metadata"]["generation"] == first["metadata"]["generation"]
    config = config_map(namespace)
    made = await cluster.apply(CONFIG_MAP, config)
    same = await cluster.apply(CONFIG_MAP, config)
    assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_fields_no_longer_applied_are_removed(cluster: Cluster, namespace: str) -> None:
    await cluster.apply(
        CONFIG_MAP,
        config_map(namespace, data={"a": "1", "b": "2"}, labels={"x": "y", "z": "w"}),
    )
    changed = await cluster.apply(
        CONFIG_MAP, config_map(namespace, data={"b": "2"}, labels={"z": "w"})
    )
    assert changed["data"] == {"b": "2"}
    assert changed["metadata"]["labels"] == {"z": "w"}


async def test_the_fields_of_others_are_left_alone(cluster: Cluster, namespace: str) -> None:
    await cluster.apply(CONFIG_MAP, config_map(namespace, data={"ours": "1"}))
    await cluster.patch(CONFIG_MAP, "settings", {"data": {"theirs": "2"}}, namespace=namespace)
    await cluster.apply(
        CONFIG_MAP, config_map(namespace, data={"others": "3"}), field_manager="other"
    )
    changed = await cluster.apply(CONFIG_MAP, config_map(namespace, data={"new": "4"}))
    assert changed["data"] == {"theirs": "2", "others": "3", "new": "4"}
    assert managers(changed) == {"kedge", "other"}


async def test_a_shared_field_stays_until_the_last_owner_drops_it(
    cluster: Cluster, namespace: str
) -> None:
    both = config_map(namespace, data={"shared": "1"})
    await cluster.apply(CONFIG_MAP, both, field_manager="one")
    await cluster.apply(CONFIG_MAP, both, field_manager="two")
    left = await cluster.apply(CONFIG_MAP, config_map(namespace, data={}), field_manager="one")
    assert left["data"] == {"shared": "1"}
    left = await cluster.apply(CONFIG_MAP, config_map(namespace, data={}), field_manager="two")
    assert not left.get("data")


async def test_a_conflict_is_refused_unless_forced(cluster: Cluster, namespace: str) -> None:
    await cluster.apply(CONFIG_MAP, config_map(namespace), field_manager="one")
    red = config_map(namespace, data={"color": "red"})
    with pytest.raises(Conflict, match="conflict") as caught:
        await cluster.apply(CONFIG_MAP, red, field_manager="two", force=False)
    assert caught.value.details is not None
    assert caught.value.details["causes"][0]["field"] == ".data.color"
    assert caught.value.details["causes"][0]["reason"] == "FieldManagerConflict"
    forced = await cluster.apply(CONFIG_MAP, red, field_manager="two")
    assert forced["data"] == {"color": "red"}
    left = await cluster.apply(CONFIG_MAP, config_map(namespace, data={}), field_manager="one")
    assert left["data"] == {"color": "red"}


async def test_lists_are_owned_item_by_item(cluster: Cluster, namespace: str) -> None:
    def with_env(**values: str) -> Object:
        wanted = deployment(namespace)
        (container,) = wanted["spec"]["template"]["spec"]["containers"]
        container["env"] = [{"name": name, "value": value} for name, value in values.items()]
        return wanted

    await cluster.apply(DEPLOYMENT, with_env(A="1", B="2"))
    other: dict[str, Any] = {"name": "main", "env": [{"name": "C", "value": "3"}]}
    partial = {
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{**other, "image": "image:1"}]},
            },
        },
    }
    await cluster.apply(DEPLOYMENT, partial, field_manager="other")
    changed = await cluster.apply(DEPLOYMENT, with_env(B="5"))
    (container,) = changed["spec"]["template"]["spec"]["containers"]
    assert {one["name"]: one["value"] for one in container["env"]} == {"B": "5", "C": "3"}


async def test_replicas_that_are_not_applied_are_left_to_the_scaler(
    cluster: Cluster, namespace: str
) -> None:
    """A workload at zero stays at zero, however often its controller applies it."""
    await cluster.create(DEPLOYMENT, deployment(namespace, replicas=0))
    for image in ("image:1", "image:2"):
        wanted = deployment(namespace, replicas=None)
        wanted["spec"]["template"]["spec"]["containers"][0]["image"] = image
        applied = await cluster.apply(DEPLOYMENT, wanted)
        assert applied["spec"]["replicas"] == 0
        assert applied["spec"]["template"]["spec"]["containers"][0]["image"] == image
    await cluster.scale(DEPLOYMENT, "web", namespace, 3, field_manager="kedge-autoscaler")
    applied = await cluster.apply(DEPLOYMENT, deployment(namespace, replicas=None))
    assert applied["spec"]["replicas"] == 3
    await cluster.scale(DEPLOYMENT, "web", namespace, 0, field_manager="kedge-autoscaler")


async def test_applied_ownership_shows_in_managed_fields(cluster: Cluster, namespace: str) -> None:
    applied = await cluster.apply(CONFIG_MAP, config_map(namespace, labels={"x": "y"}))
    (entry,) = applied["metadata"]["managedFields"]
    assert entry["fieldsV1"] == {
        "f:data": {"f:color": {}},
        "f:metadata": {"f:labels": {"f:x": {}}},
    }
    assert entry["apiVersion"] == "v1"
    assert entry["fieldsType"] == "FieldsV1"
