"""KServe's own SDK and the Kubernetes client, unmodified, with the URLs that Kedge prints.

The names under `localhost` are made unknown to the resolver, as they are on many machines.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes
import pytest
from tests.e2e.running import RunningKedge, condition, wait_for
from tests.e2e.test_ready import COLLECTION, ROWS, manifest

pytestmark = [
    # What the foreign packages do at import and at their end is theirs to mend.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def no_localhost_names(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **more: Any) -> Any:
        text = host.decode() if isinstance(host, bytes) else str(host)
        if text.endswith(".localhost"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.fixture
def iris_service(kedge: RunningKedge, iris: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    name = request.node.name.removeprefix("test_").replace("_", "-")[:40]
    kedge.kedge("apply", "-f", "-", input=json.dumps(manifest(name, iris)))
    wait_for(lambda: condition(kedge.get("isvc", name)).get("status") == "True", 60)
    yield name
    kedge.kubectl("delete", "isvc", name)


def test_kserve_control_client(kedge: RunningKedge, iris: Path) -> None:
    from kserve import (
        KServeClient,
        V1beta1InferenceService,
        V1beta1InferenceServiceSpec,
        V1beta1ModelFormat,
        V1beta1ModelSpec,
        V1beta1PredictorSpec,
    )

    client = KServeClient(config_file=str(kedge.kubeconfig))
    service = V1beta1InferenceService(
        api_version="serving.kserve.io/v1beta1",
        kind="InferenceService",
        metadata=kubernetes.client.V1ObjectMeta(name="by-sdk", namespace="default"),
        spec=V1beta1InferenceServiceSpec(
            predictor=V1beta1PredictorSpec(
                model=V1beta1ModelSpec(
                    model_format=V1beta1ModelFormat(name="sklearn"), storage_uri=f"file://{iris}"
                )
            )
        ),
    )
    client.create(service)
    client.wait_isvc_ready("by-sdk", namespace="default", polling_interval=1, timeout_seconds=60)
    assert client.is_isvc_ready("by-sdk", namespace="default")

    service.spec.predictor.min_replicas = 2
    client.patch("by-sdk", service, namespace="default")
    patched = client.get("by-sdk", namespace="default")
    assert patched["spec"]["predictor"]["minReplicas"] == 2

    service.metadata = kubernetes.client.V1ObjectMeta(
        name="by-sdk",
        namespace="default",
        resource_version=client.get("by-sdk", namespace="default")["metadata"]["resourceVersion"],
    )
    service.spec.predictor.min_replicas = 1
    client.replace("by-sdk", service, namespace="default")
    generation = client.get("by-sdk", namespace="default")["metadata"]["generation"]
    client.wait_isvc_ready(
        "by-sdk",
        namespace="default",
        polling_interval=1,
        timeout_seconds=60,
        expected_generation=generation,
    )
    client.delete("by-sdk", namespace="default")
    wait_for(lambda: "by-sdk" not in kedge.kubectl("get", "isvc", "-o", "name"))


async def test_kserve_rest_client(kedge: RunningKedge, iris_service: str) -> None:
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

    url = kedge.get("isvc", iris_service)["status"]["address"]["url"]
    v1 = InferenceRESTClient(RESTConfig(protocol="v1"))
    answer = await v1.infer(url, {"instances": ROWS}, model_name=iris_service)
    assert answer == {"predictions": [1, 1]}
    assert await v1.is_model_ready(url, iris_service)
    await v1.close()

    v2 = InferenceRESTClient(RESTConfig(protocol="v2"))
    tensor = InferInput("input-0", [2, 4], "FP32", data=ROWS)
    response = await v2.infer(url, InferRequest(iris_service, [tensor]), model_name=iris_service)
    assert response.outputs[0].data == [1, 1]
    assert await v2.is_server_ready(url)
    assert await v2.is_model_ready(url, iris_service)
    await v2.close()


async def test_kserve_grpc_client(kedge: RunningKedge, iris_service: str) -> None:
    from kserve import InferenceGRPCClient, InferInput, InferRequest

    client = InferenceGRPCClient(f"127.0.0.1:{kedge.port}")
    tensor = InferInput("input-0", [2, 4], "FP32", data=ROWS)
    response = await client.infer(
        InferRequest(iris_service, [tensor]),
        headers=[("kedge-service", f"default/{iris_service}")],
    )
    assert list(response.outputs[0].data) == [1, 1]
    await client.close()


def test_kubernetes_client(kedge: RunningKedge, iris: Path) -> None:
    with kubernetes.config.new_client_from_config(str(kedge.kubeconfig)) as client:
        objects = kubernetes.client.CustomObjectsApi(client)
        core = kubernetes.client.CoreV1Api(client)
        apps = kubernetes.client.AppsV1Api(client)
        objects.create_namespaced_custom_object(*COLLECTION, manifest("by-client", iris))
        wait_for(lambda: condition(kedge.get("isvc", "by-client")).get("status") == "True", 60)

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
