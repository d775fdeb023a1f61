"""What a file, a folder or an object in memory is: the model format that serves it.

Names decide first, content where a name may mean several things. A pickle is never executed: its
opcodes are read for the class it names first, which is enough to tell a scikit-learn pipeline from
anything else.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import pickletools
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedge.client.errors import ModelError

_PEEK = 1 << 20
"""Bytes of a file that are looked at."""

_PICKLES = (".joblib", ".pkl", ".pickle")

_BY_SUFFIX = {
    **dict.fromkeys(_PICKLES, "sklearn"),
    ".bst": "xgboost",
    ".ubj": "xgboost",
    ".json": "xgboost",
    ".txt": "lightgbm",
    ".onnx": "onnx",
    ".pmml": "pmml",
    ".pt": "pytorch",
    ".pth": "pytorch",
    ".mar": "pytorch",
    ".pdmodel": "paddle",
}

_SERVED_BY_SKLEARN = ("sklearn", "xgboost", "lightgbm", "catboost", "imblearn")
"""Packages whose pickled objects the scikit-learn runtime serves: they have `predict`."""


@dataclass(frozen=True)
class FoundModel:
    """A model on disk.

    Attributes:
        format: as in `spec.predictor.model.modelFormat.name`.
        folder: what `storageUri` names.
        file: the model file itself; the folder where the whole folder is the model.
        about: what more was seen, such as the pickled class.
    """

    format: str
    folder: Path
    file: Path
    about: str = ""


def find_model(path: Path) -> FoundModel:
    """The model at a path.

    Raises:
        ModelError: nothing is there, nothing is recognised, or there are several.
    """
    path = path.expanduser().absolute()
    if not path.exists():
        raise ModelError(f"{path} does not exist.", fix="Name a model file or its folder.")
    if path.is_dir():
        return _in_folder(path)
    found = _of_file(path)
    if found is None:
        raise ModelError(
            f"{path.name} is no model that Kedge recognises.",
            fix=f"Name a file ending in {', '.join(_BY_SUFFIX)}, or a folder with one.",
        )
    beside = [other for other in _model_files(path.parent) if other != path]
    if beside:
        raise ModelError(
            f"{path.parent} holds another model beside {path.name}: {beside[0].name}."
            " A runtime is given the whole folder and takes exactly one.",
            fix=f"Move {path.name} into a folder of its own.",
        )
    return found


def format_of_object(model: Any) -> str:
    """The format in which an object in memory is to be saved."""
    package = type(model).__module__.partition(".")[0]
    if package == "xgboost" and type(model).__name__ == "Booster":
        return "xgboost"
    if package == "lightgbm" and type(model).__name__ == "Booster":
        return "lightgbm"
    if callable(getattr(model, "predict", None)):
        return "sklearn"
    raise ModelError(
        f"A {type(model).__module__}.{type(model).__name__} has no `predict`.",
        fix="Give a fitted scikit-learn, XGBoost or LightGBM model, or the path of a saved one.",
    )


def save(model: Any, folder: Path) -> FoundModel:
    """Write an object into a folder of its own, as its runtime reads it."""
    format = format_of_object(model)
    folder.mkdir(parents=True, exist_ok=True)
    for old in _model_files(folder):
        old.unlink()
    if format == "sklearn":
        file = folder / "model.pkl"
        _dump_pickle(model, file)
    else:
        file = folder / ("model.ubj" if format == "xgboost" else "model.bst")
        model.save_model(str(file))
    kind = type(model)
    return FoundModel(format, folder, file, f"{kind.__module__}.{kind.__name__}")


def _dump_pickle(model: Any, file: Path) -> None:
    try:
        file.write_bytes(pickle.dumps(model, protocol=5))
    except Exception as error:  # pickling runs the model's own code
        raise ModelError(
            f"The model cannot be saved: {error}.",
            fix="Define its classes in a module that the server can import, not in the script.",
        ) from error


def _in_folder(folder: Path) -> FoundModel:
    if (folder / "saved_model.pb").exists():
        return FoundModel("tensorflow", folder, folder)
    if (folder / "config.json").exists() and any(folder.glob("*.safetensors")):
        return FoundModel("huggingface", folder, folder)
    found = [model for file in _model_files(folder) if (model := _of_file(file)) is not None]
    if len(found) == 1:
        return found[0]
    if not found:
        names = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise ModelError(
            f"{folder} holds no model that Kedge recognises, only: {names}.",
            fix=f"Put one model file into it, ending in {', '.join(_BY_SUFFIX)}.",
        )
    raise ModelError(
        f"{folder} holds {len(found)} models: {', '.join(m.file.name for m in found)}."
        " A runtime takes exactly one.",
        fix="Keep one of them in a folder of its own and name that.",
    )


def _model_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and p.suffix in _BY_SUFFIX)


def _of_file(file: Path) -> FoundModel | None:
    format = _BY_SUFFIX.get(file.suffix.lower())
    if format is None:
        return None
    with file.open("rb") as opened:
        head = opened.read(_PEEK)
    if format == "sklearn":
        return _of_pickle(file, head)
    if file.suffix in (".bst", ".txt"):  # LightGBM's text form begins with its root key
        is_lightgbm = head.lstrip().startswith(b"tree")
        if file.suffix == ".txt" and not is_lightgbm:
            return None
        format = "lightgbm" if is_lightgbm else "xgboost"
    if file.suffix == ".json" and b'"learner"' not in head:
        return None
    return FoundModel(format, file.parent, file)


def _of_pickle(file: Path, head: bytes) -> FoundModel:
    root = pickled_class(head)
    package = root.partition(".")[0]
    if root and package not in _SERVED_BY_SKLEARN:
        raise ModelError(
            f"{file} is a pickled {root}, which no runtime of Kedge serves.",
            fix="Save a fitted scikit-learn, XGBoost or LightGBM model.",
        )
    return FoundModel("sklearn", file.parent, file, root)


def pickled_class(head: bytes) -> str:
    """The first class that a pickle names (`sklearn.svm._classes.SVC`), without executing it.

    Empty where none is found: a pickle's name is no proof either way.
    """
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(_decompressed(head))):
            name = ""
            if opcode.name in ("GLOBAL", "INST"):
                name = str(argument).replace(" ", ".")
            elif opcode.name == "STACK_GLOBAL" and len(strings) >= 2:
                name = f"{strings[-2]}.{strings[-1]}"
            elif "UNICODE" in opcode.name:
                strings.append(str(argument))
            if name and not name.startswith(("copyreg.", "copy_reg.", "builtins.", "__builtin__.")):
                return name
    except (ValueError, IndexError, UnicodeDecodeError, OSError, EOFError, zlib.error):
        return ""  # arrays inside a joblib file are no opcodes, and a cut-off head ends early
    return ""


def _decompressed(head: bytes) -> bytes:
    """The beginning of what a joblib file holds, whichever compression it has."""
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=io.BytesIO(head)).read(_PEEK // 16)
    if head.startswith(b"BZh"):
        return bz2.BZ2Decompressor().decompress(head, _PEEK // 16)
    if head.startswith((b"\xfd7zXZ", b"\x5d\x00")):
        return lzma.LZMADecompressor().decompress(head, _PEEK // 16)
    if head.startswith(b"\x78"):
        return zlib.decompressobj().decompress(head, _PEEK // 16)
    return head
