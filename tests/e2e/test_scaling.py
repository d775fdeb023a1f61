"""A real Kedge follows its traffic: from zero, up, and back, with a gateway that comes and goes."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.running import RunningKedge, wait_for

from kedge.api.scheme import DEPLOYMENT, INFERENCE_SERVICE, POD

SLOW = """
import asyncio
from kedge.server import Model, ModelServer
class Slow(Model):
    async def predict(self, payload, headers):
        await asyncio.sleep(payload["instances"][0])
        return {"predictions": payload["instances"]}
ModelServer().start([Slow("slow")])
"""
WINDOW = 10


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningKedge]:
    """A Kedge whose windows are short, for everything that does not say otherwise."""
    running = RunningKedge(tmp_path_factory.mktemp("scaling"))
    running.start()
    data = {
        "stable-window": f"{WINDOW}s",
        "scale-to-zero-grace-period": "1s",
        "panic-window-percentage": "20",
    }
    running.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "config-autoscaler", "namespace": "kedge"},
            "data": data,
        },
        namespace="kedge",
    )
    yield running
    running.stop()


def slow(name: str, **predictor: Any) -> dict[str, Any]:
    """A service whose answers take as long as the request says."""
    return {
        "apiVersion": INFERENCE_SERVICE.api_version,
        "kind": INFERENCE_SERVICE.kind,
        "metadata": {"name": name},
        "spec": {
            "predictor": {
                "containers": [{"name": "main", "image": "kedge/python", "args": ["-c", SLOW]}],
                **predictor,
            }
        },
    }


def replicas(kedge: RunningKedge, name: str) -> int:
    found = kedge.stored(DEPLOYMENT, f"{name}-predictor-00001")
    return int(found["spec"]["replicas"]) if found else -1


def ask(kedge: RunningKedge, name: str, seconds: float) -> int:
    path = f"/serving/default/{name}/v1/models/slow:predict"
    return kedge.post(path, {"instances": [seconds]})[0]


def scaling(kedge: RunningKedge, name: str) -> dict[str, Any]:
    (found,) = json.loads(kedge.kedge("get", "scaling", name, "-o", "json"))
    return dict(found)


def test_from_zero_up_and_back(quick: RunningKedge) -> None:
    quick.apply(slow("wave", minReplicas=0, maxReplicas=3, scaleTarget=1))
    quick.until_ready("wave")
    wait_for(lambda: replicas(quick, "wave") == 0, 20, "the proof was not released")
    assert scaling(quick, "wave")["reason"] == "nobody asks"
    with ThreadPoolExecutor(12) as clients:
        answers = [clients.submit(ask, quick, "wave", 3.0) for _ in range(12)]
        wait_for(lambda: replicas(quick, "wave") == 3, 20, "the burst brought too few pods")
        told = quick.kedge("get", "scaling", "wave")
        assert "max-scale is 3, the load asks for" in told
        assert {answer.result() for answer in answers} == {200}
    seen = scaling(quick, "wave")
    assert seen["secondsToZero"] < 3 * WINDOW
    wait_for(lambda: replicas(quick, "wave") == 0, 5 * WINDOW, lambda: str(scaling(quick, "wave")))
    assert "wave-predictor-00001" in quick.kedge("get", "scaling")
    assert ask(quick, "wave", 0.0) == 200
    quick.delete("wave")


def test_requests_keep_pods_through_a_restart_of_either_side(quick: RunningKedge) -> None:
    quick.apply(slow("steady", minReplicas=1, maxReplicas=2, scaleTarget=1))
    quick.until_ready("steady")
    until = time.monotonic() + 25

    def load() -> set[int]:
        codes = set()
        while time.monotonic() < until:
            codes.add(ask(quick, "steady", 0.5))
        return codes

    with ThreadPoolExecutor(4) as clients:
        loads = [clients.submit(load) for _ in range(4)]
        wait_for(lambda: replicas(quick, "steady") == 2, 15, "the load brought no second pod")
        counts = set()
        for part in ("control", "data"):
            os.kill(quick.part(part), signal.SIGKILL)
            deadline = time.monotonic() + 7
            while time.monotonic() < deadline:
                try:
                    counts.add(replicas(quick, "steady"))
                except OSError:
                    time.sleep(0.1)
        assert counts == {2}
        assert set().union(*(one.result() for one in loads)) == {200}
    wait_for(lambda: replicas(quick, "steady") == 1, 6 * WINDOW, "no pod went")
    quick.delete("steady")


def test_a_hard_limit_is_the_target_too(quick: RunningKedge) -> None:
    quick.apply(slow("single", minReplicas=0, maxReplicas=4, containerConcurrency=1))
    quick.until_ready("single")
    with ThreadPoolExecutor(8) as clients:
        answers = [clients.submit(ask, quick, "single", 1.0) for _ in range(8)]
        wait_for(lambda: replicas(quick, "single") == 4, 20, "the burst brought too few pods")
        assert {answer.result() for answer in answers} == {200}
    assert scaling(quick, "single")["target"] == 0.7
    quick.delete("single")


def test_top_and_metrics(quick: RunningKedge) -> None:
    quick.apply(slow("busy", minReplicas=1))
    quick.until_ready("busy")
    for _ in range(30):
        assert ask(quick, "busy", 0.02) == 200
    path = "/serving/default/busy/v1/models/absent:predict"
    assert quick.post(path, {"instances": [0]})[0] == 404

    def busy(*arguments: str) -> dict[str, Any]:
        (found,) = json.loads(quick.kedge("top", "busy", "-o", "json", *arguments))
        return dict(found)

    # Counts come every ten seconds, times up to five later.
    wait_for(lambda: busy()["requests"] == 31 and busy()["p50"], 40, lambda: str(busy()))
    seen = busy()
    assert (seen["refused"], seen["failed"], seen["ready"]) == (1, 0, 1)
    assert 15 < seen["p50"] < 200
    assert busy("--since", "1h")["requests"] == 31
    assert re.search(r"^busy +1/1 ", quick.kedge("top"), re.MULTILINE)
    ready = json.loads((quick.data_dir / "ready.json").read_text())
    with urllib.request.urlopen(ready["metrics_url"]) as answer:
        text = answer.read().decode()
    labels = 'namespace="default",service="busy",component="predictor"'
    revision = f'{labels},revision="busy-predictor-00001"'
    assert f'kedge_requests_total{{{revision},code_class="2xx"}} 30' in text
    assert f"kedge_replicas_ready{{{labels}}} 1" in text
    assert f"kn_revision_pods_count{{{revision}}} 1" in text
    with urllib.request.urlopen(f"{ready['metrics_url']}/envoy") as answer:
        assert b"envoy_cluster_upstream_rq_total" in answer.read()
    quick.delete("busy")


def test_what_is_not_ours_is_said(quick: RunningKedge, iris: Path) -> None:
    quick.apply(
        {
            "apiVersion": INFERENCE_SERVICE.api_version,
            "kind": INFERENCE_SERVICE.kind,
            "metadata": {
                "name": "fixed",
                "annotations": {
                    "serving.kserve.io/deploymentMode": "Standard",
                    "serving.kserve.io/autoscalerClass": "none",
                },
            },
            "spec": {
                "predictor": {
                    "model": {"modelFormat": {"name": "sklearn"}, "storageUri": f"file://{iris}"}
                }
            },
        }
    )
    quick.until_ready("fixed")
    assert "scaled by nobody" in quick.kedge("get", "scaling", "fixed")
    assert "not found" in quick.kedge("get", "scaling", "absent", check=False)
    quick.delete("fixed")


HUNGRY_PODS = "serving.kserve.io/inferenceservice=hungry"
HUNGRY = """
from kedge.server import Model, ModelServer
class Hungry(Model):
    async def predict(self, payload, headers):
        self.kept = b"x" * (payload["instances"][0] * 2**20)
        return {"predictions": [len(self.kept)]}
