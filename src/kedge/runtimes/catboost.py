"""CatBoost: one `.cbm` or `.bin` file, with numbers, categories and text as the model was fitted.

The file's head tells its length and the CatBoost that saved it; both are read before CatBoost is
asked. A classifier answers labels; `predict_proba` and `decision_function` can be asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kedge.protocol.datatypes import Array, datatype_of
from kedge.protocol.errors import InvalidInput
from kedge.protocol.inference import InferRequest, ModelMetadata, Tensor, TensorMetadata
from kedge.protocol.v1 import Columns, Rows
from kedge.runtimes.files import find_model_file
from kedge.runtimes.imports import import_lean
from kedge.runtimes.tables import to_matrix
from kedge.runtimes.versions import installed_version, release
from kedge.server import phases
from kedge.server.errors import ModelLoadFailed
from kedge.server.model import ArrayModel
from kedge.server.options import Options

ENDINGS = (".cbm", ".bin")

_UNUSED = ("matplotlib", "plotly", "graphviz", "ipywidgets")
_MAGIC = b"CBM1"
_VERSION = re.compile(rb"CatBoost release (\d+(?:\.\d+)+)|tags/v(\d+(?:\.\d+)+)")
_CLASSIFIER = {
    "output-0": "Class",
    "predict": "Class",
    "predict_proba": "Probability",
    "decision_function": "RawFormulaVal",
}
_REGRESSOR = {"output-0": None, "predict": None}


def preload() -> Sequence[Callable[[], object]]:
    """Imports, for a template, what every model needs."""
    import_lean("catboost", without=_UNUSED)
    return ()


def make(name: str, folder: Path, options: Options) -> ArrayModel:
    return CatboostModel(name, folder, nthread=options.nthread)


class CatboostModel(ArrayModel):
    """Trees over numbers, categories and text."""

    def __init__(self, name: str, folder: Path, *, nthread: int = 1) -> None:
        super().__init__(name)
        self._folder = folder
        self._nthread = nthread
        self._model: Any = None
        self._refusal: type[Exception] = ValueError
        self._names: list[str] = []
        self._named = False
        self._words: frozenset[int] = frozenset()
        self._kinds: Mapping[str, str | None] = _REGRESSOR
        self._outputs: tuple[TensorMetadata, ...] = ()

    # -- loading ---------------------------------------------------------------------------------

    def load(self) -> None:
        path = find_model_file(self._folder, ENDINGS, "CatBoost")
        installed = installed_version("catboost", "catboost")
        saved_by = _check_head(path)
        catboost: Any = import_lean("catboost", without=_UNUSED)
        phases.mark("framework")
        self._refusal = catboost.CatBoostError
        try:
            self._model = catboost.CatBoost().load_model(str(path))
        except catboost.CatBoostError as error:
            raise _unreadable(path, saved_by, installed, error) from error
        self._inspect()
        self.ready = True

    def unload(self) -> None:
        super().unload()
        self._model = None

    def _inspect(self) -> None:
        model = self._model
        self._names = [str(name) for name in model.feature_names_]
        self._named = self._names != [str(index) for index in range(len(self._names))]
        self._words = frozenset(
            [*model.get_cat_feature_indices(), *model.get_text_feature_indices()]
        )
        self._kinds = _CLASSIFIER if len(model.classes_) else _REGRESSOR
        sample = self.compute(self._sample(), ("output-0",))["output-0"]
        shape = (-1, *sample.shape[1:])
        self._outputs = (TensorMetadata("output-0", datatype_of(sample), shape),)

    def _sample(self) -> Rows:
        if not self._words:
            return np.zeros((1, len(self._names)), dtype=np.float32)
        return Columns(
            {name: ["0" if index in self._words else 0.0] for index, name in enumerate(self._names)}
        )

    # -- what it is ------------------------------------------------------------------------------

    def columns(self) -> Sequence[str] | None:
        return self._names if self._named or self._words else None

    def output_names(self) -> tuple[str, ...]:
        return tuple(self._kinds)

    def metadata(self) -> ModelMetadata:
        inputs: tuple[TensorMetadata, ...] = (
            TensorMetadata("input-0", "FP32", (-1, len(self._names))),
        )
        if self._words:
            inputs = tuple(
                TensorMetadata(name, "BYTES" if index in self._words else "FP32", (-1,))
                for index, name in enumerate(self._names)
            )
        return ModelMetadata(
            name=self.name, platform="catboost", inputs=inputs, outputs=self._outputs
        )

    def warm_up(self) -> Any:
        sample = self._sample()
        if isinstance(sample, Columns):
            tensors = [
                Tensor.from_array(
                    name, np.array(values, dtype=object if index in self._words else np.float32)
                )
                for index, (name, values) in enumerate(sample.values.items())
            ]
            return InferRequest(self.name, tensors, parameters={"content_type": "pd"})
        return InferRequest(self.name, [Tensor.from_array("input-0", np.asarray(sample))])

    # -- predicting ------------------------------------------------------------------------------

    def compute(self, rows: Rows, outputs: tuple[str, ...]) -> Mapping[str, Array]:
        table = self._table(rows)
        results: dict[str, Array] = {}
        for name in outputs:
            kind = self._kinds[name]
            options = {} if kind is None else {"prediction_type": kind}
            try:
                result = self._model.predict(table, thread_count=self._nthread, **options)
            except self._refusal as error:
                raise InvalidInput(_line(error)) from error
            array = np.asarray(result)
            results[name] = array[:, 0] if kind == "Class" and array.ndim == 2 else array
        return results

    def _table(self, rows: Rows) -> Any:
        if not self._words:
            return to_matrix(rows, len(self._names), self.name, self._names)
        if isinstance(rows, Columns):
            if len({len(values) for values in rows.values.values()}) != 1:
                raise InvalidInput("The rows do not all have the same fields.")
            listed = [list(row) for row in zip(*rows.values.values(), strict=True)]
        elif isinstance(rows, np.ndarray) and rows.ndim == 2:
            listed = rows.tolist()
        else:
            listed = []
        if not listed or len(listed[0]) != len(self._names):
            raise InvalidInput(
                f"Model {self.name} takes rows of {len(self._names)} columns "
                f"({', '.join(self._names)}), but the request does not have these."
            )
        return [self._typed(row) for row in listed]

    def _typed(self, row: list[Any]) -> list[Any]:
        """Categories and text as text, the others as numbers, however the client sent them."""
        return [
            _word(value) if index in self._words else _number(value, self._names[index])
            for index, value in enumerate(row)
        ]


def _word(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _number(value: Any, column: str) -> float:
    try:
        return float("nan") if value is None else float(value)
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"Column '{column}' takes numbers, but a row holds {str(value)[:40]!r}."
        ) from error


def _check_head(path: Path) -> str:
    """The version that saved the model; what is plainly none, or cut short, is refused here."""
    content = path.read_bytes()
    if not content.startswith(_MAGIC):
        raise ModelLoadFailed(
            f"{path} is no CatBoost model: it should begin with {_MAGIC.decode()}, but begins with "
            f"{content[:8]!r}.",
            fix="Save the model with save_model('model.cbm').",
        )
    promised = int.from_bytes(content[4:8], "little") + 8
    if len(content) < promised:
        raise ModelLoadFailed(
            f"{path} is cut short: it has {len(content)} of {promised} bytes.",
            fix="Save the model again with save_model and check that the upload was complete.",
        )
    found = _VERSION.search(content)
    return (found[1] or found[2]).decode() if found else ""


def _unreadable(path: Path, saved_by: str, installed: str, error: Exception) -> ModelLoadFailed:
    if saved_by and release(saved_by) != release(installed):
        return ModelLoadFailed(
            f"{path} was saved by CatBoost {saved_by}, and {installed} is installed, which cannot "
            f"read it: {_line(error)}.",
            fix=f"pip install catboost=={saved_by}.",
        )
    return ModelLoadFailed(
        f"{path} is not a readable CatBoost model: {_line(error)}.",
        fix="Save the model again with save_model('model.cbm').",
    )


def _line(error: Exception) -> str:
    return re.sub(r"^\S+\.(?:cpp|h):\d+: ", "", " ".join(str(error).split()))[:240].rstrip(".")
