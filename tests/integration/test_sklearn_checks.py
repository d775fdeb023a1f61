"""scikit-learn asks less, and answers and refuses the same."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils import validation

from kedge.runtimes.sklearn_checks import know_arrays, remember

ESTIMATORS = (
    SVC(gamma="scale"),
    LogisticRegression(max_iter=1000),
    RandomForestClassifier(n_estimators=5, random_state=0),
    HistGradientBoostingClassifier(max_iter=5),
    KNeighborsClassifier(),
    KMeans(3, n_init=1, random_state=0),
    make_pipeline(StandardScaler(), LogisticRegression()),
)
DATA = load_iris()
ROWS = DATA.data[::10]


def outcome(estimator: Any, rows: Any) -> Any:
    """What a prediction gives, or how it is refused."""
    try:
        return estimator.predict(rows).tolist()
    except Exception as error:
        return type(error), str(error)


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """scikit-learn's own functions come back after each test."""
    for name in ("_nw_into_df_or_series", "_get_feature_names"):
        monkeypatch.setattr(validation, name, getattr(validation, name))


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        ROWS[:1],
        ROWS.astype(np.float32),
        ROWS.tolist(),
        ROWS[:, :3],
        ROWS[0],
        ROWS[:0],
        np.where(ROWS > 6, np.nan, ROWS),
        np.where(ROWS > 6, np.inf, ROWS),
        ROWS.astype(object),
        ROWS.astype(str),
        np.array([["a", "b", "c", "d"]], dtype=object),
        ROWS.astype(complex),
    ],
    ids=lambda one: f"{type(one).__name__}",
)
def test_answers_and_refusals_are_the_same(estimator: Any, rows: Any) -> None:
    fitted = clone(estimator).fit(DATA.data, DATA.target)
    before = outcome(fitted, rows)
    know_arrays()
    remember(fitted)
    assert outcome(fitted, rows) == before


def test_an_estimator_that_is_not_fitted_stays_so() -> None:
    estimator = SVC()
    know_arrays()
    remember(estimator)
    with pytest.raises(NotFittedError):
        estimator.predict(ROWS)


def test_an_estimator_can_still_be_copied_and_pickled() -> None:
    fitted = SVC().fit(DATA.data, DATA.target)
    remember(fitted)
    copy = pickle.loads(pickle.dumps(fitted))
    assert copy.predict(ROWS).tolist() == fitted.predict(ROWS).tolist()
    with pytest.raises(NotFittedError):
        clone(fitted).predict(ROWS)


def test_data_frames_are_still_recognised() -> None:
    pandas = pytest.importorskip("pandas")
    know_arrays()
    know_arrays()
    fitted = SVC().fit(pandas.DataFrame(DATA.data, columns=DATA.feature_names), DATA.target)
    remember(fitted)
    assert list(fitted.feature_names_in_) == DATA.feature_names
    wrong = pandas.DataFrame(ROWS, columns=["a", "b", "c", "d"])
    assert "feature names should match" in str(outcome(fitted, wrong))
