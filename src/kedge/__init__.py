"""Kedge serves machine-learning models, on one machine and on Kubernetes.

`kedge.run(model)` serves a model from a notebook; `kedge.client` is the SDK; `kedge --help` the
command line. Importing `kedge` loads none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kedge.client.run import run

__all__ = ["__version__", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "run":
        # By its name: the package itself depends on none of its parts.
        return import_module("kedge.client.run").run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
