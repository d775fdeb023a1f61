"""Fixtures of the end-to-end tests: one Kedge for them all, one trained model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.running import RunningKedge

TRAIN = """
import joblib, sys
from sklearn.datasets import load_iris
from sklearn.svm import SVC
data = load_iris()
joblib.dump(SVC(gamma="scale").fit(data.data, data.target), sys.argv[1])
"""


@pytest.fixture(scope="session")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scikit-learn iris classifier, trained here."""
    folder = tmp_path_factory.mktemp("models") / "iris"
    folder.mkdir()
    subprocess.run([sys.executable, "-c", TRAIN, str(folder / "model.joblib")], check=True)
    return folder


@pytest.fixture(scope="package")
def kedge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningKedge]:
    """A Kedge that the tests share; each uses names of its own."""
    running = RunningKedge(tmp_path_factory.mktemp("kedge"))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def own_kedge(tmp_path: Path) -> Iterator[RunningKedge]:
    """A Kedge for one test that disturbs it."""
    running = RunningKedge(tmp_path / "kedge")
    running.start()
    yield running
    running.stop()
