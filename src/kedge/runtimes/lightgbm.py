"""LightGBM: one `.bst` file, as a `Booster`.

The file is text with a header that names its format, features and classes; it is read before
LightGBM is asked, whose own complaint about a damaged file is one word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kedge.protocol.datatypes import Array
from kedge.protocol.inference import InferRequest, ModelMetadata, Tensor, TensorMetadata
from kedge.protocol.v1 import Rows
from kedge.runtimes.files import find_model_file
from kedge.runtimes.imports import import_lean
from kedge.runtimes.tables import to_matrix
from kedge.runtimes.versions import installed_version
from kedge.server import phases
from kedge.server.errors import ModelLoadFailed
from kedge.server.model import ArrayModel
from kedge.server.options import Options

ENDINGS = (".bst",)
_UNUSED = ("sklearn", "pandas", "matplotlib", "dask")
FORKABLE = True

_FORMATS = ("v2", "v3", "v4")


def preload() -> Sequence[Callable[[], object]]:
    """Imports, for a template, what every model needs."""
    import_lean("lightgbm", without=_UNUSED)
    return ()


def make(name: str, folder: Path, options: Options) -> ArrayModel:
    return LightgbmModel(name, folder, nthread=options.nthread)


class LightgbmModel(ArrayModel):
    """A booster; answers are what `Booster.predict` gives, as FP64."""

    independent_rows = True
    reentrant = True

    def __init__(self, name: str, folder: Path, *, nthread: int = 1) -> None:
        super().__init__(name)
        self._folder = folder
        self._nthread = nthread
        self._booster: Any = None
        self._columns: list[str] | None = None
        self._features = 0
        self._outputs: tuple[TensorMetadata, ...] = ()

    def load(self) -> None:
        path = find_model_file(self._folder, ENDINGS, "LightGBM")
        installed = installed_version("lightgbm", "lightgbm")
        text = _read(path)
        _check_header(path, text, installed)
        lightgbm: Any = import_lean("lightgbm", without=_UNUSED)
        phases.mark("framework")
        try:
            booster = lightgbm.Booster(model_str=text)
        except (lightgbm.basic.LightGBMError, ValueError, KeyError) as error:
            raise ModelLoadFailed(
                f"{path} is not a readable LightGBM model: {' '.join(str(error).split())[:200]}.",
                fix="Save the model again with Booster.save_model and check the upload.",
            ) from error
        self._inspect(booster)
        self.ready = True

    def unload(self) -> None:
        super().unload()
        self._booster = None

    def _inspect(self, booster: Any) -> None:
        self._booster = booster
        self._features = int(booster.num_feature())
        self._columns = [str(name) for name in booster.feature_name()]
        sample = self.compute(np.zeros((1, self._features)), ("output-0",))["output-0"]
        self._outputs = (TensorMetadata("output-0", "FP64", (-1, *sample.shape[1:])),)

    def columns(self) -> Sequence[str] | None:
        return self._columns

    def output_names(self) -> tuple[str, ...]:
        return ("output-0", "predict")

    def metadata(self) -> ModelMetadata:
        given = TensorMetadata("input-0", "FP64", (-1, self._features))
        return ModelMetadata(
            name=self.name, platform="lightgbm", inputs=(given,), outputs=self._outputs
        )

    def warm_up(self) -> Any:
        zeros = np.zeros((1, self._features))
        return InferRequest(self.name, [Tensor.from_array("input-0", zeros)])

    def check(self, rows: Rows) -> None:
        to_matrix(rows, self._features, self.name, self._columns)

    def compute(self, rows: Rows, outputs: tuple[str, ...]) -> Mapping[str, Array]:
        matrix = to_matrix(rows, self._features, self.name, self._columns)
        predicted = np.asarray(self._booster.predict(matrix, num_threads=self._nthread))
        return dict.fromkeys(outputs, predicted)


def _read(path: Path) -> str:
    content = path.read_bytes()
    if not content.startswith(b"tree\n"):
        kind = "a pickle" if content[:1] == b"\x80" else f"bytes that begin {content[:12]!r}"
        raise ModelLoadFailed(
            f"{path} is not a LightGBM model: it should begin with the line 'tree', but is {kind}.",
            fix="Save the model with Booster.save_model('model.bst').",
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelLoadFailed(
            f"{path} is damaged: byte {error.start} of {len(content)} is not text.",
            fix="Save the model again with Booster.save_model and check the upload.",
        ) from error


def _check_header(path: Path, text: str, installed: str) -> None:
    header = dict(
        line.partition("=")[::2] for line in text.partition("\n\n")[0].splitlines() if "=" in line
    )
    found = header.get("version", "")
    if found not in _FORMATS:
        raise ModelLoadFailed(
            f"{path} has model format {found or 'of no version'!r}, but LightGBM {installed}, "
            f"which is installed, reads {', '.join(_FORMATS)}.",
            fix="Install the LightGBM that saved it: pip install --upgrade lightgbm.",
        )
    promised = len(header.get("tree_sizes", "").split())
    present = text.count("\nTree=")
    if "end of trees" not in text or present < promised:
        raise ModelLoadFailed(
            f"{path} is cut short: its header promises {promised} trees and it holds {present}, "
            f"in {len(text)} bytes.",
            fix="Save the model again with Booster.save_model and check the upload was complete.",
        )
