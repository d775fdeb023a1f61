"""scikit-learn: one `.joblib`, `.pkl`, `.pickle` or `.skops` file.

Before it is unpickled, the file is searched for the version that trained it and the classes it
needs, so that a mismatch is told by name. A pickle of another version that loads and predicts is
served with a warning; one that does not is an error that names both versions.
"""

from __future__ import annotations

import os
import pickle
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np

from kedge.protocol.datatypes import Array, datatype_of
from kedge.protocol.errors import InvalidInput
from kedge.protocol.inference import InferRequest, ModelMetadata, Tensor, TensorMetadata
from kedge.protocol.v1 import Columns, Rows
from kedge.runtimes import skopsfile
from kedge.runtimes.code import CODE, make_importable, package_of
from kedge.runtimes.estimators import has_independent_rows
from kedge.runtimes.files import find_model_file
from kedge.runtimes.flags import Flags
from kedge.runtimes.imports import import_lean
from kedge.runtimes.pickles import PickleFacts, read_facts
from kedge.runtimes.sklearn_checks import know_arrays, remember
from kedge.runtimes.versions import installed_version, same_minor
from kedge.server import phases
from kedge.server.errors import ModelLoadFailed
from kedge.server.log import logger
from kedge.server.model import ArrayModel
from kedge.server.options import Options

_COMMON = (
    "sklearn", "sklearn.pipeline", "sklearn.preprocessing", "sklearn.compose",
    "sklearn.linear_model", "sklearn.svm", "sklearn.tree", "sklearn.ensemble",
)  # fmt: skip
_LESS_COMMON = (
    "sklearn.neighbors", "sklearn.naive_bayes", "sklearn.impute", "sklearn.neural_network",
    "sklearn.cluster", "sklearn.feature_extraction.text", "sklearn.calibration",
    "sklearn.discriminant_analysis",
)  # fmt: skip

ENDINGS = (".joblib", ".pkl", ".pickle", skopsfile.ENDING)
FORKABLE = True

_UNUSED = ("pandas", "rich")
_METHODS = ("predict", "predict_proba", "decision_function", "transform")


def make(name: str, folder: Path, options: Options) -> ArrayModel:
    trusted = flags().read(options).skops_trusted
    return SklearnModel(
        name,
        folder,
        predict_proba=options.predict_proba,
        trusted=tuple(one for one in trusted.split(",") if one),
    )


def preload() -> Sequence[Callable[[], object]]:
    """Imports what most models are made of; what is returned may follow when nobody waits."""
    import joblib

    assert joblib
    installed_version("sklearn", "sklearn")
    for module in _COMMON:
        import_lean(module, without=_UNUSED)
    _check_once()
    return [partial(import_lean, module, without=_UNUSED) for module in _LESS_COMMON]


def _check_once() -> None:
    """Have scikit-learn find out once, before any fork, what it asks at its first prediction.

    Which kinds of frames there are (it reads what every installed package says of itself), and
    whether an array is something else besides. Nothing is computed.
    """
    with suppress(ImportError, AttributeError, TypeError):
        validation = import_module("sklearn.utils.validation")
        validation.check_array(np.empty((1, 1)), ensure_all_finite=False)
        validation._get_feature_names(np.empty((1, 1)))


def flags() -> Flags:
    known = Flags("sklearn")
    known.flag(skopsfile.TRUST_FLAG)
    return known


