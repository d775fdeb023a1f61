"""Real models, trained in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np

ROWS = [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]


def iris() -> tuple[Any, Any]:
    from sklearn.datasets import load_iris

    return load_iris(return_X_y=True)  # type: ignore[no-any-return]  # sklearn has no types


def sklearn_classifier(folder: Path) -> Path:
    from sklearn.svm import SVC

    features, labels = iris()
    joblib.dump(SVC(gamma="auto").fit(features, labels), folder / "model.joblib")
    return folder


def sklearn_labels(folder: Path) -> Path:
    """Labels are text, probabilities are offered."""
    from sklearn.linear_model import LogisticRegression

    features, labels = iris()
    names = np.array(["setosa", "versicolor", "virginica"])
    model = LogisticRegression(max_iter=1000).fit(features, names[labels])
    joblib.dump(model, folder / "model.pkl")
    return folder


def sklearn_frame(folder: Path) -> Path:
    """A pipeline that selects columns by name and encodes text."""
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    table = pd.DataFrame({"rooms": [1.0, 2.0, 3.0, 4.0], "town": ["a", "b", "a", "b"]})
    steps = make_column_transformer((StandardScaler(), ["rooms"]), (OneHotEncoder(), ["town"]))
    model = make_pipeline(steps, LinearRegression()).fit(table, [1.0, 3.0, 3.0, 5.0])
    joblib.dump(model, folder / "model.joblib")
    return folder


def sklearn_text(folder: Path) -> Path:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(CountVectorizer(), MultinomialNB())
    model.fit(["good fine", "bad awful", "good", "bad"], [1, 0, 1, 0])
    joblib.dump(model, folder / "model.joblib")
    return folder


def xgboost_classifier(folder: Path, name: str = "model.json") -> Path:
    import xgboost

    features, labels = iris()
    table = xgboost.DMatrix(features, label=labels)
    options = {"objective": "multi:softmax", "num_class": 3, "nthread": 1}
    xgboost.train(options, table, 5).save_model(folder / name)
    return folder


def lightgbm_classifier(folder: Path) -> Path:
    import lightgbm

    features, labels = iris()
    options = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}
    lightgbm.train(options, lightgbm.Dataset(features, label=labels), 5).save_model(
        folder / "model.bst"
    )
    return folder
