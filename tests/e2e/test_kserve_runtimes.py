"""KServe's own runtimes, arguments unchanged, with `kedge serve` as the containers' command.

The arguments are repeated here and compared with KServe's manifests where those are at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.e2e.running import RunningKedge
from tests.integration.trained import (
    ROWS,
    iris,
    lightgbm_classifier,
    sklearn_classifier,
    xgboost_classifier,
)

from kedge.api.scheme import SERVING_RUNTIME
from kedge.runtimes.versions import installed_version
from kedge.server.errors import ModelLoadFailed

MANIFESTS = Path(__file__).parents[3] / "shared/data/kserve/runtimes"
COMMON = ["--model_name={{.Name}}", "--model_dir=/mnt/models", "--http_port=8080"]


@dataclass(frozen=True)
class Case:
    """One runtime of KServe's: what its container is given, and a model to try it with."""

    runtime: str
    serves: str
    args: list[str]
    save: Callable[[Path], object]
    format: str = ""
    needs: str = ""
    instances: Any = None
    predictions: Any = None


def pmml(folder: Path) -> None:
    (folder / "model.pmml").write_text(
        '<PMML xmlns="http://www.dmg.org/PMML-4_4" version="4.4"><Header/><DataDictionary>'
        '<DataField name="x" optype="continuous" dataType="double"/>'
        '<DataField name="y" optype="continuous" dataType="double"/></DataDictionary>'
        '<RegressionModel functionName="regression"><MiningSchema><MiningField name="x"/>'
        '<MiningField name="y" usageType="target"/></MiningSchema>'
        '<RegressionTable intercept="1.5"><NumericPredictor name="x" coefficient="2"/>'
        "</RegressionTable></RegressionModel></PMML>"
    )


CASES = [
    Case("kserve-sklearnserver", "sklearn", COMMON, sklearn_classifier),
    Case("kserve-xgbserver", "xgboost", [*COMMON, "--nthread=1"], xgboost_classifier),
    Case("kserve-lgbserver", "lightgbm", [*COMMON, "--nthread=1"], lightgbm_classifier),
    Case(
        "kserve-predictiveserver",
        "predictive",
        [*COMMON, "--framework={{.Annotations.modelFormat}}", "--nthread=1"],
        sklearn_classifier,
        format="sklearn",
    ),
    Case(
        "kserve-pmmlserver", "pmml", COMMON, pmml,
        needs="jpmml-evaluator", instances=[[2.0]], predictions=[{"y": 5.5}],
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.runtime)
def test_its_arguments_are_kserves(case: Case) -> None:
    if not MANIFESTS.is_dir():
        pytest.skip("KServe's manifests are not beside this checkout")
    manifest = yaml.safe_load((MANIFESTS / f"{case.runtime}.yaml").read_text())
    (container,) = manifest["spec"]["containers"]
    assert container["args"] == case.args
    assert "command" not in container


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.runtime)
def test_a_model_is_served(kedge: RunningKedge, tmp_path: Path, case: Case) -> None:
    if case.needs:
        try:
            installed_version(case.needs, case.serves)
        except ModelLoadFailed:
            pytest.skip(f"needs {case.needs}")
    tmp_path.chmod(0o755)
    case.save(tmp_path)
    name = case.runtime.removeprefix("kserve-")
    format_ = case.format or case.serves
    kedge.apply(runtime(case, format_), service(name, case, format_, tmp_path))
    try:
        kedge.until_ready(name)
        instances = ROWS if case.instances is None else case.instances
        path = f"/serving/default/{name}/v1/models/{name}:predict"
        status, answer = kedge.post(path, {"instances": instances})
        assert status == 200, answer
        predictions = answer["predictions"]
        if case.predictions is not None:
            assert predictions == case.predictions
        else:
            labels = np.argmax(predictions, axis=1) if np.ndim(predictions) == 2 else predictions
            assert list(map(int, labels)) == [int(iris()[1][76]), int(iris()[1][85])]
    finally:
        kedge.delete(name)
        kedge.api("DELETE", SERVING_RUNTIME.path("default", f"{case.runtime}-here"))


def runtime(case: Case, format_: str) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": f"{case.runtime}-here", "namespace": "default"},
        "spec": {
            "supportedModelFormats": [{"name": format_, "version": "1"}],
            "protocolVersions": ["v1", "v2"],
            "containers": [
                {
                    "name": "kserve-container",
                    "image": "kedge/python:latest",
                    "command": ["python", "-m", "kedge", "serve", case.serves],
                    "args": case.args,
                }
            ],
        },
    }


def service(name: str, case: Case, format_: str, folder: Path) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "predictor": {
                "model": {
                    "modelFormat": {"name": format_},
                    "runtime": f"{case.runtime}-here",
                    "storageUri": f"file://{folder}",
                }
            }
        },
    }
