"""Which file is the model, and what is told when there is no one."""

from __future__ import annotations

from pathlib import Path

import pytest

from kedge.runtimes.files import find_model_file
from kedge.server.errors import ModelFileMissing, ModelLoadFailed

ENDINGS = (".joblib", ".pkl")


def find(folder: Path) -> Path:
    return find_model_file(folder, ENDINGS, "scikit-learn")


def test_the_one_file(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"x")
    (tmp_path / "notes.txt").write_bytes(b"x")
    assert find(tmp_path).name == "model.pkl"


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match="missing does not exist"):
        find(tmp_path / "missing")


def test_a_file_for_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"x")
    with pytest.raises(ModelLoadFailed, match="is a file, but a model is a folder"):
        find(tmp_path / "model.pkl")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelFileMissing, match="the folder is empty"):
        find(tmp_path)


def test_other_files_are_listed(tmp_path: Path) -> None:
    (tmp_path / "model.bst").write_bytes(b"x")
    (tmp_path / "logs").mkdir()
    with pytest.raises(ModelFileMissing) as caught:
        find(tmp_path)
    assert "it holds logs/, model.bst" in str(caught.value)
    assert "ends in .joblib or .pkl" in caught.value.fix


def test_a_folder_too_deep(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    with pytest.raises(ModelFileMissing, match=r"or point storageUri \(--model_dir\) at v1/ in it"):
        find(tmp_path)


def test_two_models(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"x")
    (tmp_path / "b.joblib").write_bytes(b"x")
    with pytest.raises(ModelLoadFailed, match=r"\[a.pkl, b.joblib\]"):
        find(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "web page"),
    ],
)
def test_what_is_no_model_at_all(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "model.pkl").write_bytes(content)
    with pytest.raises(ModelLoadFailed, match=message):
        find(tmp_path)
