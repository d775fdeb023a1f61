"""A process that may see one namespace asks for that one only."""

from __future__ import annotations

from kedge.api.scheme import CLUSTER_SERVING_RUNTIME, CONFIG_MAP, NAMESPACE
from kedge.cluster.base import Cluster
from kedge.cluster.local.admission import AdmitAll
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.store import Store
from kedge.cluster.narrowed import NarrowedCluster


async def test_all_namespaces_are_the_one() -> None:
    store = Store(":memory:")
    whole = LocalCluster(store, AdmitAll())
    for name in ("one", "two"):
        await whole.create(
            NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        )
        config = {"apiVersion": "v1", "kind": "ConfigMap"}
        await whole.create(CONFIG_MAP, {**config, "metadata": {"name": "a", "namespace": name}})
    narrowed: Cluster = NarrowedCluster(whole, "one")

    everything = await narrowed.list(CONFIG_MAP)
    assert [obj["metadata"]["namespace"] for obj in everything.items] == ["one"]
    assert len((await narrowed.list(CONFIG_MAP, "two")).items) == 1
    assert len((await narrowed.list(CLUSTER_SERVING_RUNTIME)).items) == 0
    async for event in narrowed.watch(CONFIG_MAP):
        assert event.object["metadata"]["namespace"] == "one"
        break
    store.close()
