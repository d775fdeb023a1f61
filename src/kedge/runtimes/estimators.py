"""Which scikit-learn estimators answer each row by itself.

Nearly all do. Known are scikit-learn's own, by module, without those whose answer to a row is a
matter of chance or of the rows beside it, and only when all they are made of is known as well: a
function or class of the author's may do anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

_MODULES = frozenset(
    (
        "calibration", "cluster", "compose", "covariance", "cross_decomposition", "decomposition",
        "discriminant_analysis", "dummy", "ensemble", "feature_extraction",
        "feature_selection", "impute",
        "isotonic", "kernel_approximation", "kernel_ridge", "linear_model", "mixture",
        "model_selection", "multiclass", "multioutput", "naive_bayes", "neighbors",
        "neural_network", "pipeline", "preprocessing", "random_projection", "semi_supervised",
        "svm", "tree",
    )
)  # fmt: skip
_DEPENDENT = frozenset(
    ("BernoulliRBM", "FunctionTransformer", "IterativeImputer", "LatentDirichletAllocation",
     "MiniBatchNMF", "NMF")
)  # fmt: skip
_BY_CHANCE = ("stratified", "uniform")  # Of DummyClassifier.
_LIBRARIES = frozenset(("builtins", "numpy", "scipy", "sklearn"))


def has_independent_rows(estimator: Any) -> bool:
    """Whether every part of `estimator` is known to treat rows one by one."""
    seen: set[int] = set()
    pending = [estimator]
    while pending:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if not _is_known(one):
            return False
        if hasattr(one, "get_params"):
            pending.extend(_parts(vars(one)))
    return True


def _is_known(part: Any) -> bool:
    """Estimators by their module, functions by their library; what is neither does nothing."""
    if hasattr(part, "get_params"):
        package, _, rest = type(part).__module__.partition(".")
        known = package == "sklearn" and rest.partition(".")[0] in _MODULES
        chance = getattr(part, "strategy", None) in _BY_CHANCE
        return known and not chance and type(part).__name__ not in _DEPENDENT
    if callable(part) or hasattr(part, "predict") or hasattr(part, "transform"):
        module = getattr(part, "__module__", None) or type(part).__module__
        return module.partition(".")[0] in _LIBRARIES
    return True


def _parts(held: Any) -> Iterator[Any]:
    """What is held that could compute; containers are looked into."""
    pending = [held]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            pending.extend(one.values())
        elif isinstance(one, (list, tuple)):
            pending.extend(one)
        elif isinstance(one, np.ndarray):
            if one.dtype.kind == "O":
                pending.extend(one.ravel().tolist())
        elif not isinstance(one, (str, bytes, int, float, type(None))):
            yield one
