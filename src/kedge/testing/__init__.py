"""Test doubles that ship: for Kedge's own tests and for the tests of people who build on it.

`serve` puts models behind a real server for the length of a test; `EchoModel` is one that answers
with what it is given. No other package imports this one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kedge.testing.serving import EchoModel, Refused, ServedModels, serve

__all__ = ["EchoModel", "Refused", "ServedModels", "serve"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("kedge.testing.serving"), name)


def __dir__() -> list[str]:
    return __all__