ModelServer().start([Hungry("hungry")])
"""


def test_a_horizontal_pod_autoscaler_by_memory_that_rests_at_zero(quick: RunningKedge) -> None:
    hungry = slow("hungry", minReplicas=0, maxReplicas=2)
    hungry["metadata"]["annotations"] = {
        "serving.kserve.io/deploymentMode": "Standard",
        "serving.kserve.io/autoscalerClass": "hpa",
    }
    predictor = hungry["spec"]["predictor"]
    predictor["containers"][0] |= {
        "args": ["-c", HUNGRY],
        "resources": {"requests": {"cpu": "100m", "memory": "200Mi"}},
    }
    target = {"type": "Utilization", "averageUtilization": 100}
    predictor["autoScaling"] = {
        "metrics": [{"type": "Resource", "resource": {"name": "memory", "target": target}}],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
    }
    quick.apply(hungry)
    quick.until_ready("hungry")

    def count() -> int:
        return int(quick.stored(DEPLOYMENT, "hungry-predictor")["spec"]["replicas"])

    def eat(mebibytes: int) -> int:
        path = "/serving/default/hungry/v1/models/hungry:predict"
        return quick.post(path, {"instances": [mebibytes]})[0]

    wait_for(lambda: count() == 0, 20, "the proof was not released")
    # The pod that leaves would still answer, and nobody would be woken.
    wait_for(lambda: not quick.objects(POD, HUNGRY_PODS), 20, "the pod stays")
    # From zero to one is Kedge's, from one to two the HorizontalPodAutoscaler's.
    assert eat(300) == 200
    assert count() == 1
    wait_for(
        lambda: eat(300) == 200 and count() == 2,
        40,
        lambda: quick.kedge("get", "scaling", "hungry"),
    )
    told = quick.kedge("get", "scaling", "hungry")
    assert "scaled by the HorizontalPodAutoscaler hungry-predictor" in told
    assert "memory" in told
    wait_for(
        lambda: eat(0) == 200 and count() == 1, 60, lambda: quick.kedge("get", "scaling", "hungry")
    )
    wait_for(lambda: count() == 0, 60, lambda: quick.kedge("get", "scaling", "hungry"))
    assert eat(1) == 200
    quick.delete("hungry")
