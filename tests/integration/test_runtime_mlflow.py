"""MLflow: columns by name, tensors, a model of one's own, versions that differ."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.integration.runtime_process import (
    everywhere,
    failed_start,
    infer_error,
    metadata,
    predictions,
    serving,
)

pytest.importorskip("mlflow", reason="needs MLflow, which the lock file leaves out")

SAVE = """
import sys, numpy as np, pandas as pd, mlflow.pyfunc, mlflow.sklearn
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import Schema, TensorSpec

kind, folder = sys.argv[1:]
if kind == "columns":
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    table = pd.DataFrame({"rooms": [1.0, 2.0, 3.0, 4.0], "town": ["a", "b", "a", "b"]})
    steps = make_column_transformer((OneHotEncoder(), ["town"]), remainder="passthrough")
    model = make_pipeline(steps, LinearRegression()).fit(table, [1.0, 3.0, 3.0, 5.0])
    signature = infer_signature(table, model.predict(table))
    mlflow.sklearn.save_model(
        model, folder, signature=signature, serialization_format="cloudpickle",
        pip_requirements=["scikit-learn==0.24.0", "mlflow==1.0.0", "no-such-package==1.0"],
    )
else:
    class Doubled(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return {"doubled": model_input["x"] * 2}

    spec = Schema([TensorSpec(np.dtype("float32"), (-1, 2), "x")])
    made = Schema([TensorSpec(np.dtype("float32"), (-1, 2), "doubled")])
    mlflow.pyfunc.save_model(
        folder, python_model=Doubled(), signature=ModelSignature(spec, made), pip_requirements=[]
    )
"""


def saved(kind: str, folder: Path) -> Path:
    """Saved by a process of its own: MLflow takes seconds to import and warns of this and that."""
    model = folder / "model"
    subprocess.run([sys.executable, "-W", "ignore", "-c", SAVE, kind, str(model)], check=True)
    return model


def test_columns(tmp_path: Path) -> None:
    folder = saved("columns", tmp_path)
    log = tmp_path / "log"
    with serving("mlflow", folder, log) as served:
        assert metadata(served) == (
            {"rooms": ("FP64", [-1]), "town": ("BYTES", [-1])},
            {"output-0": ("FP64", [-1])},
        )
        objects = [{"town": "a", "rooms": 2}, {"town": "b", "rooms": 2}]
        np.testing.assert_allclose(predictions(served, objects), [2, 3])
        given = {"rooms": np.array([2.0, 2.0]), "town": np.array(["a", "b"], dtype=object)}
        np.testing.assert_allclose(everywhere(served, given)["output-0"], [2, 3])
        status, body = served.post(
            "/v1/models/m:predict", {"instances": [{"town": "a", "rooms": "x"}]}
        )
        assert status == 400
        assert body["error"].startswith("Column 'rooms' takes double: could not convert string")
    assert "saved with scikit-learn 0.24.0, and 1." in log.read_text()
    assert "no-such-package 1.0 was installed when it was saved" in log.read_text()

    (folder / "model.pkl").write_bytes(b"\x80\x04broken")
    line = failed_start("mlflow", folder)
    assert "MLmodel cannot be loaded:" in line and "saved with scikit-learn 0.24.0" in line
    assert line.endswith(f"Fix: pip install -r {folder / 'requirements.txt'}.")


def test_a_model_of_one_s_own_with_tensors(tmp_path: Path) -> None:
    folder = saved("tensors", tmp_path)
    with serving("mlflow", folder, tmp_path / "log") as served:
        assert metadata(served) == ({"x": ("FP32", [-1, 2])}, {"doubled": ("FP32", [-1, 2])})
        assert predictions(served, [[1, 2]]) == [[2, 4]]
        rows = np.array([[1, 2], [3, 4]], dtype=np.float32)
        assert everywhere(served, {"x": rows})["doubled"].tolist() == [[2, 4], [6, 8]]
        assert infer_error(served, {"x": rows[:, :1]})[0] == 400
    path = folder / "MLmodel"
    text = path.read_text()
    own = next(line for line in text.splitlines() if "python_version:" in line)
    path.write_text(text.replace(own, "    python_version: 3.8.1"))
    line = failed_start("mlflow", folder)
    assert "holds code that Python 3.8.1 pickled, and this is Python 3." in line
    path.write_text("flavors: {onnx: {}}")
    assert "has no python_function flavor; it has onnx." in failed_start("mlflow", folder)
