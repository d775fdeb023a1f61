"""Train the iris classifier and save it where `isvc.yaml` says. Always the same model."""

from __future__ import annotations

import sys
from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.svm import SVC


def train(folder: Path) -> Path:
    """Write `model.joblib` into the folder; the file."""
    flowers = load_iris()
    model = SVC(gamma="scale", random_state=0).fit(flowers.data, flowers.target)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "model.joblib"
    joblib.dump(model, file)
    return file


if __name__ == "__main__":
    print(train(Path(sys.argv[1] if len(sys.argv) > 1 else "model").absolute()))
