"""A real Kedge at zero: bursts that wait, pods that take one at a time, a killed gateway."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from tests.e2e.running import RunningKedge, wait_for

from kedge.api.scheme import INFERENCE_SERVICE, POD

BURST = 200
COUNTING = """
import asyncio, ipaddress, os
from kedge.server import Model, ModelServer

class Counting(Model):
    # Answers the most requests that it ever had at once, and its pod's address.
    active = most = 0

    async def predict(self, payload, headers):
        self.active += 1
        self.most = max(self.most, self.active)
        await asyncio.sleep(0.03)
        self.active -= 1
        found = [self.most, int(ipaddress.ip_address(os.environ["KEDGE_POD_IP"]))]
        if isinstance(payload, dict):
            return {"predictions": found}
        output = {"name": "found", "datatype": "INT64", "shape": [2], "data": found}
        return {"model_name": "counting", "outputs": [output]}

ModelServer().start([Counting("counting")])
"""


@pytest.fixture
def own_kedge(tmp_path: Path) -> Iterator[RunningKedge]:
    """Each worker of Envoy counts for itself: with two of them a limit is easily passed."""
    running = RunningKedge(tmp_path / "kedge", "--envoy-workers=2")
    running.start()
    yield running
    running.stop()


@pytest.fixture
def single(own_kedge: RunningKedge) -> RunningKedge:
    """A service at zero whose pods take one request at a time."""
    container = {
        "name": "main",
        "image": "kedge/python",
        "args": ["-c", COUNTING],
        "ports": [{"containerPort": 8080}, {"containerPort": 8081, "name": "h2c"}],
    }
    own_kedge.apply(
        {
            "apiVersion": INFERENCE_SERVICE.api_version,
            "kind": INFERENCE_SERVICE.kind,
            "metadata": {
                "name": "single",
                "annotations": {"autoscaling.knative.dev/window": "6s"},
            },
            "spec": {
                "predictor": {
                    "minReplicas": 0,
                    "maxReplicas": 4,
                    "containerConcurrency": 1,
                    "containers": [container],
                }
            },
        }
    )
    own_kedge.until_ready("single")
    at_zero(own_kedge)
    return own_kedge


def at_zero(kedge: RunningKedge) -> None:
    wait_for(lambda: not kedge.objects(POD), 60, "the pods were not released")


def ask(kedge: RunningKedge) -> tuple[int, int]:
    path = "/serving/default/single/v1/models/counting:predict"
    status, answer = kedge.post(path, {"instances": [1]})
    assert status == 200, answer
    most, pod = answer["predictions"]
    return most, pod


def ask_grpc(kedge: RunningKedge) -> tuple[int, int]:
    with triton.InferenceServerClient(f"127.0.0.1:{kedge.port}") as client:
        tensor = triton.InferInput("input-0", [1], "FP32")
        tensor.set_data_from_numpy(np.ones(1, dtype=np.float32))
        answer = client.infer("counting", [tensor], headers={"kedge-service": "default/single"})
        most, pod = answer.as_numpy("found")
        return int(most), int(pod)


def test_a_burst_at_zero_one_request_a_pod(single: RunningKedge) -> None:
    """Over REST, and at zero again over gRPC; by the pods' own counters."""
    for protocol, one in (("REST", ask), ("gRPC", ask_grpc)):
        at_zero(single)
        began = time.monotonic()
        with ThreadPoolExecutor(BURST) as clients:
            answers = list(clients.map(one, [single] * BURST))
        took = time.monotonic() - began
        assert {most for most, _ in answers} == {1}
        pods = {pod for _, pod in answers}
        assert len(pods) > 1
        print(f"{protocol}: {BURST} requests at zero, {len(pods)} pods, {took:.1f} s")


def test_a_transformer_and_its_predictor_are_both_woken(
    own_kedge: RunningKedge, iris: Path
) -> None:
    code = Path(__file__).parents[2] / "examples" / "transformer" / "transformer.py"
    transformer = {
        "name": "main",
        "image": "kedge/python",
        "args": [str(code), "--model_name=named"],
    }
    own_kedge.apply(
        {
            "apiVersion": INFERENCE_SERVICE.api_version,
            "kind": INFERENCE_SERVICE.kind,
            "metadata": {
                "name": "named",
                "annotations": {"autoscaling.knative.dev/window": "6s"},
            },
            "spec": {
                "predictor": {
                    "minReplicas": 0,
                    "model": {"modelFormat": {"name": "sklearn"}, "storageUri": f"file://{iris}"},
                },
                "transformer": {"minReplicas": 0, "containers": [transformer]},
            },
        }
    )
    own_kedge.until_ready("named")
    for turn in ("after the proof", "and again"):
        at_zero(own_kedge)
        began = time.monotonic()
        body = {"instances": ["6.8 x 2.8, 4.8 x 1.4", "5.1 x 3.5, 1.4 x 0.2"]}
        status, answer = own_kedge.post("/serving/default/named/v1/models/named:predict", body)
        took = time.monotonic() - began
        assert (status, answer) == (200, {"predictions": ["versicolor", "setosa"]})
        components = {pod["metadata"]["labels"]["component"] for pod in own_kedge.objects(POD)}
        assert components == {"predictor", "transformer"}
        print(f"both woken, {turn}: {took * 1000:.0f} ms")


def test_what_waits_survives_the_data_process(single: RunningKedge) -> None:
    killed = single.part("data")
    with ThreadPoolExecutor(BURST) as clients:
        asked = [clients.submit(ask, single) for _ in range(BURST)]
        wait_for(lambda: single.objects(POD), 10, "nothing was woken")
        os.kill(killed, signal.SIGKILL)
        answers = [one.result() for one in asked]
    assert {most for most, _ in answers} == {1}
    assert len(answers) == BURST
    assert single.part("data") != killed
