"""Importing a framework without what it imports only because it is there.

XGBoost and LightGBM import scikit-learn (1.2 s of 1.5) to offer wrappers in its style, and
scikit-learn imports pandas. A loaded model needs none of it, and all are written to do without.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType


def import_lean(name: str, *, without: tuple[str, ...]) -> ModuleType:
    """The module; on its first import, those of `without` look as if they were not installed."""
    if name in sys.modules:
        return sys.modules[name]
    hidden = [module for module in without if module not in sys.modules]
    for module in hidden:
        sys.modules[module] = None  # type: ignore[assignment]  # how Python marks an import refused
    try:
        return import_module(name)
    finally:
        for module in hidden:
            sys.modules.pop(module, None)
