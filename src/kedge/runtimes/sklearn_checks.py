"""What scikit-learn asks of every array, asked of those only that could answer otherwise.

Of the 100 µs that a small prediction takes, 90 are questions with known answers: whether a fitted
model is fitted, what its tags are, whether a NumPy array is a data frame. The answers are kept
here: by the hook that scikit-learn offers for the first, and before its own functions for the
last. What is checked of the values (kinds, shapes, NaN) stays scikit-learn's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

_SAME_FOR_ARRAYS = {"_nw_into_df_or_series": False, "_get_feature_names": None}
"""Functions of `sklearn.utils.validation`, and what they answer for any plain array."""


def know_arrays() -> None:
    """Lets scikit-learn's questions about data frames pass plain arrays by."""
    from sklearn.utils import validation

    for name, answer in _SAME_FOR_ARRAYS.items():
        ask = getattr(validation, name, None)
        if ask is not None and not isinstance(ask, _Unless):
            setattr(validation, name, _Unless(ask, answer))


class _Unless:
    """A function of one argument that has a known answer for arrays."""

    __slots__ = ("_answer", "_ask")

    def __init__(self, ask: Callable[..., Any], answer: Any) -> None:
        self._ask = ask
        self._answer = answer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and type(args[0]) is np.ndarray and not kwargs:
            return self._answer
        return self._ask(*args, **kwargs)


def remember(estimator: Any) -> None:
    """What a fitted estimator of scikit-learn's own says of itself is asked once.

    Call it last: what inspects the estimator's attributes should not find these.
    """
    from sklearn.utils.validation import check_is_fitted

    kind = type(estimator)
    if kind.__module__.partition(".")[0] != "sklearn":
        return
    with suppress(Exception):  # One that is not fitted, or has no room for more attributes.
        check_is_fitted(estimator)
        tags = estimator.__sklearn_tags__()
        if not hasattr(kind, "__sklearn_is_fitted__"):
            estimator.__sklearn_is_fitted__ = partial(bool, True)
        estimator.__sklearn_tags__ = partial(_itself, tags)


def _itself(value: Any) -> Any:
    return value
