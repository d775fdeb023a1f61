"""Patches of each format, and the scale sub-resource."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio
from tests.contract.objects import config_map, deployment

from kedge.api.scheme import CONFIG_MAP, DEPLOYMENT
from kedge.cluster.base import Cluster, Object, PatchType
from kedge.cluster.errors import BadRequest, Conflict, Invalid, NotFound

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def settings(cluster: Cluster, namespace: str) -> Object:
    data = {"color": "blue", "size": "1"}
    return await cluster.create(CONFIG_MAP, config_map(namespace, data=data))


async def test_a_merge_patch_sets_and_removes(
    cluster: Cluster, namespace: str, settings: Object
) -> None:
    patched = await cluster.patch(
        CONFIG_MAP, "settings", {"data": {"color": None, "shape": "round"}}, namespace=namespace
    )
    assert patched["data"] == {"size": "1", "shape": "round"}


async def test_a_json_patch_tests_before_it_writes(
    cluster: Cluster, namespace: str, settings: Object
) -> None:
    patched = await cluster.patch(
        CONFIG_MAP,
        "settings",
        [
            {"op": "test", "path": "/data/color", "value": "blue"},
            {"op": "replace", "path": "/data/color", "value": "red"},
            {"op": "remove", "path": "/data/size"},
            {"op": "add", "path": "/metadata/annotations", "value": {}},
            {"op": "add", "path": "/metadata/annotations/kedge.dev~1note", "value": "d"},
        ],
        namespace=namespace,
        type=PatchType.JSON,
    )
    assert patched["data"] == {"color": "red"}
    assert patched["metadata"]["annotations"] == {"kedge.dev/note": "d"}
    for failing in (
        {"op": "test", "path": "/data/color", "value": "blue"},
        {"op": "remove", "path": "/data/none"},
    ):
        with pytest.raises((Invalid, BadRequest)):
            await cluster.patch(
                CONFIG_MAP, "settings", [failing], namespace=namespace, type=PatchType.JSON
            )


async def test_a_strategic_patch_knows_lists_by_their_keys(
    cluster: Cluster, namespace: str
) -> None:
    await cluster.create(DEPLOYMENT, deployment(namespace))
    container = {
        "name": "main",
        "image": "image:2",
        "env": [{"name": "B", "value": "3"}, {"name": "A", "$patch": "delete"}],
    }
    sidecar = {"name": "side", "image": "side:1"}
    patch = {"spec": {"template": {"spec": {"containers": [container, sidecar]}}}}
    patched = await cluster.patch(
        DEPLOYMENT, "web", patch, namespace=namespace, type=PatchType.STRATEGIC
    )
    found = {one["name"]: one for one in patched["spec"]["template"]["spec"]["containers"]}
    assert found["main"]["image"] == "image:2"
    assert found["main"]["env"] == [{"name": "B", "value": "3"}]
    assert found["side"]["image"] == "side:1"
    merge = {"spec": {"template": {"spec": {"containers": [sidecar]}}}}
    replaced = await cluster.patch(DEPLOYMENT, "web", merge, namespace=namespace)
    assert [one["name"] for one in replaced["spec"]["template"]["spec"]["containers"]] == ["side"]


async def test_a_patch_may_ask_for_a_version(
    cluster: Cluster, namespace: str, settings: Object
) -> None:
    version = settings["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": version}, "data": {"color": "red"}}
    await cluster.patch(CONFIG_MAP, "settings", patch, namespace=namespace)
    with pytest.raises(Conflict):
        await cluster.patch(
            CONFIG_MAP, "settings", {**patch, "data": {"color": "x"}}, namespace=namespace
        )


async def test_a_patch_may_ask_for_the_very_object(
    cluster: Cluster, namespace: str, settings: Object
) -> None:
    patch = {"metadata": {"uid": "another"}, "data": {"color": "red"}}
    with pytest.raises((Conflict, Invalid)):
        await cluster.patch(CONFIG_MAP, "settings", patch, namespace=namespace)


async def test_a_patch_that_makes_nonsense_is_refused(cluster: Cluster, namespace: str) -> None:
    await cluster.create(DEPLOYMENT, deployment(namespace))
    patches: list[dict[str, Any]] = [
        {"spec": {"replicas": -1}},
        {"spec": {"selector": {"matchLabels": {"app": "other"}}}},
        {"spec": {"template": {"spec": {"containers": []}}}},
    ]
    for patch in patches:
        with pytest.raises(Invalid):
            await cluster.patch(DEPLOYMENT, "web", patch, namespace=namespace)
    with pytest.raises((BadRequest, Invalid)):
        await cluster.patch(DEPLOYMENT, "web", {"spec": {"replicas": "many"}}, namespace=namespace)


async def test_scale_changes_replicas_alone(cluster: Cluster, namespace: str) -> None:
    await cluster.create(DEPLOYMENT, deployment(namespace))
    before = await cluster.get(DEPLOYMENT, "web", namespace)
    await cluster.scale(DEPLOYMENT, "web", namespace, 2, field_manager="scaler")
    after = await cluster.get(DEPLOYMENT, "web", namespace)
    assert after["spec"] == {**before["spec"], "replicas": 2}
    assert after["metadata"]["generation"] == 2
    await cluster.scale(DEPLOYMENT, "web", namespace, 0, field_manager="scaler")
    with pytest.raises(NotFound):
        await cluster.scale(DEPLOYMENT, "none", namespace, 2, field_manager="scaler")
