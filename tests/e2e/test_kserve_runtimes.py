"""KServe's own runtimes, arguments unchanged, with `kedge serve` as the containers' command.

The arguments are repeated here and compared with KServe's manifests where those are at hand.
"""

from __future__ import annotations

import subprocess
import sys
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


PADDLE = """
import sys
import paddle

class Net(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.linear = paddle.nn.Linear(3, 2, bias_attr=False)
        self.linear.weight.set_value(paddle.to_tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]))

    def forward(self, x):
        return self.linear(x)

spec = paddle.static.InputSpec([None, 3], "float32", "x")
paddle.jit.save(Net(), sys.argv[1] + "/model", input_spec=[spec])
"""
ENCODER = """
import sys, torch, transformers as t

words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "film"]
config = t.BertConfig(
    vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=16, max_position_embeddings=32, num_labels=3,
)
model = t.BertForSequenceClassification(config)
model.classifier.bias.data = torch.tensor([0.0, 0.0, 9.0])
model.save_pretrained(sys.argv[1])
t.BertTokenizerFast(vocab={w: i for i, w in enumerate(words)}).save_pretrained(sys.argv[1])
"""


def by(script: str) -> Callable[[Path], object]:
    """A model made in a process of its own: these frameworks warn as they are imported."""

    def save(folder: Path) -> None:
        path = folder.with_name(f"{folder.name}-make.py")  # Paddle reads the layer's source.
        path.write_text(script)
        subprocess.run([sys.executable, "-W", "ignore", str(path), str(folder)], check=True)

    return save


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
    Case(
        "kserve-paddleserver", "paddle", COMMON, by(PADDLE),
        needs="paddlepaddle", instances=[[1, 2, 3]], predictions=[[4.0, 7.0]],
    ),
    Case(
        "kserve-huggingfaceserver", "huggingface", COMMON[:1], by(ENCODER),
        needs="transformers", instances=["good film"], predictions=[2],
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
    folder = tmp_path / "model"
    folder.mkdir()
    tmp_path.chmod(0o755)
    case.save(folder)
    name = case.runtime.removeprefix("kserve-")
    format_ = case.format or case.serves
    kedge.apply(runtime(case, format_), service(name, case, format_, folder))
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
