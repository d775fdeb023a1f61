"""Which estimators may have the rows of several requests joined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.decomposition import NMF, PCA
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from kedge.runtimes.estimators import has_independent_rows

FEATURES = np.random.default_rng(0).random((30, 3))
LABELS = np.arange(30) % 2


class Own(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    def fit(self, features: Any, labels: Any) -> Own:
        return self

    def transform(self, features: Any) -> Any:
        return features - features.mean(axis=0)

    def predict(self, features: Any) -> Any:
        return features.mean()


def kernel(one: Any, other: Any) -> Any:
    return one @ other.T


KNOWN = [
    SVC(),
    LinearRegression(),
    RandomForestClassifier(3),
    GradientBoostingClassifier(n_estimators=2),
    KMeans(2, n_init=1),
    make_pipeline(StandardScaler(), PCA(2), LogisticRegression()),
    make_pipeline(make_column_transformer((StandardScaler(), [0, 1])), LogisticRegression()),
    VotingClassifier([("a", SVC()), ("b", LogisticRegression())]),
    GridSearchCV(SVC(), {"C": [1, 2]}, cv=2),
]
UNKNOWN = [
    Own(),
    SVC(kernel=kernel),
    DummyClassifier(strategy="uniform"),
    make_pipeline(FunctionTransformer(np.log1p), LinearRegression()),
    make_pipeline(NMF(2), LinearRegression()),
    make_pipeline(Own(), LogisticRegression()),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", KNOWN, ids=lambda one: type(one).__name__)
def test_known_estimators(estimator: Any) -> None:
    assert has_independent_rows(estimator.fit(FEATURES, LABELS))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", UNKNOWN, ids=lambda one: type(one).__name__)
def test_what_is_not_known_to_be_independent(estimator: Any) -> None:
    assert not has_independent_rows(estimator.fit(FEATURES, LABELS))


def test_text_is_split_by_scikit_learn_s_own_means_only() -> None:
    texts = ["good fine", "bad"]
    assert has_independent_rows(CountVectorizer().fit(texts))
    assert not has_independent_rows(CountVectorizer(tokenizer=lambda text: text.split()))