class SklearnModel(ArrayModel):
    """A fitted estimator or pipeline."""

    reentrant = True

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        predict_proba: bool = False,
        trusted: tuple[str, ...] = (),
    ) -> None:
        super().__init__(name)
        self._folder = folder
        self._trusted = trusted
        self._prefers_proba = predict_proba
        self._estimator: Any = None
        self._methods: dict[str, str] = {}
        self._features: int | None = None
        self._columns: list[str] | None = None
        self._needs_frame = False
        self._sample: Rows | None = None
        self._outputs: tuple[TensorMetadata, ...] = ()

    # -- loading ---------------------------------------------------------------------------------

    def load(self) -> None:
        path = find_model_file(self._folder, ENDINGS, "scikit-learn")
        installed = installed_version("sklearn", "sklearn")
        is_skops = path.name.endswith(skopsfile.ENDING)
        facts = skopsfile.read_facts(path) if is_skops else read_facts(path)
        make_importable(self._folder)
        _check_classes(path, facts)
        self._estimator = _unpickle(path, facts, installed, self._trusted)
        self._inspect(path)
        self._try(path, facts, installed)
        know_arrays()
        remember(self._estimator)
        self.ready = True

    def unload(self) -> None:
        super().unload()
        self._estimator = None

    def _inspect(self, path: Path) -> None:
        estimator = self._estimator
        offered = [method for method in _METHODS if hasattr(estimator, method)]
        if not offered:
            raise ModelLoadFailed(
                f"{path} holds a {type(estimator).__name__}, which has no predict method.",
                fix="Save the fitted estimator or pipeline itself.",
            )
        proba = self._prefers_proba and "predict_proba" in offered
        default = "predict_proba" if proba else offered[0]
        self._methods = {"output-0": default} | {method: method for method in offered}
        self._features = getattr(estimator, "n_features_in_", None)
        names = getattr(estimator, "feature_names_in_", None)
        self._columns = [str(name) for name in names] if names is not None else None
        self._needs_frame = self._columns is not None and _selects_columns(estimator)
        self._sample = _sample_row(estimator, self._features, self._columns)
        self.independent_rows = has_independent_rows(estimator)

    def _try(self, path: Path, facts: PickleFacts, installed: str) -> None:
        """One prediction, which shows what comes out, and what another version's pickle lacks."""
        if self._sample is None:
            return
        trained = facts.sklearn_version
        try:
            results = self.compute(self._sample, ("output-0",))
        except Exception as error:
            if isinstance(error, AttributeError | TypeError) and trained and trained != installed:
                raise _mismatch(path, trained, installed, error) from error
            return
        self._outputs = tuple(
            TensorMetadata(name, datatype_of(array), (-1, *array.shape[1:]))
            for name, array in results.items()
        )

    # -- what it is ------------------------------------------------------------------------------

    def columns(self) -> Sequence[str] | None:
        return self._columns

    def output_names(self) -> tuple[str, ...]:
        return tuple(self._methods)

    def metadata(self) -> ModelMetadata:
        return ModelMetadata(
            name=self.name, platform="sklearn", inputs=self._inputs(), outputs=self._outputs
        )

    def _inputs(self) -> tuple[TensorMetadata, ...]:
        sample = self._sample
        if isinstance(sample, Columns):
            return tuple(
                TensorMetadata(name, "BYTES" if isinstance(values[0], str) else "FP64", (-1,))
                for name, values in sample.values.items()
            )
        if isinstance(sample, list):
            return (TensorMetadata("input-0", "BYTES", (-1,)),)
        features = -1 if self._features is None else self._features
        return (TensorMetadata("input-0", "FP64", (-1, features)),)

    def warm_up(self) -> Any:
        sample = self._sample
        if sample is None:
            return None
        if isinstance(sample, Columns):
            tensors = [
                Tensor.from_array(name, np.array(values, dtype=object if _text(values) else float))
                for name, values in sample.values.items()
            ]
            return InferRequest(self.name, tensors, parameters={"content_type": "pd"})
        array = np.array(sample, dtype=object) if isinstance(sample, list) else sample
        return InferRequest(self.name, [Tensor.from_array("input-0", array)])

    # -- predicting ------------------------------------------------------------------------------

    def check(self, rows: Rows) -> None:
        if isinstance(rows, np.ndarray):
            self._check_width(rows)

    def compute(self, rows: Rows, outputs: tuple[str, ...]) -> Mapping[str, Array]:
        estimator = self._estimator
        table = self._table(rows)
        results: dict[str, Array] = {}
        for name in outputs:
            try:
                result = getattr(estimator, self._methods[name])(table)
            except ValueError as error:
                if _raised_by_library(error.__traceback__):
                    raise InvalidInput(_first_line(error)) from error
                raise
            if hasattr(result, "columns"):
                results |= {str(column): result[column].to_numpy() for column in result.columns}
            else:
                results[name] = _as_array(result)
        return results

    def _table(self, rows: Rows) -> Any:
        """What the estimator is asked with; rows of the wrong width are refused by name."""
        if isinstance(rows, list):
            return rows
        if isinstance(rows, Columns):
            return _frame(rows.values) if self._columns is not None else _matrix(rows)
        self._check_width(rows)
        if self._needs_frame and self._columns is not None:
            return _frame(dict(zip(self._columns, rows.T, strict=True)))
        return rows

    def _check_width(self, rows: Array) -> None:
        features = self._features
        if features is None:
            return
        if rows.size == 0:
            raise InvalidInput(f"The request to model {self.name} has no rows.")
        if rows.ndim < 2:
            raise InvalidInput(
                f"Model {self.name} takes rows of {features} values, but the request is not a "
                "list of rows.",
                fix=f"Send [[...]]: a list of lists of {features} values each.",
            )
        if rows.ndim == 2 and rows.shape[1] != features:
            named = f" ({', '.join(self._columns)})" if self._columns else ""
            raise InvalidInput(
                f"Each row has {rows.shape[1]} values, but model {self.name} takes "
                f"{features}{named}."
            )


