"""ONNX: one `.onnx` file, in ONNX Runtime, under the graph's own names.

What the file needs (its format's version, operator sets, weights in other files) is read from its
bytes before ONNX Runtime is asked. A GPU is used where ONNX Runtime was built for it and finds one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kedge.protocol.datatypes import DATATYPES, Array
from kedge.protocol.errors import InvalidInput
from kedge.protocol.inference import TensorMetadata
from kedge.runtimes.files import find_model_file
from kedge.runtimes.onnxfile import OnnxFacts, read_facts
from kedge.runtimes.tensors import TensorModel, sample, texts
from kedge.runtimes.versions import installed_version
from kedge.server import phases
from kedge.server.errors import ModelLoadFailed
from kedge.server.log import logger
from kedge.server.options import Options

ENDINGS = (".onnx",)

_DATATYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16",
    "float": "FP32", "double": "FP64", "string": "BYTES",
}  # fmt: skip
_TENSOR = re.compile(r"tensor\((\w+)\)")
_SCORES = re.compile(r"seq\(map\(\w+,tensor\((float|double)\)\)\)")
_ACCELERATORS = ("CUDAExecutionProvider", "ROCMExecutionProvider", "MIGraphXExecutionProvider")
_EXTENSIONS = "ai.onnx.contrib"


def make(name: str, folder: Path, options: Options) -> TensorModel:
    return OnnxModel(name, folder, nthread=options.nthread)


class OnnxModel(TensorModel):
    """A graph in an ONNX Runtime session."""

    platform = "onnxruntime"
    reentrant = True

    def __init__(self, name: str, folder: Path, *, nthread: int = 1) -> None:
        super().__init__(name)
        self._folder = folder
        self._nthread = nthread
        self._session: Any = None
        self._invalid: type[Exception] = ValueError
        self._text_inputs: frozenset[str] = frozenset()
        self._scores: dict[str, str] = {}
        self._shared: dict[str, list[tuple[str, int]]] = {}

    # -- loading ---------------------------------------------------------------------------------

    def load(self) -> None:
        _refuse_repository(self._folder)
        path = find_model_file(self._folder, ENDINGS, "ONNX")
        facts = read_facts(path)
        _check_data_files(path, facts)
        installed = installed_version("onnxruntime", "onnx")
        import onnxruntime  # Starts a thread: no template may have done it.

        phases.mark("framework")
        self._invalid = onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument
        self._session = _open(onnxruntime, path, facts, installed, self._nthread)
        self._inspect(path)
        self.properties = {
            "ir_version": str(facts.ir),
            **{f"opset.{domain}": str(version) for domain, version in facts.opsets.items()},
            "execution_provider": self._session.get_providers()[0],
        }
        self.ready = True

    def unload(self) -> None:
        super().unload()
        self._session = None

    def _inspect(self, path: Path) -> None:
        self.inputs = tuple(_declared(path, "input", one) for one in self._session.get_inputs())
        self._text_inputs = frozenset(one.name for one in self.inputs if one.datatype == "BYTES")
        self._shared = _shared_extents(self._session.get_inputs())
        outputs = self._session.get_outputs()
        self._scores = {
            one.name: _DATATYPES[found[1]]
            for one in outputs
            if (found := _SCORES.fullmatch(one.type))
        }
        self.outputs = tuple(
            TensorMetadata(one.name, self._scores[one.name], (-1, -1))
            if one.name in self._scores
            else _declared(path, "output", one)
            for one in outputs
        )
        if self._scores:
            self._count_scores()

    def _count_scores(self) -> None:
        """How many classes a converted classifier scores: only an answer tells."""
        feeds = {one.name: sample(one) for one in self.inputs}
        try:
            results = self.run(feeds, self.output_names())
        except Exception as error:
            logger.info("model %s: a row of zeros was refused: %s", self.name, error)
            return
        self.outputs = tuple(
            TensorMetadata(one.name, one.datatype, (-1, results[one.name].shape[1]))
            if one.name in self._scores
            else one
            for one in self.outputs
        )

    # -- predicting ------------------------------------------------------------------------------

    def run(self, feeds: Mapping[str, Array], outputs: tuple[str, ...]) -> Mapping[str, Array]:
        for extent, places in self._shared.items():
            _check_shared(feeds, extent, places)
        if self._text_inputs:
            feeds = {
                name: texts(array) if name in self._text_inputs else array
                for name, array in feeds.items()
            }
        try:
            results = self._session.run(outputs, feeds)
        except self._invalid as error:
            raise InvalidInput(_cause(error)) from error
        if not self._scores:
            return dict(zip(outputs, results, strict=True))
        return {
            name: _score_table(result, self._scores[name]) if name in self._scores else result
            for name, result in zip(outputs, results, strict=True)
        }


def _refuse_repository(folder: Path) -> None:
    """Triton's layout, which KServe's own runtime for ONNX takes."""
    found = next(folder.glob("*/config.pbtxt"), None) or next(folder.glob("*/*/*.onnx"), None)
    if found is not None and not any(folder.glob("*.onnx")):
        raise ModelLoadFailed(
            f"{folder} is a model repository of Triton's: it holds {found.relative_to(folder)}.",
            fix="Name a runtime that reads it (spec.predictor.model.runtime: kserve-tritonserver), "
            "or point storageUri at the folder with the .onnx file.",
        )


def _check_data_files(path: Path, facts: OnnxFacts) -> None:
    missing = [name for name in facts.data_files if not (path.parent / name).is_file()]
    if missing:
        raise ModelLoadFailed(
            f"{path} keeps its weights in {', '.join(missing[:3])}, which is not beside it.",
            fix="Upload the weight files into the same folder, or export the model as one file.",
        )


def _open(onnxruntime: Any, path: Path, facts: OnnxFacts, installed: str, nthread: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = nthread
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if _EXTENSIONS in facts.opsets:
        _register_extensions(path, options)
    offered = onnxruntime.get_available_providers()
    providers = [one for one in _ACCELERATORS if one in offered] + ["CPUExecutionProvider"]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        raise _unusable(path, facts, installed, error) from error


def _register_extensions(path: Path, options: Any) -> None:
    try:
        from onnxruntime_extensions import get_library_path
    except ImportError:
        raise ModelLoadFailed(
            f"{path} uses operators of {_EXTENSIONS}, which onnxruntime-extensions brings, and it "
            "is not installed.",
            fix="Install it beside Kedge: pip install onnxruntime-extensions.",
        ) from None
    options.register_custom_ops_library(get_library_path())


def _unusable(path: Path, facts: OnnxFacts, installed: str, error: Exception) -> ModelLoadFailed:
    cause = _cause(error)
    if facts.custom:
        operators = ", ".join(
            f"{domain}.{name}" for domain, names in facts.custom.items() for name in names[:3]
        )
        return ModelLoadFailed(
            f"{path} needs operators that ONNX Runtime {installed} does not have: {operators}.",
            fix="Export the model without custom operators.",
        )
    if re.search(r"IR version|opset|not implemented|NOT_IMPLEMENTED|not a registered", cause):
        return ModelLoadFailed(
            f"{path} ({facts.describe()}) is not for ONNX Runtime {installed}, which is installed: "
            f"{cause}.",
            fix="Install a newer one (pip install --upgrade onnxruntime), or export the model for "
            "an older operator set and IR version.",
        )
    return ModelLoadFailed(
        f"{path} ({facts.describe()}) cannot be used by ONNX Runtime {installed}: {cause}.",
        fix="Check the file with onnx.checker.check_model and export the model again.",
    )


def _cause(error: Exception) -> str:
    """ONNX Runtime's message without its numbers and source lines."""
    text = " ".join(str(error).split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : (\w+) : ", "", text)
    text = re.sub(r"\S*onnxruntime_src\S+ .*?\)\s(?=[A-Z])", "", text)
    return text[:300].rstrip(".")


def _declared(path: Path, role: str, given: Any) -> TensorMetadata:
    found = _TENSOR.fullmatch(given.type)
    datatype = _DATATYPES.get(found[1]) if found else None
    if datatype is None:
        raise ModelLoadFailed(
            f"{path}: {role} '{given.name}' is a {given.type}, which the protocols cannot carry.",
            fix="Export the model with tensors of numbers, booleans or strings only.",
        )
    shape = tuple(
        extent if isinstance(extent, int) and extent >= 0 else -1 for extent in given.shape or ()
    )
    return TensorMetadata(given.name, datatype, shape)


def _shared_extents(inputs: Sequence[Any]) -> dict[str, list[tuple[str, int]]]:
    """Extents that the graph names, and where: those of one name must be equal."""
    places: dict[str, list[tuple[str, int]]] = {}
    for one in inputs:
        for axis, extent in enumerate(one.shape or ()):
            if isinstance(extent, str):
                places.setdefault(extent, []).append((one.name, axis))
    return {extent: found for extent, found in places.items() if len(found) > 1}


def _check_shared(feeds: Mapping[str, Array], extent: str, places: list[tuple[str, int]]) -> None:
    (first, axis), *others = places
    wanted = feeds[first].shape[axis]
    for name, other in others:
        if feeds[name].shape[other] != wanted:
            raise InvalidInput(
                f"Inputs '{first}' and '{name}' must agree in '{extent}': their shapes are "
                f"{list(feeds[first].shape)} and {list(feeds[name].shape)}."
            )


def _score_table(maps: list[dict[Any, float]], datatype: str) -> Array:
    """Scores by class, as converters from scikit-learn write them, in the classes' order."""
    classes = sorted(maps[0]) if maps else []
    rows = [[row[one] for one in classes] for row in maps]
    return np.array(rows, dtype=DATATYPES[datatype].dtype)
