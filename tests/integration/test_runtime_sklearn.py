"""scikit-learn: skops files, and modules in `code/` beside the model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from tests.integration.runtime_process import (
    everywhere,
    failed_start,
    metadata,
    predictions,
    serving,
)
from tests.integration.trained import ROWS, iris

SHIFT = """
import numpy as np

def shift(rows):
    return rows + 0.0

def name_of(path):
    return str(path)
"""


def fitted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A pipeline with a function of the model's own module."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    code = folder / "code"
    code.mkdir()
    (code / "churn_steps.py").write_text(SHIFT)
    monkeypatch.syspath_prepend(code)
    import churn_steps  # type: ignore[import-not-found]  # written above

    features, labels = iris()
    steps = FunctionTransformer(churn_steps.shift), LogisticRegression(max_iter=500)
    return make_pipeline(*steps).fit(features, labels)


@pytest.fixture(autouse=True)
def _no_trace() -> Iterator[None]:
    yield
    sys.modules.pop("churn_steps", None)


def test_code_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    joblib.dump(fitted(tmp_path, monkeypatch), tmp_path / "model.joblib")
    with serving("sklearn", tmp_path, tmp_path / "log") as served:
        assert predictions(served, ROWS) == [1, 1]
    (tmp_path / "code" / "churn_steps.py").unlink()
    line = failed_start("sklearn", tmp_path)
    assert "needs module churn_steps (for churn_steps.shift), which is not installed" in line
    assert line.endswith(f"or put the module into {tmp_path / 'code'}.")


def test_skops(tmp_path: Path) -> None:
    skops_io = pytest.importorskip("skops.io", reason="needs skops to save the model")
    from sklearn.svm import SVC

    skops_io.dump(SVC(gamma="auto").fit(*iris()), tmp_path / "model.skops")
    with serving("sklearn", tmp_path, tmp_path / "log") as served:
        assert metadata(served) == (
            {"input-0": ("FP64", [-1, 4])},
            {"output-0": ("INT64", [-1])},
        )
        assert predictions(served, ROWS) == [1, 1]
        assert everywhere(served, {"input-0": np.array(ROWS)})["output-0"].tolist() == [1, 1]
    path = tmp_path / "model.skops"
    path.write_bytes(path.read_bytes()[:-30])
    assert "is no complete skops file: File is not a zip file" in failed_start("sklearn", tmp_path)


def test_skops_trusts_what_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skops_io = pytest.importorskip("skops.io", reason="needs skops to save the model")
    skops_io.dump(fitted(tmp_path, monkeypatch), tmp_path / "model.skops")
    line = failed_start("sklearn", tmp_path)
    assert "does not know to be harmless: churn_steps.shift." in line
    assert line.endswith("add --skops_trusted=churn_steps.shift.")
    trusting = "--skops_trusted=churn_steps.shift"
    with serving("sklearn", tmp_path, tmp_path / "log", trusting) as served:
        assert predictions(served, ROWS) == [1, 1]
