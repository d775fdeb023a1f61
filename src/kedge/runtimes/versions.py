"""Framework versions: the one that trained a model against the one that is installed."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from kedge.server.errors import ModelLoadFailed

_DISTRIBUTIONS = {
    "mlflow": ("mlflow", "mlflow-skinny"),
    "sklearn": ("scikit-learn",),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "xgboost": ("xgboost", "xgboost-cpu"),
}


@cache
def installed_version(module: str, extra: str) -> str:
    """The version of an installed framework, without importing it."""
    for distribution in _DISTRIBUTIONS.get(module, (module,)):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    raise ModelLoadFailed(
        f"This model needs {module}, which is not installed.",
        fix=f"Install it beside Kedge: pip install 'kedge[{extra}]'.",
    )


def release(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: 1.4.2 of "1.4.2.post1"."""
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def same_minor(first: str, second: str) -> bool:
    return release(first)[:2] == release(second)[:2]
