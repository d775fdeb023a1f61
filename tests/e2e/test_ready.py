"""Ready means: a request sent now is answered; and not Ready is said as soon as a pod has died."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import kubernetes
import numpy as np
import pytest
import tritonclient.grpc as triton
from tests.e2e.running import RunningKedge, condition

from kedge.api.scheme import POD

REPEAT = int(os.environ.get("KEDGE_TEST_REPEAT", "10"))
ROWS = [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]
COLLECTION = ("serving.kserve.io", "v1beta1", "default", "inferenceservices")


@pytest.fixture
def objects(kedge: RunningKedge) -> Iterator[Any]:
    client = kubernetes.config.new_client_from_config(str(kedge.kubeconfig))
    with client:
        yield kubernetes.client.CustomObjectsApi(client)


def manifest(name: str, model: Path) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {
            "predictor": {
                "model": {"modelFormat": {"name": "sklearn"}, "storageUri": f"file://{model}"}
            }
        },
    }


def until_ready(objects: Any, name: str, wanted: str = "True", since: str = "") -> dict[str, Any]:
    """The object of the watch event that turned Ready to `wanted`."""
    watch = kubernetes.watch.Watch()
    for event in watch.stream(
        objects.list_namespaced_custom_object,
        *COLLECTION,
        field_selector=f"metadata.name={name}",
        timeout_seconds=60,
        **({"resource_version": since} if since else {}),
    ):
        if condition(event["object"]).get("status") == wanted:
            watch.stop()
            found: dict[str, Any] = event["object"]
            return found
    raise AssertionError(f"{name} did not turn Ready={wanted}")


def grpc_answer(kedge: RunningKedge, name: str) -> list[int]:
    with triton.InferenceServerClient(f"127.0.0.1:{kedge.port}") as client:
        tensor = triton.InferInput("input-0", [2, 4], "FP32")
        tensor.set_data_from_numpy(np.array(ROWS, dtype=np.float32))
        answer = client.infer(name, [tensor], headers={"kedge-service": f"default/{name}"})
        output = answer.get_response().outputs[0].name
        return [int(value) for value in answer.as_numpy(output)]


def test_a_request_at_the_event_that_says_ready_is_answered(
    kedge: RunningKedge, objects: Any, iris: Path
) -> None:
    for turn in range(REPEAT):
        name = f"ready-{turn}"
        objects.create_namespaced_custom_object(*COLLECTION, manifest(name, iris))
        seen = until_ready(objects, name)
        url = seen["status"]["address"]["url"]
        path = url.partition(f":{kedge.port}")[2]
        status, answer = kedge.post(f"{path}/v1/models/{name}:predict", {"instances": ROWS})
        assert (status, answer) == (200, {"predictions": [1, 1]}), f"turn {turn}: {answer}"
        assert grpc_answer(kedge, name) == [1, 1], f"turn {turn}"
        objects.delete_namespaced_custom_object(*COLLECTION, name)


def test_a_crash_turns_ready_false_before_the_server_is_back(
    kedge: RunningKedge, objects: Any, iris: Path
) -> None:
    name = "crashes"
    objects.create_namespaced_custom_object(*COLLECTION, manifest(name, iris))
    ready = until_ready(objects, name)
    pids = [
        int(proc.name)
        for proc in Path("/proc").iterdir()
        if proc.name.isdigit() and _serves(proc, name)
    ]
    assert pids
    killed = time.monotonic()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    seen = until_ready(objects, name, "False", ready["metadata"]["resourceVersion"])
    print(f"\nnot Ready after {time.monotonic() - killed:.2f} s")
    assert condition(seen)["message"]
    # The container was started anew once: it was said before that one was back.
    until_ready(objects, name, since=seen["metadata"]["resourceVersion"])
    (pod,) = kedge.objects(POD, f"serving.kserve.io/inferenceservice={name}")
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 1
    objects.delete_namespaced_custom_object(*COLLECTION, name)


def _serves(proc: Path, name: str) -> bool:
    try:
        return f"--model_name={name}".encode() in (proc / "cmdline").read_bytes()
    except OSError:
        return False


def test_an_unknown_service_is_named(kedge: RunningKedge) -> None:
    status, answer = kedge.post("/serving/default/nobody/v1/models/nobody:predict", {})
    assert status == 404
    assert "nobody" in str(answer)
    with pytest.raises(Exception, match="nobody") as caught:
        grpc_answer(kedge, "nobody")
    assert grpc.StatusCode.UNIMPLEMENTED.name in str(caught.value) or "NOT_FOUND" in str(
        caught.value
    )
