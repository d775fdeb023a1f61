"""XGBoost: one `.bst`, `.json` or `.ubj` file, as a `Booster`.

The file is written by `Booster.save_model` and carries the version that wrote it, which is read
before XGBoost is asked. The old binary format, which 3.1 stopped reading, is named.
"""

from __future__ import annotations

import json
import re
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
from kedge.runtimes.versions import installed_version, release
from kedge.server import phases
from kedge.server.errors import ModelLoadFailed
from kedge.server.log import logger
from kedge.server.model import ArrayModel
from kedge.server.options import Options

ENDINGS = (".bst", ".json", ".ubj")
_UNUSED = ("sklearn",)
FORKABLE = True

_JSON_VERSION = re.compile(rb'"version"\s*:\s*\[\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\]')
_UBJ_VERSION = re.compile(rb"L\x00{7}\x07version\[#L\x00{7}\x03((?:[iU].){3})", re.DOTALL)
_BINARY_ENDED = (3, 1)


def preload() -> Sequence[Callable[[], object]]:
    """Imports, for a template, what every model needs."""
    import_lean("xgboost", without=_UNUSED)
    return ()


def make(name: str, folder: Path, options: Options) -> ArrayModel:
    return XgboostModel(name, folder, nthread=options.nthread)


class XgboostModel(ArrayModel):
    """A booster; answers are what `Booster.predict` gives, as FP32."""

    independent_rows = True
    reentrant = True

    def __init__(self, name: str, folder: Path, *, nthread: int = 1) -> None:
        super().__init__(name)
        self._folder = folder
        self._nthread = nthread
        self._xgboost: Any = None
        self._booster: Any = None
        self._features = 0
        self._columns: list[str] | None = None
        self._classifies = ""
        self._in_place = True
        self._outputs: tuple[TensorMetadata, ...] = ()

    def load(self) -> None:
        path = find_model_file(self._folder, ENDINGS, "XGBoost")
        installed = installed_version("xgboost", "xgboost")
        content = path.read_bytes()
        trained = _trained_with(path, content, installed)
        xgboost: Any = import_lean("xgboost", without=_UNUSED)
        phases.mark("framework")
        self._xgboost = xgboost
        try:
            booster = xgboost.Booster({"nthread": self._nthread}, model_file=bytearray(content))
        except xgboost.core.XGBoostError as error:
            raise _unreadable(path, trained, installed, error) from error
        if trained and release(trained)[0] != release(installed)[0]:
            logger.warning("%s was saved by XGBoost %s; %s is installed", path, trained, installed)
        self._inspect(booster)
        self.ready = True

    def unload(self) -> None:
        super().unload()
        self._booster = None

    def _inspect(self, booster: Any) -> None:
        self._booster = booster
        self._features = int(booster.num_features())
        names = booster.feature_names
        self._columns = [str(name) for name in names] if names else None
        learner = json.loads(booster.save_config())["learner"]
        self._in_place = learner["gradient_booster"]["name"] != "gblinear"
        objective = str(learner["objective"]["name"])
        self._classifies = objective if objective in _PROBABILITIES else ""
        sample = self.compute(np.zeros((1, self._features), dtype=np.float32), ("output-0",))
        self._outputs = (TensorMetadata("output-0", "FP32", (-1, *sample["output-0"].shape[1:])),)

    def columns(self) -> Sequence[str] | None:
        return self._columns

    def output_names(self) -> tuple[str, ...]:
        names = ("output-0", "predict")
        return (*names, "predict_proba") if self._classifies else names

    def metadata(self) -> ModelMetadata:
        given = TensorMetadata("input-0", "FP32", (-1, self._features))
        return ModelMetadata(
            name=self.name, platform="xgboost", inputs=(given,), outputs=self._outputs
        )

    def warm_up(self) -> Any:
        zeros = np.zeros((1, self._features), dtype=np.float32)
        return InferRequest(self.name, [Tensor.from_array("input-0", zeros)])

    def check(self, rows: Rows) -> None:
        to_matrix(rows, self._features, self.name, self._columns)

    def compute(self, rows: Rows, outputs: tuple[str, ...]) -> Mapping[str, Array]:
        matrix = to_matrix(rows, self._features, self.name, self._columns)
        predicted = self._predict(np.ascontiguousarray(matrix))
        results: dict[str, Array] = {}
        for name in outputs:
            if name == "predict_proba" and predicted.ndim == 1:
                results[name] = np.stack([1 - predicted, predicted], axis=1)
            else:
                results[name] = predicted
        return results

    def _predict(self, matrix: Array) -> Array:
        if self._in_place:
            return np.asarray(self._booster.inplace_predict(matrix))
        table = self._xgboost.DMatrix(matrix, nthread=self._nthread, feature_names=self._columns)
        return np.asarray(self._booster.predict(table))


_PROBABILITIES = ("binary:logistic", "multi:softprob")


def _trained_with(path: Path, content: bytes, installed: str) -> str:
    """The version that saved the model; what is plainly no such model is refused here."""
    if content.startswith(b"{"):
        if found := list(_JSON_VERSION.finditer(content)):
            return ".".join(part.decode() for part in found[-1].groups())
        if found := list(_UBJ_VERSION.finditer(content)):
            return ".".join(str(found[-1][1][at]) for at in (1, 3, 5))
        raise ModelLoadFailed(
            f"{path} ({len(content)} bytes) is JSON or UBJSON, but no complete XGBoost model: "
            "it ends without the version that every one carries.",
            fix="Save the model again with Booster.save_model and check the upload was complete.",
        )
    if content[:2] == b"\x80\x04" or content[:2] == b"\x80\x05":
        raise ModelLoadFailed(
            f"{path} is a pickle, not a saved booster.",
            fix="Save it with Booster.save_model('model.json'), or serve it with sklearn.",
        )
    if release(installed) >= _BINARY_ENDED:
        raise ModelLoadFailed(
            f"{path} is in XGBoost's old binary format or damaged: XGBoost {installed}, which is "
            "installed, reads JSON and UBJSON only.",
            fix="Load it with an XGBoost before 3.1 (pip install 'xgboost<3.1') and save it as "
            "model.json.",
        )
    return ""


def _unreadable(path: Path, trained: str, installed: str, error: Exception) -> ModelLoadFailed:
    cause = " ".join(str(error).split())[:200]
    if trained and release(trained)[:2] > release(installed)[:2]:
        return ModelLoadFailed(
            f"{path} was saved by XGBoost {trained}, and {installed} is installed, which cannot "
            f"read it: {cause}.",
            fix=f"pip install xgboost=={trained}.",
        )
    return ModelLoadFailed(
        f"{path} is not a readable XGBoost model: {cause}.",
        fix="Save the model again with Booster.save_model and check the upload was complete.",
    )
