"""MLflow: a folder with `MLmodel`, whatever flavor, as its python_function.

`MLmodel` and `requirements.txt` are read first: what differs from what is installed is known before
any of the model's code runs, is warned about, and is named where loading fails. A model pickled as
code needs the Python that pickled it. The signature gives the inputs and checks the requests: one
input per column, or tensors.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from kedge.protocol.datatypes import Array
from kedge.protocol.errors import InvalidInput
from kedge.protocol.inference import InferRequest, TensorMetadata, unexpected_output
from kedge.protocol.v1 import Columns
from kedge.runtimes.files import find_model_file
from kedge.runtimes.results import named_arrays, without_objects
from kedge.runtimes.tensors import Feeds, TensorModel
from kedge.runtimes.versions import installed_version, same_minor
from kedge.server import phases
from kedge.server.errors import ModelLoadFailed
from kedge.server.log import logger
from kedge.server.model import ArrayModel
from kedge.server.options import Options

ENDINGS = ("MLmodel",)

_PINNED = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?==([\w.+!-]+)")
_DATATYPES = {
    "boolean": "BOOL", "integer": "INT32", "long": "INT64", "float": "FP32", "double": "FP64",
    "string": "BYTES", "binary": "BYTES", "datetime": "BYTES",
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16",
    "float32": "FP32", "float64": "FP64",
}  # fmt: skip
_PANDAS = {
    "boolean": "bool", "integer": "int32", "long": "int64", "float": "float32",
    "double": "float64",
}  # fmt: skip


def preload() -> Sequence[Callable[[], object]]:
    """Imports, for a template, what every model needs."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow.pyfunc
    import pandas

    assert mlflow and pandas
    return ()


def make(name: str, folder: Path, options: Options) -> TensorModel:
    return MlflowModel(name, folder)


@dataclass(frozen=True)
class MlflowFacts:
    """What `MLmodel` and `requirements.txt` say.

    Attributes:
        types: MLflow's type of each column, where the signature has columns.
        named: its tensors have names, under which the model wants them.
        loader: the module that loads it.
        python: version of the Python that saved it.
        differences: pinned packages whose installed version differs, or that are missing.
    """

    inputs: tuple[TensorMetadata, ...] = ()
    outputs: tuple[TensorMetadata, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    named: bool = False
    loader: str = ""
    python: str = ""
    differences: tuple[str, ...] = ()


class MlflowModel(TensorModel):
    """A python_function."""

    platform = "mlflow"

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name)
        self._folder = folder
        self._model: Any = None
        self._pandas: Any = None
        self._types: Mapping[str, str] = {}
        self._named = False
        self._refusal: type[Exception] = ValueError

    # -- loading ---------------------------------------------------------------------------------

    def load(self) -> None:
        path = find_model_file(self._folder, ENDINGS, "MLflow")
        facts = read_facts(path)
        installed_version("mlflow", "mlflow")
        _check_python(path, facts)
        for difference in facts.differences:
            logger.warning("%s: %s", path, difference)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow.pyfunc
        import pandas

        phases.mark("framework")
        self._pandas = pandas
        self._refusal = mlflow.MlflowException
        try:
            self._model = mlflow.pyfunc.load_model(str(self._folder))
        except Exception as error:
            raise _unusable(path, facts, error) from error
        self.inputs, self.outputs, self._types = facts.inputs, facts.outputs, facts.types
        self._named = facts.named
        self.properties = {"loader": facts.loader}
        self.ready = True

    def unload(self) -> None:
        super().unload()
        self._model = None

    # -- predicting ------------------------------------------------------------------------------

    def columns(self) -> Sequence[str] | None:
        return list(self._types) or None

    def rows(self, payload: Any) -> tuple[Any, tuple[str, ...]]:
        if self.inputs and not self._types:
            rows, _ = super().rows(payload)
        elif isinstance(payload, InferRequest):
            rows = self._tensor_rows(payload)
        else:
            rows, _ = ArrayModel.rows(self, payload)
        asked = payload.outputs if isinstance(payload, InferRequest) else None
        return rows, tuple(one.name for one in asked or ())

    def _wanted(self, request: InferRequest) -> tuple[str, ...]:
        return ()

    def compute(self, rows: Any, outputs: tuple[str, ...]) -> Mapping[str, Array]:
        try:
            results = named_arrays(self._model.predict(self._table(rows)))
        except self._refusal as error:
            raise InvalidInput(" ".join(str(error).split())[:300]) from error
        if len(results) == len(self.outputs):
            results = dict(zip(self.output_names(), results.values(), strict=True))
        for name in outputs:
            if name not in results:
                raise unexpected_output(name, self.name, results)
        return {name: results[name] for name in outputs} if outputs else results

    def run(self, feeds: Mapping[str, Array], outputs: tuple[str, ...]) -> Mapping[str, Array]:
        return self.compute(Feeds(feeds), outputs)

    def answer(self, payload: Any, results: Mapping[str, Array]) -> Any:
        if isinstance(payload, InferRequest):
            results = {name: without_objects(array) for name, array in results.items()}
        return super().answer(payload, results)

    def warm_up(self) -> Any:
        return None if self._types else super().warm_up()

    def _table(self, rows: Any) -> Any:
        """What pyfunc is asked with: a frame for columns, else arrays."""
        if isinstance(rows, Feeds):
            return dict(rows.arrays)
        if isinstance(rows, Columns):
            return self._typed(self._pandas.DataFrame(dict(rows.values)))
        if not self._types:
            return {self.inputs[0].name: rows} if self._named else np.asarray(rows)
        array = np.asarray(rows)
        names = list(self._types)
        if len(names) == 1 and array.ndim == 1:
            array = array.reshape(-1, 1)
        if array.ndim != 2 or array.shape[1] != len(names):
            raise InvalidInput(
                f"Model {self.name} takes rows of {len(names)} columns ({', '.join(names)}), but "
                f"the request's shape is {list(array.shape)}."
            )
        return self._typed(self._pandas.DataFrame(array, columns=names))

    def _typed(self, frame: Any) -> Any:
        for name, kind in self._types.items():
            if name not in frame.columns or frame[name].isna().any():
                continue
            try:
                if kind == "datetime":
                    frame[name] = self._pandas.to_datetime(frame[name])
                elif kind in _PANDAS:
                    frame[name] = frame[name].astype(_PANDAS[kind])
            except (ValueError, TypeError) as error:
                raise InvalidInput(
                    f"Column '{name}' takes {kind}: {' '.join(str(error).split())[:120]}."
                ) from error
        return frame


