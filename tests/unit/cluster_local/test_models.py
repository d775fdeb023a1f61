"""Model files by their content: pinned, found, compared, collected."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from kedge.cluster.local.models import ModelCache, Unreadable


@pytest.fixture
def cache(tmp_path: Path) -> ModelCache:
    return ModelCache(tmp_path / "cache")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "iris"
    (folder / "deep").mkdir(parents=True)
    (folder / "model.joblib").write_bytes(b"one")
    (folder / "deep" / "vocabulary.txt").write_bytes(b"words")
    return folder


def settle(folder: Path) -> None:
    """Let the files look as if they had been there for a while."""
    old = time.time() - 60
    for place in folder.rglob("*"):
        os.utime(place, (old, old))


def test_the_bytes_stay_whatever_becomes_of_the_folder(cache: ModelCache, source: Path) -> None:
    digest = cache.pin(source)
    assert digest.startswith("sha256:")
    (source / "model.joblib").write_bytes(b"two")
    changed = cache.pin(source)
    assert changed != digest
    for file in (source / "model.joblib", source / "deep" / "vocabulary.txt"):
        file.unlink()
    for wanted, content in ((digest, b"one"), (changed, b"two")):
        place = cache.find(wanted, source)
        assert place is not None
        assert (place / "model.joblib").read_bytes() == content
        assert (place / "deep" / "vocabulary.txt").read_bytes() == b"words"


def test_names_count_and_the_place_does_not(cache: ModelCache, source: Path) -> None:
    digest = cache.pin(source)
    elsewhere = source.rename(source.with_name("other"))
    assert cache.pin(elsewhere) == digest
    (elsewhere / "model.joblib").rename(elsewhere / "model.pkl")
    assert cache.pin(elsewhere) != digest


def test_one_file(cache: ModelCache, source: Path) -> None:
    file = source / "model.joblib"
    digest = cache.pin(file)
    file.write_bytes(b"two")
    place = cache.find(digest, file, single=True)
    assert place is not None
    assert place.name == "model.joblib"
    assert place.read_bytes() == b"one"


def test_what_is_too_large_is_used_in_place_and_compared(tmp_path: Path, source: Path) -> None:
    cache = ModelCache(tmp_path / "cache", copy_limit=4)
    digest = cache.pin(source)
    assert cache.find(digest, source) == source
    (source / "model.joblib").write_bytes(b"two")
    assert cache.find(digest, source) is None
    assert cache.digest(source) != digest
    (source / "model.joblib").write_bytes(b"one")
    assert cache.find(digest, source) == source


def test_what_did_not_change_is_not_read_again(
    cache: ModelCache, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kedge.cluster.local.models._SETTLED", -1.0)
    digest = cache.pin(source)

    def fail(*_: object) -> str:
        raise AssertionError("it was read again")

    monkeypatch.setattr("kedge.cluster.local.models._digest", fail)
    assert cache.pin(source) == digest
    assert cache.digest(source) == digest


def test_notes_of_large_models_are_shared(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kedge.cluster.local.models._SETTLED", -1.0)
    monkeypatch.setattr("kedge.cluster.local.models._WORTH_A_NOTE", 1)
    digest = ModelCache(tmp_path / "cache", copy_limit=1).pin(source)
    monkeypatch.setattr("kedge.cluster.local.models._digest", lambda files: "read again")
    other = ModelCache(tmp_path / "cache", copy_limit=1)
    assert other.digest(source) == digest
    assert other.collect((), spare_seconds=-60) == []


def test_what_cannot_be_read(cache: ModelCache, tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="cannot be read"):
        cache.pin(tmp_path / "nowhere")
    loop = tmp_path / "loop"
    loop.mkdir()
    (loop / "again").symlink_to(loop)
    with pytest.raises(Unreadable, match="cannot be read"):
        cache.pin(loop)


def test_collection(cache: ModelCache, source: Path, tmp_path: Path) -> None:
    first = cache.pin(source)
    (source / "model.joblib").write_bytes(b"two")
    second = cache.pin(source)
    assert cache.collect({second}, spare_seconds=60) == []
    assert cache.collect({second}, spare_seconds=-60) == [first.replace(":", "-")]
    assert cache.find(second, source) is not None
    assert sorted(place.name for place in (tmp_path / "cache").iterdir()) == [
        second.replace(":", "-")
    ]
