"""What a pickle needs, without running it."""

from __future__ import annotations

import bz2
import collections
import gzip
import lzma
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kedge.runtimes.pickles import read_facts

ESTIMATOR = {"weights": [1.0, 2.0], "_sklearn_version": "1.2.3"}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "compress", [bytes, gzip.compress, bz2.compress, zlib.compress, lzma.compress]
)
def test_the_version_is_found(
    tmp_path: Path, protocol: int, compress: Callable[[Any], bytes]
) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(compress(pickle.dumps([ESTIMATOR, ESTIMATOR], protocol)))
    assert read_facts(path).sklearn_version == "1.2.3"


def test_no_version(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"a": 1}))
    facts = read_facts(path)
    assert facts.sklearn_version == ""
    assert facts.missing_modules() == {}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_classes_are_found(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(collections.OrderedDict(a=1), protocol))
    assert read_facts(path).classes == {"collections": ("OrderedDict",)}


def named(module: str, name: str) -> bytes:
    """A pickle of an instance of `module.name`, which need not exist."""
    encoded = b"".join(
        b"\x8c" + bytes([len(part)]) + part.encode() + b"\x94" for part in (module, name)
    )
    return b"\x80\x04" + encoded + b"\x93\x94)\x81\x94."


def test_missing_modules_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(named("no_such_library.deep", "Thing"))
    assert read_facts(path).missing_modules() == {
        "no_such_library": ("no_such_library.deep.Thing",)
    }
    path.write_bytes(b"cno_such_library\nThing\n.")
    assert read_facts(path).missing_modules() == {"no_such_library": ("no_such_library.Thing",)}


def test_classes_of_a_notebook_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(named("__main__", "Mine"))
    facts = read_facts(path)
    assert facts.notebook_classes() == ("Mine",)
    assert facts.missing_modules() == {}


@pytest.mark.parametrize("content", [b"\x1f\x8bjunk", b"BZjunk", b"\x78\x9cjunk", b"junk"])
def test_damaged_files_are_no_trouble(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    assert read_facts(path).sklearn_version == ""
