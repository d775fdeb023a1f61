"""Importing a framework without what it imports only because it is there.

XGBoost and LightGBM import scikit-learn (1.2 s of 1.5) to offer wrappers in its style, and
scikit-learn imports pandas. A loaded model needs none of it, and all are written to do without.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def absent(*modules: str) -> Iterator[None]:
    """Within this, the named modules look as if they were not installed, unless already loaded."""
    hidden = [module for module in modules if module not in sys.modules]
    for module in hidden:
        sys.modules[module] = None  # type: ignore[assignment]  # how Python marks an import refused
    try:
        yield
    finally:
        for module in hidden:
            sys.modules.pop(module, None)
