"""Code that comes with a model, loaded again."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kedge.runtimes.code import import_file, leave_with


@pytest.fixture(autouse=True)
def _untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(folder: Path, answer: int) -> Path:
    (folder / "code").mkdir(parents=True, exist_ok=True)
    (folder / "code" / "kedge_test_part.py").write_text(f"ANSWER = {answer}\n")
    (folder / "model.py").write_text("from kedge_test_part import ANSWER\n")
    return folder / "model.py"


def test_what_a_file_imports_is_as_new_as_the_file(tmp_path: Path) -> None:
    first = import_file(write(tmp_path, 1), "m")
    again = import_file(write(tmp_path, 222), "m")
    assert (first.ANSWER, again.ANSWER) == (1, 222)


def test_each_version_has_its_own_code(tmp_path: Path) -> None:
    first = import_file(write(tmp_path / "1", 1), "m")
    second = import_file(write(tmp_path / "2", 2), "m")
    assert (first.ANSWER, second.ANSWER) == (1, 2)
    assert str(tmp_path / "1" / "code") not in sys.path


def test_a_module_leaves_with_its_model(tmp_path: Path) -> None:
    class Owner:
        pass

    old, new = Owner(), Owner()
    leave_with(old, import_file(write(tmp_path, 1), "m"))
    module = import_file(write(tmp_path, 2), "m")
    leave_with(new, module)
    del old
    gc.collect()
    assert sys.modules[module.__name__] is module
    del new
    gc.collect()
    assert module.__name__ not in sys.modules