def _check_classes(path: Path, facts: PickleFacts) -> None:
    if notebook := facts.notebook_classes():
        raise ModelLoadFailed(
            f"{path} needs {', '.join(notebook)}, defined in the notebook or script that saved it.",
            fix="Move the definition into a module, install that module here, and save again.",
        )
    for module, wanted in facts.missing_modules().items():
        raise ModelLoadFailed(
            f"{path} needs module {module} (for {', '.join(wanted[:3])}), which is not installed.",
            fix=f"Install it beside Kedge: pip install {package_of(module)}; or put the module "
            f"into {path.parent / CODE}.",
        )


def _unpickle(path: Path, facts: PickleFacts, installed: str, trusted: tuple[str, ...]) -> Any:
    trained = facts.sklearn_version
    if trained and not same_minor(trained, installed):
        logger.warning(
            "%s was trained with scikit-learn %s; %s is installed", path, trained, installed
        )
    try:
        _import_lean(facts)
        phases.mark("framework")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator = _read(path, trusted)
    except ModelLoadFailed:
        raise
    except MemoryError as error:
        size = path.stat().st_size >> 20
        raise ModelLoadFailed(
            f"{path} ({size} MiB on disk) does not fit into this machine's or pod's memory.",
            fix="Raise limits.memory of the predictor, or serve a smaller model.",
        ) from error
    except (pickle.UnpicklingError, EOFError, zlib.error, OSError, UnicodeDecodeError) as error:
        raise _corrupt(path, error) from error
    except Exception as error:
        if _is_cut(path):
            raise _corrupt(path, error) from error
        if trained and trained != installed:
            raise _mismatch(path, trained, installed, error) from error
        if isinstance(error, KeyError | IndexError | ValueError | OverflowError):
            raise _corrupt(path, error) from error
        if isinstance(error, ImportError | AttributeError) and "sklearn" in str(error):
            raise ModelLoadFailed(
                f"{path} needs what scikit-learn {installed}, which is installed, does not have: "
                f"{_first_line(error)}.",
                fix="Install the scikit-learn that trained it, or train and save it with "
                f"{installed}.",
            ) from error
        raise ModelLoadFailed(
            f"{path} cannot be unpickled: {type(error).__name__}: {_first_line(error)}.",
            fix="Save the model again in an environment with the packages installed here.",
        ) from error
    # What an array by position lacks is no news to a client that sends arrays by position.
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    return estimator


def _read(path: Path, trusted: tuple[str, ...]) -> Any:
    if path.name.endswith(skopsfile.ENDING):
        return skopsfile.load(path, trusted)
    import joblib

    return joblib.load(path)


