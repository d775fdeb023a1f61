"""What a file is, told without executing it."""

from __future__ import annotations

import gzip
import pickle
import sys
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kedge.client.errors import ModelError
from kedge.client.models import find_model, format_of_object, pickled_class, save


def instance_of(monkeypatch: pytest.MonkeyPatch, path: str, **members: Any) -> Any:
    """An instance of a class that claims to live in a package which need not be installed."""
    module_name, _, name = path.rpartition(".")
    parts = module_name.split(".")
    for i in range(1, len(parts) + 1):
        part = ".".join(parts[:i])
        monkeypatch.setitem(sys.modules, part, ModuleType(part))
    made = type(name, (), {"__module__": module_name, **members})
    setattr(sys.modules[module_name], name, made)
    return made()


def predict(_: Any, rows: Any) -> Any:
    return rows


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("pack", [bytes, zlib.compress, gzip.compress])
def test_a_pickle_is_read_and_not_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, protocol: int, pack: Any
) -> None:
    model = instance_of(monkeypatch, "sklearn.svm._classes.SVC", predict=predict)
    file = tmp_path / "model.joblib"
    file.write_bytes(pack(pickle.dumps(model, protocol)))
    found = find_model(file)
    assert (found.format, found.folder, found.about) == (
        "sklearn", tmp_path, "sklearn.svm._classes.SVC",
    )  # fmt: skip


def test_a_malicious_pickle_does_nothing(tmp_path: Path) -> None:
    class Bad:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "executed",))

    (tmp_path / "model.pkl").write_bytes(pickle.dumps(Bad()))
    with pytest.raises(ModelError, match="which no runtime of Kedge serves"):
        find_model(tmp_path)
    assert not (tmp_path / "executed").exists()


def test_a_cut_off_pickle_is_taken_by_its_name(tmp_path: Path) -> None:
    assert pickled_class(b"\x80\x05\x95") == ""
    (tmp_path / "model.pkl").write_bytes(b"\x80\x05\x95")
    assert find_model(tmp_path).format == "sklearn"


@pytest.mark.parametrize(
    ("name", "content", "format"),
    [
        ("model.bst", b"tree\nversion=v4\n", "lightgbm"),
        ("model.txt", b"tree\nversion=v4\n", "lightgbm"),
        ("model.bst", b"\x00\x01binf", "xgboost"),
        ("model.ubj", b"{L\x00", "xgboost"),
        ("model.json", b'{"learner": {}}', "xgboost"),
        ("model.onnx", b"\x08", "onnx"),
        ("model.pmml", b"<PMML/>", "pmml"),
    ],
)
def test_formats_by_name_and_content(
    tmp_path: Path, name: str, content: bytes, format: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert find_model(tmp_path).format == format
    assert find_model(tmp_path / name).folder == tmp_path


def test_whole_folders(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    assert find_model(tmp_path).format == "tensorflow"


def test_other_files_beside_a_model_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "model.ubj").write_bytes(b"{")
    (tmp_path / "features.json").write_text('{"columns": []}')
    (tmp_path / "notes.txt").write_text("nothing")
    assert find_model(tmp_path).file.name == "model.ubj"


def test_nothing_several_and_unknown_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        find_model(tmp_path / "none")
    with pytest.raises(ModelError, match="only: nothing"):
        find_model(tmp_path)
    (tmp_path / "a.csv").touch()
    with pytest.raises(ModelError, match=r"a\.csv is no model"):
        find_model(tmp_path / "a.csv")
    (tmp_path / "a.ubj").touch()
    (tmp_path / "b.ubj").touch()
    with pytest.raises(ModelError, match=r"2 models: a\.ubj, b\.ubj"):
        find_model(tmp_path)
    with pytest.raises(ModelError, match=r"another model beside a\.ubj: b\.ubj"):
        find_model(tmp_path / "a.ubj")


def test_objects_are_saved_as_their_runtime_reads_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def save_model(_: Any, path: str) -> None:
        Path(path).write_text("saved")

    booster = instance_of(monkeypatch, "xgboost.core.Booster", save_model=save_model)
    assert save(booster, tmp_path / "x").file == tmp_path / "x" / "model.ubj"
    booster = instance_of(monkeypatch, "lightgbm.basic.Booster", save_model=save_model)
    found = save(booster, tmp_path / "l")
    assert (found.format, found.file.read_text()) == ("lightgbm", "saved")
    with pytest.raises(ModelError, match=r"builtins\.int has no `predict`"):
        format_of_object(3)


def test_an_object_is_pickled_and_a_class_of_a_script_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = instance_of(monkeypatch, "sklearn.svm._classes.SVC", predict=predict)
    assert find_model(save(model, tmp_path / "s").file).about == "sklearn.svm._classes.SVC"

    class Local:
        def predict(self, rows: Any) -> Any:
            return rows

    with pytest.raises(ModelError, match=r"cannot be saved: .* Fix: Define its classes"):
        save(Local(), tmp_path / "l")
