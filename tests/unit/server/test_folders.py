"""Which folder holds a model, and in which version."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from kedge.server.errors import ModelFileMissing, ModelLoadFailed
from kedge.server.folders import Folders, Runtime
from kedge.server.model import Model
from kedge.server.options import Options


class Placed(Model):
    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name)
        self.folder = folder


def folders(root: Path) -> Folders:
    runtime = SimpleNamespace(
        ENDINGS=(".json", ".bin"), make=lambda name, folder, options: Placed(name, folder)
    )
    options = Options("x", model_name="m", model_dir=str(root))
    return Folders(cast(Runtime, runtime), options)


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{}")


def told(models: list[Model], root: Path) -> list[tuple[str, str, str]]:
    return [
        (one.name, one.version, str(cast(Placed, one).folder.relative_to(root))) for one in models
    ]


def test_files_make_a_model_without_a_version(tmp_path: Path) -> None:
    put(tmp_path, "model.bin")
    assert told(folders(tmp_path).models(), tmp_path) == [("m", "", ".")]


def test_the_highest_number_is_served(tmp_path: Path) -> None:
    put(tmp_path, "2/model.bin", "10/model.bin", "11/readme.txt", "x/model.bin")
    found = folders(tmp_path)
    assert told(found.models(), tmp_path) == [("m", "10", "10")]
    assert found.load("m").version == "10"
    put(tmp_path, "12/model.bin")
    assert found.load("m").version == "12"


def test_folders_are_models_or_their_versions(tmp_path: Path) -> None:
    put(tmp_path, "a/model.bin", "b/1/model.bin", "b/2/model.bin", "c/readme.txt")
    found = folders(tmp_path)
    assert told(found.models(), tmp_path) == [("a", "", "a"), ("b", "2", "b/2")]
    assert told([found.load("b")], tmp_path) == [("b", "2", "b/2")]
    for name in ("zz", "../a"):
        with pytest.raises(ModelFileMissing):
            found.load(name)


def test_mlserver_s_settings_name_the_version(tmp_path: Path) -> None:
    put(tmp_path, "model.bin")
    settings = tmp_path / "model-settings.json"
    settings.write_text(json.dumps({"name": "m", "parameters": {"version": "v0.1.0"}}))
    assert told(folders(tmp_path).models(), tmp_path) == [("m", "v0.1.0", ".")]
    settings.write_text(json.dumps({"name": "m"}))
    assert told(folders(tmp_path).models(), tmp_path) == [("m", "", ".")]
    settings.write_text("{")
    with pytest.raises(ModelLoadFailed, match=r"model-settings.json is not JSON"):
        folders(tmp_path).models()


def test_settings_alone_are_no_model(tmp_path: Path) -> None:
    put(tmp_path, "model-settings.json", "3/model.bin")
    assert told(folders(tmp_path).models(), tmp_path) == [("m", "3", "3")]
