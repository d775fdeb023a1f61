"""Plain Python: a folder with `model.py`, or with one `.py` file of any name.

The file defines one of these, the first that is found:

- a subclass of `kedge.server.Model`, made with the model's name;
- a class with `predict` (one called `Model`, or the only one), made without arguments; its `load`,
  if there is one, is called with the folder or with nothing, as it likes;
- a function `predict`.

A plain `predict` gets the rows: an array of numbers, a list of text, or a dict of columns. It
returns an array or list, or a dict of them by output. Class or module may declare `inputs` and
`outputs` as `[(name, datatype, shape), ...]`; requests are then checked before they reach the code.
With `independent_rows = True` beside these, the rows of several requests may be predicted at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from kedge.protocol.datatypes import Array, find_datatype
from kedge.protocol.inference import InferRequest, TensorMetadata, unexpected_output
from kedge.protocol.v1 import Columns
from kedge.runtimes.code import REQUIREMENTS, check_requirements, failure, import_file, leave_with
from kedge.runtimes.files import find_model_file
from kedge.runtimes.results import named_arrays, without_objects
from kedge.runtimes.tensors import Feeds, TensorModel
from kedge.server.errors import ModelLoadFailed
from kedge.server.model import ArrayModel, Model
from kedge.server.options import Options

ENDINGS = (".py",)

_PREFERRED = "model.py"
_USAGE = (
    "Define a function predict(rows), a class with predict(self, rows), or a subclass of "
    "kedge.server.Model."
)


def make(name: str, folder: Path, options: Options) -> Model:
    """Runs the model's file: only what it defines tells how it wants to be called."""
    preferred = folder / _PREFERRED
    path = preferred if preferred.is_file() else find_model_file(folder, ENDINGS, "Python")
    check_requirements(folder / REQUIREMENTS)
    module = import_file(path, name)
    model: Model
    if (kind := _subclass(path, module)) is not None:
        try:
            model = kind(name)
        except Exception as error:
            raise failure(path, error) from error
    else:
        model = PlainModel(name, path, module)
    leave_with(model, module)
    return model


def _own_classes(module: ModuleType) -> list[type]:
    return [
        one
        for one in vars(module).values()
        if inspect.isclass(one) and one.__module__ == module.__name__
    ]


def _subclass(path: Path, module: ModuleType) -> type[Model] | None:
    found = [one for one in _own_classes(module) if issubclass(one, Model)]
    leaves = [one for one in found if not any(one in other.__mro__[1:] for other in found)]
    if len(leaves) > 1:
        raise ModelLoadFailed(
            f"{path} defines several models: {', '.join(one.__name__ for one in leaves)}.",
            fix="Leave one of them, or put each into a folder of its own.",
        )
    return leaves[0] if leaves else None


class PlainModel(TensorModel):
    """A function, or an object with `predict`, that knows nothing of the server."""

    platform = "python"

    def __init__(self, name: str, path: Path, module: ModuleType) -> None:
        super().__init__(name)
        self._path = path
        self._module = module
        self._predict: Callable[[Any], Any] | None = None

    def load(self) -> None:
        path = self._path
        try:
            target = self._target()
            self._predict = target.predict
            self.inputs = _declared(target, "inputs")
            self.outputs = _declared(target, "outputs")
            self.independent_rows = bool(getattr(target, "independent_rows", False))
        except Exception as error:
            raise failure(path, error) from error
        if inspect.iscoroutinefunction(self._predict):
            raise ModelLoadFailed(
                f"{path}: predict is a coroutine, and plain Python is called without a loop.",
                fix="Make it a method of a subclass of kedge.server.Model.",
            )
        self.ready = True

    def unload(self) -> None:
        super().unload()
        self._predict = None

    def _target(self) -> Any:
        """What has `predict`: the module, or an object of its class."""
        if callable(getattr(self._module, "predict", None)):
            return self._module
        kind = _class_with_predict(self._path, self._module)
        made = kind()
        if callable(load := getattr(made, "load", None)):
            takes_folder = bool(inspect.signature(load).parameters)
            load(self._path.parent) if takes_folder else load()
        return made

    # -- predicting ------------------------------------------------------------------------------

    def rows(self, payload: Any) -> tuple[Any, tuple[str, ...]]:
        if self.inputs:
            return super().rows(payload)
        if not isinstance(payload, InferRequest):
            return ArrayModel.rows(self, payload)[0], ()
        wanted = tuple(one.name for one in payload.outputs or ())
        if len(payload.inputs) == 1 and payload.parameters.get("content_type") != "pd":
            return self._tensor_rows(payload), wanted
        return Feeds({one.name: one.array for one in payload.inputs}), wanted

    def compute(self, rows: Any, outputs: tuple[str, ...]) -> Mapping[str, Array]:
        assert self._predict is not None
        if isinstance(rows, Columns):
            rows = {name: np.asarray(values) for name, values in rows.values.items()}
        elif isinstance(rows, Feeds):
            rows = dict(rows.arrays)
        results = named_arrays(self._predict(rows))
        for name in outputs:
            if name not in results:
                raise unexpected_output(name, self.name, results)
        return {name: results[name] for name in outputs} if outputs else results

    def run(self, feeds: Mapping[str, Array], outputs: tuple[str, ...]) -> Mapping[str, Array]:
        return self.compute(Feeds(feeds), outputs)

    def answer(self, payload: Any, results: Mapping[str, Array]) -> Any:
        """Objects in an answer travel as they are over V1, and as JSON text over Open Inference."""
        if isinstance(payload, InferRequest):
            results = {name: without_objects(array) for name, array in results.items()}
        return super().answer(payload, results)

    def warm_up(self) -> Any:
        return super().warm_up() if self.inputs else None


def _class_with_predict(path: Path, module: ModuleType) -> type:
    found = [one for one in _own_classes(module) if callable(getattr(one, "predict", None))]
    for kind in found:
        if foreign := next((o for o in kind.__mro__ if o.__module__.startswith("kserve")), None):
            raise ModelLoadFailed(
                f"{path}: {kind.__name__} is a subclass of {foreign.__module__}.{foreign.__name__},"
                " which this server does not know.",
                fix="Change the import: from kedge.server import Model.",
            )
    named = [one for one in found if one.__name__ == "Model"] or found
    if len(named) == 1:
        return named[0]
    if not named:
        raise ModelLoadFailed(f"{path} defines nothing that predicts.", fix=_USAGE)
    names = ", ".join(one.__name__ for one in named)
    raise ModelLoadFailed(
        f"{path} defines several classes with predict: {names}.",
        fix="Call the one that is the model `Model`.",
    )


def _declared(target: Any, side: str) -> tuple[TensorMetadata, ...]:
    declared = getattr(target, side, ())
    return tuple(
        TensorMetadata(str(name), find_datatype(datatype, name).name, tuple(shape))
        for name, datatype, shape in declared
    )
