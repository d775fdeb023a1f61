"""KServe's SDK, unmodified, in a process of its own.

Its protocol buffers and those of Triton's client claim the same names, so that one process cannot
hold both. Run as `python kserve_clients.py WHAT ARGUMENTS...`; exits 0 when all went well. Names
under `localhost` are made unknown to the resolver, as they are on many machines.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

_resolve = socket.getaddrinfo


def _without_localhost_names(host: Any, *rest: Any, **more: Any) -> Any:
    text = host.decode() if isinstance(host, bytes) else str(host)
    if text.endswith(".localhost"):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return _resolve(host, *rest, **more)


socket.getaddrinfo = _without_localhost_names

ROWS = [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]


def control(kubeconfig: str, model: str) -> None:
    from kserve import (
        KServeClient,
        V1beta1InferenceService,
        V1beta1InferenceServiceSpec,
        V1beta1ModelFormat,
        V1beta1ModelSpec,
        V1beta1PredictorSpec,
    )
    from kubernetes.client import V1ObjectMeta

    client = KServeClient(config_file=kubeconfig)
    name, namespace = "by-sdk", "default"
    service = V1beta1InferenceService(
        api_version="serving.kserve.io/v1beta1",
        kind="InferenceService",
        metadata=V1ObjectMeta(name=name, namespace=namespace),
        spec=V1beta1InferenceServiceSpec(
            predictor=V1beta1PredictorSpec(
                model=V1beta1ModelSpec(
                    model_format=V1beta1ModelFormat(name="sklearn"), storage_uri=f"file://{model}"
                )
            )
        ),
    )
    client.create(service)
    client.wait_isvc_ready(name, namespace=namespace, polling_interval=1, timeout_seconds=60)
    assert client.is_isvc_ready(name, namespace=namespace)

    service.spec.predictor.min_replicas = 2
    client.patch(name, service, namespace=namespace)
    assert client.get(name, namespace=namespace)["spec"]["predictor"]["minReplicas"] == 2

    stored = client.get(name, namespace=namespace)["metadata"]["resourceVersion"]
    service.metadata = V1ObjectMeta(name=name, namespace=namespace, resource_version=stored)
    service.spec.predictor.min_replicas = 1
    client.replace(name, service, namespace=namespace)
    generation = client.get(name, namespace=namespace)["metadata"]["generation"]
    client.wait_isvc_ready(
        name,
        namespace=namespace,
        polling_interval=1,
        timeout_seconds=60,
        expected_generation=generation,
    )
    client.delete(name, namespace=namespace)


async def rest(url: str, name: str) -> None:
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

    v1 = InferenceRESTClient(RESTConfig(protocol="v1"))
    answer = await v1.infer(url, {"instances": ROWS}, model_name=name)
    assert answer == {"predictions": [1, 1]}, answer
    assert await v1.is_model_ready(url, name)
    await v1.close()

    v2 = InferenceRESTClient(RESTConfig(protocol="v2"))
    tensor = InferInput("input-0", [2, 4], "FP32", data=ROWS)
    response = await v2.infer(url, InferRequest(name, [tensor]), model_name=name)
    assert response.outputs[0].data == [1, 1], response
    assert await v2.is_server_ready(url)
    assert await v2.is_model_ready(url, name)
    await v2.close()


async def grpc(target: str, name: str) -> None:
    from kserve import InferenceGRPCClient, InferInput, InferRequest

    client = InferenceGRPCClient(target)
    tensor = InferInput("input-0", [2, 4], "FP32", data=[value for row in ROWS for value in row])
    response = await client.infer(
        InferRequest(name, [tensor]), headers=[("kedge-service", f"default/{name}")]
    )
    assert list(response.outputs[0].data) == [1, 1], response
    await client.close()


if __name__ == "__main__":
    what, first, second = sys.argv[1:]
    if what == "control":
        control(first, second)
    else:
        asyncio.run({"rest": rest, "grpc": grpc}[what](first, second))