# -- reading ---------------------------------------------------------------------------------------


def read_facts(path: Path) -> MlflowFacts:
    """The facts of an MLflow model, without MLflow."""
    try:
        described = yaml.safe_load(path.read_text())
        flavors = described["flavors"]
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError) as error:
        raise ModelLoadFailed(
            f"{path} does not describe an MLflow model: {' '.join(str(error).split())[:200]}.",
            fix="Upload the folder that mlflow.<flavor>.save_model wrote, all of it.",
        ) from error
    pyfunc = flavors.get("python_function")
    if not isinstance(pyfunc, dict):
        raise ModelLoadFailed(
            f"{path} has no python_function flavor; it has {', '.join(flavors) or 'none'}.",
            fix="Save the model with a flavor of MLflow for Python.",
        )
    signature = described.get("signature") or {}
    inputs, types = _declared(path, signature.get("inputs"), "input")
    outputs, _ = _declared(path, signature.get("outputs"), "output")
    return MlflowFacts(
        inputs=inputs,
        outputs=outputs,
        types=types,
        named='"name"' in (signature.get("inputs") or ""),
        loader=str(pyfunc.get("loader_module", "")),
        python=str(pyfunc.get("python_version", "")),
        differences=tuple(_differences(path.parent / "requirements.txt")),
    )


def _declared(
    path: Path, text: str | None, side: str
) -> tuple[tuple[TensorMetadata, ...], dict[str, str]]:
    """Tensors of one side of the signature, and the types of its columns."""
    found, types = [], {}
    for index, one in enumerate(json.loads(text) if text else ()):
        name = str(one.get("name") or f"{side}-{index}")
        tensor = one.get("tensor-spec")
        kind = str(tensor["dtype"] if tensor else one["type"])
        shape = tuple(tensor["shape"]) if tensor else (-1,)
        if not tensor:
            types[name] = kind
        elif kind not in _DATATYPES and not kind.startswith(("str", "object", "<U")):
            raise ModelLoadFailed(
                f"{path}: {side} '{name}' has type {kind}, which the protocols cannot carry.",
                fix="Save the model with a signature of numbers, booleans or strings.",
            )
        found.append(TensorMetadata(name, _DATATYPES.get(kind, "BYTES"), shape))
    return tuple(found), types


def _differences(path: Path) -> list[str]:
    found = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        if not (pinned := _PINNED.match(line.strip())):
            continue
        name, wanted = pinned.groups()
        try:
            installed = version(name)
        except PackageNotFoundError:
            found.append(f"{name} {wanted} was installed when it was saved, and is missing here")
            continue
        if not same_minor(installed, wanted):
            found.append(f"saved with {name} {wanted}, and {installed} is installed")
    return [one for one in found if not one.startswith(("mlflow ", "pytest "))]


def _check_python(path: Path, facts: MlflowFacts) -> None:
    """Pickled code is byte code, which another Python does not run."""
    running = ".".join(map(str, sys.version_info[:2]))
    if facts.loader == "mlflow.pyfunc.model" and not same_minor(facts.python, running):
        raise ModelLoadFailed(
            f"{path} holds code that Python {facts.python} pickled, and this is Python {running}.",
            fix=f"Serve it with Python {'.'.join(facts.python.split('.')[:2])}, or save the model "
            f"again with Python {running}.",
        )


def _unusable(path: Path, facts: MlflowFacts, error: Exception) -> ModelLoadFailed:
    cause = f"{type(error).__name__}: {' '.join(str(error).split())[:240].rstrip('.')}"
    if isinstance(error, ModuleNotFoundError):
        cause = f"it needs module {error.name}, which is not installed"
    if facts.differences:
        return ModelLoadFailed(
            f"{path} cannot be loaded: {cause} ({'; '.join(facts.differences[:4])}).",
            fix=f"pip install -r {path.parent / 'requirements.txt'}.",
        )
    return ModelLoadFailed(
        f"{path} cannot be loaded: {cause}.",
        fix="Check that the whole folder was uploaded, and save the model again.",
    )
