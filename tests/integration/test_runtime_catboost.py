"""CatBoost: numbers, categories, labels that are text, files that cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
from tests.integration.trained import ROWS, iris

catboost = pytest.importorskip("catboost", reason="needs CatBoost")
QUIET = {"verbose": False, "allow_writing_files": False, "thread_count": 1}


def classifier(folder: Path) -> Any:
    features, labels = iris()
    names = np.array(["setosa", "versicolor", "virginica"])[labels]
    model = catboost.CatBoostClassifier(iterations=10, **QUIET).fit(features, names)
    model.save_model(str(folder / "model.cbm"))
    return model


def test_a_classifier(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    with serving("catboost", tmp_path, tmp_path / "log") as served:
        assert metadata(served) == (
            {"input-0": ("FP32", [-1, 4])},
            {"output-0": ("BYTES", [-1])},
        )
        assert predictions(served, ROWS) == ["versicolor"] * 2
        rows = np.array(ROWS, dtype=np.float32)
        answer = everywhere(served, {"input-0": rows}, ("predict", "predict_proba"))
        assert answer["predict"].tolist() == ["versicolor"] * 2
        np.testing.assert_allclose(answer["predict_proba"], model.predict_proba(ROWS))
        status, message = infer_error(served, {"input-0": rows[:, :3]})
        assert (status, message) == (
            400,
            "Each row has 3 values, but model m takes 4 (0, 1, 2, 3).",
        )


def test_categories_by_name_and_by_position(tmp_path: Path) -> None:
    rows = [[1.0, "a"], [2.0, "b"], [3.0, "a"], [4.0, "b"]] * 5
    pool = catboost.Pool(rows, [1.0, 5.0, 1.0, 5.0] * 5, [1], feature_names=["rooms", "town"])
    model = catboost.CatBoostRegressor(iterations=10, **QUIET).fit(pool)
    model.save_model(str(tmp_path / "model.cbm"))
    wanted = model.predict([[1.5, "a"], [1.5, "b"]])
    with serving("catboost", tmp_path, tmp_path / "log") as served:
        assert metadata(served) == (
            {"rooms": ("FP32", [-1]), "town": ("BYTES", [-1])},
            {"output-0": ("FP64", [-1])},
        )
        objects = [{"town": town, "rooms": 1.5} for town in "ab"]
        np.testing.assert_allclose(predictions(served, objects), wanted)
        np.testing.assert_allclose(predictions(served, [[1.5, "a"], [1.5, "b"]]), wanted)
        towns = np.array(["a", "b"], dtype=object)
        given = {"rooms": np.array([1.5, 1.5], dtype=np.float32), "town": towns}
        np.testing.assert_allclose(everywhere(served, given)["output-0"], wanted)
        status, body = served.post("/v1/models/m:predict", {"instances": [["x", "a"]]})
        assert (status, body["error"]) == (
            400,
            "Column 'rooms' takes numbers, but a row holds 'x'.",
        )


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    classifier(tmp_path)
    path = tmp_path / "model.cbm"
    whole = path.read_bytes()
    path.write_bytes(whole[:-50])
    assert f"is cut short: it has {len(whole) - 50} of" in failed_start("catboost", tmp_path)
    path.write_bytes(b"\x80\x04pickle")
    assert "should begin with CBM1, but begins with" in failed_start("catboost", tmp_path)
    damaged = whole[:8] + b"\xff" * 64 + whole[72:]
    path.write_bytes(damaged.replace(b"1.2.", b"0.9."))
    line = failed_start("catboost", tmp_path)
    assert "was saved by CatBoost 0.9." in line and "Fix: pip install catboost==0.9." in line
