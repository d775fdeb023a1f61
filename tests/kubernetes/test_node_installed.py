"""A bare control plane, `kedge node`, `kedge install`: from a service's YAML to zero and back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.contract.apiserver import ApiServer
from tests.integration.trained import ROWS, sklearn_classifier
from tests.kubernetes.nodes import Node, ask, node_of
from tests.kubernetes.world import World, until

pytestmark = pytest.mark.kubernetes

VALUES = {
    "controller": {"replicas": 1},
    "gateway": {"replicas": 1, "serviceType": "NodePort"},
    "webhook": {"failurePolicy": "Fail"},
}
PATH = "/serving/default/iris/v1/models/iris:predict"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def bare(assets: Path, folder: Path) -> Iterator[World]:
    if os.geteuid() != 0:
        pytest.skip("the pods' network is put on lo, which is root's right")
    with ApiServer(assets, folder, controllers=True, scheduler=True, nodes=True) as api:
        yield World(api, folder)


@pytest.fixture(scope="module")
def node(bare: World, folder: Path) -> Iterator[Node]:
    with node_of(bare, folder) as it:
        yield it


def kedge(world: World, *arguments: str) -> str:
    """What it prints; it succeeds."""
    done = subprocess.run(
        [sys.executable, "-m", "kedge", *arguments, f"--kubeconfig={world.api.kubeconfig}"],
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


@pytest.fixture(scope="module")
def installed(bare: World, node: Node, folder: Path) -> World:
    values = folder / "values.yaml"
    values.write_text(yaml.safe_dump(VALUES))
    said = kedge(bare, "install", f"--values={values}", "--timeout=120")
    assert "answered through the gateway" in said
    return bare


def iris(model: Path) -> dict[str, Any]:
    predictor = {
        "minReplicas": 0,
        "model": {"modelFormat": {"name": "sklearn"}, "storageUri": f"file://{model}",
                  "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}},
    }  # fmt: skip
    annotations = {
        "autoscaling.knative.dev/window": "6s",
        "autoscaling.knative.dev/scale-to-zero-pod-retention-period": "0s",
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
        "metadata": {"name": "iris", "annotations": annotations}, "spec": {"predictor": predictor},
    }  # fmt: skip


def gateway_address(world: World) -> str:
    (pod,) = json.loads(
        world.api.kubectl(
            "get", "pods", "-n", "kedge", "-l", "app.kubernetes.io/component=gateway", "-o", "json"
        )
    )["items"]
    return str(pod["status"]["podIP"])


def replicas(world: World) -> int:
    found = world.get("deployment", "iris-predictor-00001", "default")
    return int((found.get("status") or {}).get("replicas", 0))


def test_a_service_goes_to_zero_and_back(installed: World, node: Node, folder: Path) -> None:
    model = folder / "iris"
    model.mkdir()
    sklearn_classifier(model)
    installed.apply(iris(model), namespace="default")
    installed.api.kubectl("wait", "--for=condition=Ready", "isvc/iris", "--timeout=50s")
    gateway = gateway_address(installed)
    assert f"a gateway is at http://{gateway}:8080" in node.log.read_text()
    answer = {"predictions": [1, 1]}
    assert json.loads(ask(gateway, PATH, {"instances": ROWS})) == answer
    until(lambda: replicas(installed) == 0, "a rest at zero", 90)
    assert json.loads(ask(gateway, PATH, {"instances": ROWS})) == answer
    assert replicas(installed) >= 1


def test_what_cannot_be_is_refused_by_the_webhook(installed: World) -> None:
    """The API server reaches it at its pod's address."""
    broken = iris(Path("/nowhere"))
    broken["metadata"]["name"] = "broken"
    broken["spec"]["predictor"]["minReplicas"] = -1
    said = installed.api.kubectl(
        "apply", "--validate=false", "-f", "-", given=yaml.safe_dump(broken), check=False
    )
    assert "minReplicas" in said
    assert installed.get("isvc", "broken") is None


def test_an_uninstalled_kedge_leaves_no_pod(installed: World, node: Node) -> None:
    kedge(installed, "uninstall", "--yes", "--timeout=120")
    until(lambda: not any((node.data_dir / "pods").iterdir()), "a node without pods")
    assert installed.get("namespace", "kedge") is None
