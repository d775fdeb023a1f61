"""`docs/reference/runtimes.md` is what the runtimes say, and every runtime keeps the form."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kedge.runtimes.reference import document, runtimes

ROOT = Path(__file__).parents[3]


def test_golden_reference(golden: Callable[[Path, str], None]) -> None:
    golden(ROOT / "docs/reference/runtimes.md", document())


@pytest.mark.parametrize("name", [name for name, _ in runtimes()])
def test_every_runtime_has_the_same_form(name: str) -> None:
    module = sys.modules[f"kedge.runtimes.{name}"]
    assert list(inspect.signature(module.make).parameters) == ["name", "folder", "options"]
    assert all(isinstance(ending, str) for ending in module.ENDINGS)
