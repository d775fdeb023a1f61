"""The PyPI package `kubernetes`, unmodified, against the façade."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.facade_world import RunningFacade

kubernetes = pytest.importorskip("kubernetes")

GROUP = ("serving.kserve.io", "v1beta1", "default", "inferenceservices")


@pytest.fixture(scope="module")
def facade(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFacade]:
    running = RunningFacade(tmp_path_factory.mktemp("facade"))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def client(facade: RunningFacade) -> Iterator[Any]:
    with kubernetes.config.new_client_from_config(str(facade.kubeconfig)) as client:
        yield client


def make_pod(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "x"}},
        "spec": {"containers": [{"name": "c", "image": "app:1"}]},
    }


def test_typed_objects(client: Any) -> None:
    core = kubernetes.client.CoreV1Api(client)
    made = core.create_namespaced_pod("default", make_pod("p"))
    assert (made.spec.restart_policy, made.status.phase) == ("Always", "Pending")
    assert made.metadata.creation_timestamp.tzinfo is not None
    core.patch_namespaced_pod("p", "default", {"metadata": {"annotations": {"a": "b"}}})
    found = core.read_namespaced_pod("p", "default")
    assert found.metadata.annotations == {"a": "b"}
    found.metadata.labels = {"app": "y"}
    assert core.replace_namespaced_pod("p", "default", found).metadata.labels == {"app": "y"}
    with pytest.raises(kubernetes.client.ApiException) as conflict:
        core.replace_namespaced_pod("p", "default", found)
    assert conflict.value.status == 409
    assert [one.metadata.name for one in core.list_pod_for_all_namespaces().items] == ["p"]
    assert core.list_namespaced_pod("default", label_selector="app=x").items == []
    core.delete_namespaced_pod("p", "default")
    with pytest.raises(kubernetes.client.ApiException) as missing:
        core.read_namespaced_pod("p", "default")
    assert missing.value.status == 404


def test_custom_objects(client: Any) -> None:
    api = kubernetes.client.CustomObjectsApi(client)
    isvc = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "iris"},
        "spec": {"predictor": {"sklearn": {"storageUri": "file:///models/iris"}}},
    }
    api.create_namespaced_custom_object(*GROUP, isvc)
    scaled = {"spec": {"predictor": {"minReplicas": 2}}}
    made = api.patch_namespaced_custom_object(*GROUP, "iris", scaled)
    assert made["spec"]["predictor"]["minReplicas"] == 2
    made["spec"]["predictor"]["minReplicas"] = 3
    api.replace_namespaced_custom_object(*GROUP, "iris", made)
    found = api.get_namespaced_custom_object(*GROUP, "iris")
    assert found["metadata"]["generation"] == 3
    assert len(api.list_namespaced_custom_object(*GROUP)["items"]) == 1
    assert api.delete_namespaced_custom_object(*GROUP, "iris")["status"] == "Success"


def test_watch(client: Any) -> None:
    core = kubernetes.client.CoreV1Api(client)
    version = core.list_namespaced_config_map("default").metadata.resource_version
    core.create_namespaced_config_map("default", {"metadata": {"name": "w"}, "data": {"a": "1"}})
    core.patch_namespaced_config_map("w", "default", {"data": {"a": "2"}})
    core.delete_namespaced_config_map("w", "default")
    watch = kubernetes.watch.Watch()
    seen = []
    for event in watch.stream(
        core.list_namespaced_config_map, "default", resource_version=version, timeout_seconds=30
    ):
        seen.append((event["type"], event["object"].data["a"]))
        if event["type"] == "DELETED":
            watch.stop()
    assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]


def test_a_watch_from_before_a_restart_is_gone(facade: RunningFacade) -> None:
    facade.stop()
    facade.start()
    with kubernetes.config.new_client_from_config(str(facade.kubeconfig)) as client:
        core = kubernetes.client.CoreV1Api(client)
        watch = kubernetes.watch.Watch()
        with pytest.raises(kubernetes.client.ApiException) as gone:
            list(watch.stream(core.list_namespace, resource_version="2", timeout_seconds=5))
    assert gone.value.status == 410


def test_a_deployment_and_its_scale(client: Any) -> None:
    apps = kubernetes.client.AppsV1Api(client)
    deployment = {
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "app:1"}]},
            },
        },
    }
    apps.create_namespaced_deployment("default", deployment)
    apps.patch_namespaced_deployment_scale("web", "default", {"spec": {"replicas": 4}})
    assert apps.read_namespaced_deployment_scale("web", "default").spec.replicas == 4
    options = kubernetes.client.V1DeleteOptions(propagation_policy="Foreground")
    apps.delete_namespaced_deployment("web", "default", body=options)


def test_the_dynamic_client_finds_kinds_by_discovery(client: Any) -> None:
    from kubernetes.dynamic import DynamicClient

    dynamic = DynamicClient(client)
    kind = dynamic.resources.get(api_version="serving.kserve.io/v1beta1", kind="InferenceService")
    assert kind.get(namespace="default").items == []
    maps = dynamic.resources.get(api_version="v1", kind="ConfigMap")
    applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "d"},
               "data": {"a": "b"}}  # fmt: skip
    made = dynamic.server_side_apply(
        maps, applied, namespace="default", field_manager="test", force_conflicts=True
    )
    assert made.data.a == "b"