def _import_lean(facts: PickleFacts) -> None:
    """Imports what the pickle will, without what scikit-learn only looks for.

    It imports pandas and rich where they are installed, for a version number and for progress bars
    while fitting: a quarter of the start. A model that is asked with frames imports pandas itself.
    """
    modules = [one for one in facts.classes or {} if one.partition(".")[0] == "sklearn"]
    for module in ("sklearn", *modules):
        with suppress(ImportError):
            import_lean(module, without=_UNUSED)


def _is_cut(path: Path) -> bool:
    """A pickle that is not compressed begins with its protocol and ends with a full stop."""
    with path.open("rb") as file:
        if file.read(1) != b"\x80":
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"."


def _corrupt(path: Path, error: Exception) -> ModelLoadFailed:
    size = path.stat().st_size
    return ModelLoadFailed(
        f"{path} ({size} bytes) is not a readable pickle: {type(error).__name__}: "
        f"{_first_line(error)}.",
        fix="Save the model again with joblib.dump and check that the upload was complete.",
    )


def _mismatch(path: Path, trained: str, installed: str, error: Exception) -> ModelLoadFailed:
    return ModelLoadFailed(
        f"{path} was trained with scikit-learn {trained}, and {installed} is installed, which "
        f"cannot use it: {type(error).__name__}: {_first_line(error)}.",
        fix=f"pip install scikit-learn=={trained}, or train and save it with {installed}.",
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300].rstrip(".") or type(error).__name__


def _raised_by_library(traceback: TracebackType | None) -> bool:
    """The innermost frame is a library's own check of its input, not the author's code."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return False
    module = str(traceback.tb_frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] in ("sklearn", "numpy", "pandas", "scipy")


# -- shapes --------------------------------------------------------------------------------------


def _frame(columns: Mapping[str, Any]) -> Any:
    import pandas as pd

    return pd.DataFrame(dict(columns))


def _matrix(columns: Columns) -> Array:
    try:
        return np.array([np.asarray(values) for values in columns.values.values()]).T
    except ValueError as error:
        raise InvalidInput("The rows do not all have the same fields.") from error


def _as_array(result: Any) -> Array:
    if isinstance(result, list):
        return np.stack([np.asarray(part) for part in result], axis=1)
    if hasattr(result, "toarray"):
        return cast(Array, result.toarray())
    return np.asarray(result)


def _text(values: Sequence[Any]) -> bool:
    return isinstance(values[0], str)


def _steps(estimator: Any) -> list[Any]:
    """The estimator, and what it is composed of."""
    found, pending = [], [estimator]
    while pending:
        one = pending.pop()
        found.append(one)
        for _, step, *_rest in [*getattr(one, "steps", []), *getattr(one, "transformers_", [])]:
            pending.append(step)
    return found


def _selects_columns(estimator: Any) -> bool:
    return any(hasattr(step, "transformers_") for step in _steps(estimator))


def _sample_row(estimator: Any, features: int | None, columns: list[str] | None) -> Rows | None:
    """A row that the estimator should accept, made from what its fitting left behind."""
    if features is None:
        return ["text"] if any(hasattr(step, "vocabulary_") for step in _steps(estimator)) else None
    if columns is None or not _selects_columns(estimator):
        return np.zeros((1, features))
    values: dict[str, list[Any]] = {name: [0.0] for name in columns}
    for step in _steps(estimator):
        for _, fitted, chosen in getattr(step, "transformers_", []):
            values |= _sample_of(fitted, chosen, columns)
    return Columns(values)


def _sample_of(fitted: Any, chosen: Any, columns: list[str]) -> dict[str, list[Any]]:
    """Values for the columns of one fitted transformer: categories it knows, text it reads."""
    if isinstance(chosen, str):
        return {chosen: ["text"]}
    names = [one if isinstance(one, str) else columns[one] for one in chosen]
    for step in _steps(fitted):
        categories = getattr(step, "categories_", None)
        if categories is not None and len(categories) == len(names):
            return {name: [known[0]] for name, known in zip(names, categories, strict=True)}
    return {}
