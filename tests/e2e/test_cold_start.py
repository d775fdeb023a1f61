"""A service at zero is asked, and its pod is forked from a template."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from tests.e2e.running import RunningKedge, crowded_seconds, wait_for

from kedge.api.scheme import POD
from kedge.cluster.local.node.starts import Start, read

BODY = {"instances": [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]}


def service(name: str, model: Path) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {
            "predictor": {
                "minReplicas": 0,
                "model": {"modelFormat": {"name": "sklearn"}, "storageUri": f"file://{model}"},
            }
        },
    }


def pods(kedge: RunningKedge, name: str) -> list[dict[str, Any]]:
    return kedge.objects(POD, f"serving.kserve.io/inferenceservice={name}")


def start_of(kedge: RunningKedge, name: str) -> Start:
    return wait_for(lambda: next((s for p in pods(kedge, name) if (s := read(p))), None))  # type: ignore[return-value]  # the truthy one


def template(kedge: RunningKedge) -> dict[str, Any]:
    """The first template, as `kedge status` tells it."""
    status = json.loads(kedge.kedge("status", "--data-dir", str(kedge.data_dir), "-o", "json"))
    found: list[dict[str, Any]] = status["services"]["templates"]
    return found[0] if found else {}


def test_a_service_at_zero_is_answered_by_a_forked_pod(own_kedge: RunningKedge, iris: Path) -> None:
    kedge = own_kedge
    kedge.apply(service("cold", iris))
    kedge.until_ready("cold")
    # It has proved itself with a pod, which nobody asked for since.
    wait_for(lambda: not pods(kedge, "cold"), 60, kedge.logs)
    crowded = crowded_seconds()
    status, answer = kedge.post("/serving/default/cold/v1/models/cold:predict", BODY)
    crowded = crowded_seconds() - crowded
    assert (status, answer) == (200, {"predictions": [1, 1]})
    start = start_of(kedge, "cold")
    assert start.warm
    assert next(iter(start.phases)) == "scheduled"
    assert start.phases["framework"] < 0.5 + crowded
    assert "forked from a template: scheduled " in kedge.kedge("why", "cold")
    wait_for(lambda: template(kedge).get("forks", 0) >= 1)


def test_a_killed_data_process_has_its_templates_back(own_kedge: RunningKedge, iris: Path) -> None:
    kedge = own_kedge
    kedge.apply(service("cold", iris))
    kedge.until_ready("cold")
    wait_for(lambda: not pods(kedge, "cold"), 60, kedge.logs)
    before = wait_for(lambda: template(kedge).get("pid"))
    os.kill(kedge.part("data"), signal.SIGKILL)
    wait_for(lambda: template(kedge).get("pid") not in (0, None, before), 30, kedge.logs)
    status, _ = kedge.post("/serving/default/cold/v1/models/cold:predict", BODY)
    assert status == 200
    assert start_of(kedge, "cold").warm
