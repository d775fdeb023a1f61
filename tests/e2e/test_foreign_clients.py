"""KServe's own SDK and the Kubernetes client, unmodified, with the URLs that Kedge prints."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import kubernetes
import pytest
from tests.e2e.running import RunningKedge, wait_for
from tests.e2e.test_ready import COLLECTION, manifest


@pytest.fixture
def iris_service(kedge: RunningKedge, iris: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    name = request.node.name.removeprefix("test_").replace("_", "-")[:40]
    kedge.kedge("apply", "-f", "-", input=json.dumps(manifest(name, iris)))
    kedge.until_ready(name)
    yield name
    kedge.kubectl("delete", "isvc", name)


def run_kserve(*arguments: str) -> None:
    script = Path(__file__).with_name("kserve_clients.py")
    done = subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_kserve_control_client(kedge: RunningKedge, iris: Path) -> None:
    run_kserve("control", str(kedge.kubeconfig), str(iris))
    wait_for(lambda: "by-sdk" not in kedge.kubectl("get", "isvc", "-o", "name"))


def test_kserve_rest_client(kedge: RunningKedge, iris_service: str) -> None:
    run_kserve("rest", kedge.service(iris_service)["status"]["address"]["url"], iris_service)


def test_kserve_grpc_client(kedge: RunningKedge, iris_service: str) -> None:
    run_kserve("grpc", f"127.0.0.1:{kedge.port}", iris_service)


def test_kubernetes_client(kedge: RunningKedge, iris: Path) -> None:
    with kubernetes.config.new_client_from_config(str(kedge.kubeconfig)) as client:
        objects = kubernetes.client.CustomObjectsApi(client)
        core = kubernetes.client.CoreV1Api(client)
        apps = kubernetes.client.AppsV1Api(client)
        objects.create_namespaced_custom_object(*COLLECTION, manifest("by-client", iris))
        kedge.until_ready("by-client")

        selector = "serving.kserve.io/inferenceservice=by-client"
        pods = core.list_namespaced_pod("default", label_selector=selector).items
        assert [pod.status.phase for pod in pods] == ["Running"]
        assert core.read_namespaced_pod_log(pods[0].metadata.name, "default")
        deployments = apps.list_namespaced_deployment("default", label_selector=selector).items
        assert sum(d.status.ready_replicas or 0 for d in deployments) == 1

        objects.patch_namespaced_custom_object(
            *COLLECTION, "by-client", {"metadata": {"labels": {"team": "blue"}}}
        )
        listed = objects.list_namespaced_custom_object(*COLLECTION, label_selector="team=blue")
        assert [item["metadata"]["name"] for item in listed["items"]] == ["by-client"]
        objects.delete_namespaced_custom_object(*COLLECTION, "by-client")
        wait_for(lambda: "by-client" not in kedge.kubectl("get", "isvc", "-o", "name"))
        with pytest.raises(kubernetes.client.ApiException) as missing:
            objects.get_namespaced_custom_object(*COLLECTION, "by-client")
        assert missing.value.status == 404
