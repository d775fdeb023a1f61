"""Which way a URI goes; files of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from kedge.storage.__main__ import main
from kedge.storage.bring import bring
from kedge.storage.errors import StorageError, disk_error
from kedge.storage.local import patterns


def run(source: str, destination: Path, **env: str) -> list[str]:
    bring(source, destination, print, env)
    return sorted(entry.name for entry in destination.iterdir())


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_entries_are_linked(tmp_path: Path, scheme: str) -> None:
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "model.joblib").write_text("x")
    (source / ".hidden").write_text("x")
    assert run(f"{scheme}{source}", tmp_path / "out") == ["inner", "model.joblib"]
    assert (tmp_path / "out" / "model.joblib").read_text() == "x"
    assert run(f"{scheme}{source}", tmp_path / "out") == ["inner", "model.joblib"]


def test_one_file(tmp_path: Path) -> None:
    (tmp_path / "model.joblib").write_text("x")
    assert run(str(tmp_path / "model.joblib"), tmp_path / "out") == ["model.joblib"]


def test_patterns_choose(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("a.pkl", "b.pkl", "c.txt"):
        (source / name).touch()
    env = {"STORAGE_ALLOW_PATTERNS": '["*.pkl"]', "STORAGE_IGNORE_PATTERNS": "b.*, x"}
    assert run(str(source), tmp_path / "out", **env) == ["a.pkl"]
    with pytest.raises(StorageError, match="not a JSON array"):
        patterns("[nope")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/no/such/folder", "Local path /no/such/folder does not exist"),
        ("file:///no/such/folder", "Local path /no/such/folder does not exist"),
        ("pvc://claim/path", "is a volume, which is mounted and not fetched"),
        ("s3://bucket/model", r"needs the extra kedge\[s3\]"),
        ("gs://bucket/model", r"needs the extra kedge\[gcs\]"),
        ("hf://owner/model", r"needs the extra kedge\[huggingface\]"),
        ("https://me.blob.core.windows.net/c/m", r"needs the extra kedge\[azure\]"),
        ("https://example.com/repo.git", r"needs the extra kedge\[git\]"),
        ("ftp://host/model", "Cannot recognize storage type for ftp://host/model"),
        ("https://host/", "No filename contained in URI"),
        ("https://host/a/..", "No filename contained in URI"),
    ],
)
def test_what_cannot_be_brought(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(StorageError, match=message):
        run(source, tmp_path / "out")


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(StorageError, match=r"Failed to fetch model. No model found"):
        run(str(tmp_path / "source"), tmp_path / "out")


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    error = disk_error(OSError(28, "No space left on device"), tmp_path / "out")
    assert error.reason == "DiskFull"
    assert f"The disk of {tmp_path / 'out'} is full" in str(error)
    assert "larger volume" in error.fix


def test_the_program_tells_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("KEDGE_TERMINATION_LOG", str(log))
    assert main([]) == 1
    assert main(["/no/such/folder", str(tmp_path / "out")]) == 1
    line = "StorageError: Local path /no/such/folder does not exist. Fix: "
    assert capsys.readouterr().err.splitlines()[-1].startswith(line)
    assert log.read_text().startswith(line)
