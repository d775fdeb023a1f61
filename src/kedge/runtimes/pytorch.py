"""PyTorch: one `.pt`, `.pth` or `.pt2` file.

TorchScript and `torch.export` programs serve as they are. A state dict needs its class: `model.py`
beside it defines it, named by `--model_class_name` or the only module there. Loading runs no code
from a pickle. `torch.export` knows its tensors' types and shapes; for the others they may be
declared in `model-settings.json`, else names come from `forward` and values pass as they are given.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kedge.protocol.datatypes import DATATYPES, Array
from kedge.protocol.errors import InvalidInput, Unsupported
from kedge.protocol.inference import TensorMetadata
from kedge.runtimes.code import failure, import_file, make_importable
from kedge.runtimes.declared import Declared, read_declared
from kedge.runtimes.files import find_model_file
from kedge.runtimes.flags import Flags
from kedge.runtimes.tensors import TensorModel, conform
from kedge.runtimes.torchfile import TorchFacts, read_facts
from kedge.runtimes.versions import installed_version, same_minor
from kedge.server import phases
from kedge.server.errors import ModelLoadFailed
from kedge.server.options import Options

ENDINGS = (".pt", ".pth", ".pt2")

_CLASS_FILE = "model.py"
_DEFAULT_CLASS = "PyTorchModel"
_SHAPES = re.compile(r"shape|size|dimension|must match|dtype|scalar type|out of range", re.I)


def flags() -> Flags:
    known = Flags("pytorch")
    known.flag("model_class_name")
    return known


def preload() -> Sequence[Callable[[], object]]:
    """Imports, for a template, what every model needs."""
    import torch

    assert torch
    return ()


def make(name: str, folder: Path, options: Options) -> TensorModel:
    class_name = flags().read(options).model_class_name
    return PytorchModel(name, folder, class_name=class_name, nthread=options.nthread)


class PytorchModel(TensorModel):
    """A module, on the GPU where there is one."""

    platform = "pytorch"

    def __init__(self, name: str, folder: Path, *, class_name: str = "", nthread: int = 1) -> None:
        super().__init__(name)
        self._folder = folder
        self._class_name = class_name
        self._nthread = nthread
        self._torch: Any = None
        self._module: Any = None
        self._device = "cpu"
        self._keywords: tuple[str, ...] = ()
        self._is_declared = False

    # -- loading ---------------------------------------------------------------------------------

    def load(self) -> None:
        _refuse_archives(self._folder)
        path = find_model_file(self._folder, ENDINGS, "PyTorch")
        facts = read_facts(path)
        declared = read_declared(self._folder)
        installed = installed_version("torch", "pytorch")
        make_importable(self._folder)
        import torch

        phases.mark("framework")
        self._torch = torch
        if self._nthread > 1:
            torch.set_num_threads(self._nthread)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._open(path, facts, installed, declared)
        self.properties = {"kind": facts.kind, "device": self._device}
        self.ready = True

    def unload(self) -> None:
        super().unload()
        self._module = None
        if self._device == "cuda":
            self._torch.cuda.empty_cache()

    def _open(self, path: Path, facts: TorchFacts, installed: str, declared: Declared) -> None:
        try:
            if facts.kind == "export":
                self._open_export(path)
            elif facts.kind == "script":
                self._module = self._torch.jit.load(str(path), map_location=self._device).eval()
                self._declare(declared, _script_inputs(self._module))
            else:
                self._module = self._open_state(path).to(self._device).eval()
                self._declare(declared, _forward_inputs(self._module))
        except ModelLoadFailed:
            raise
        except Exception as error:
            raise _unusable(path, facts, installed, error) from error
        if self._is_declared and not self.outputs:
            self._learn_outputs()

    def _open_export(self, path: Path) -> None:
        program = self._torch.export.load(str(path))
        self._keywords = _keywords(path, program)
        self.inputs = _export_tensors(program, program.graph_signature.user_inputs)
        self.outputs = tuple(
            TensorMetadata(f"output-{index}", one.datatype, one.shape)
            for index, one in enumerate(
                _export_tensors(program, program.graph_signature.user_outputs)
            )
        )
        self._is_declared = True
        self._module = program.module().to(self._device)

    def _open_state(self, path: Path) -> Any:
        module = _make_module(self._torch, self.name, path, self._class_name)
        state = self._torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state) if isinstance(state, Mapping) else state
        if not isinstance(state, Mapping):
            raise ModelLoadFailed(
                f"{path} holds a {type(state).__name__}, not a state dict.",
                fix="Save it with torch.save(model.state_dict(), 'model.pt').",
            )
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            raise ModelLoadFailed(
                f"{path} does not fit {type(module).__name__} in {_CLASS_FILE}: {_line(error)}.",
                fix=f"Bring the {_CLASS_FILE} that the weights were trained with.",
            ) from error
        return module

    def _declare(self, declared: Declared, names: Sequence[str]) -> None:
        """What a person declared; else the names of `forward`, and no more."""
        self.outputs = declared.outputs
        if declared.inputs:
            given = [one.name for one in declared.inputs]
            if unknown := [name for name in given if name not in names]:
                self._keywords = ()
                if len(given) > len(names):
                    raise ModelLoadFailed(
                        f"model-settings.json declares {', '.join(unknown)}, but forward takes "
                        f"{', '.join(names)}.",
                        fix="Declare one input for each argument of forward.",
                    )
            else:
                self._keywords = tuple(given)
            self.inputs, self._is_declared = declared.inputs, True
            return
        datatype = self._float_datatype()
        self.inputs = tuple(TensorMetadata(name, datatype, ()) for name in names)

    def _float_datatype(self) -> str:
        kind = next((one.dtype for one in self._module.parameters()), self._torch.float32)
        return _datatype(kind) if kind.is_floating_point else "FP32"

    def _learn_outputs(self) -> None:
        """Names and types of the outputs, from a row of zeros."""
        feeds = {
            one.name: np.zeros(
                [max(extent, 1) for extent in one.shape], DATATYPES[one.datatype].dtype
            )
            for one in self.inputs
        }
        try:
            results = self._call(feeds)
        except Exception as error:
            raise ModelLoadFailed(
                f"The model does not take what model-settings.json declares: {_line(error)}.",
                fix="Correct the inputs there.",
            ) from error
        self.outputs = tuple(
            TensorMetadata(name, _datatype(value.dtype), (-1, *value.shape[1:]))
            for name, value in _named(self._torch, results).items()
        )

    # -- predicting ------------------------------------------------------------------------------

    def adapt(self, array: Array, wanted: TensorMetadata) -> Array:
        if self._is_declared:
            return conform(array, wanted)
        if array.dtype.kind not in "fiub":
            raise InvalidInput(f"Input '{wanted.name}' takes numbers, but the request holds text.")
        return conform(array, wanted) if array.dtype.kind == "f" else array

    def _from_instances(self, payload: Any) -> dict[str, Array]:
        """JSON does not tell 1 from 1.0: where nothing is declared, numbers are floats."""
        feeds = super()._from_instances(payload)
        if self._is_declared:
            return feeds
        return {one.name: conform(feeds[one.name], one) for one in self.inputs}

    def rows(self, payload: Any) -> tuple[Any, tuple[str, ...]]:
        rows, outputs = super().rows(payload)
        if not self.outputs:
            asked = getattr(payload, "outputs", None) or ()
            return rows, tuple(one.name for one in asked)
        return rows, outputs

    def _wanted(self, request: Any) -> tuple[str, ...]:
        return super()._wanted(request) if self.outputs else ()

    def run(self, feeds: Mapping[str, Array], outputs: tuple[str, ...]) -> Mapping[str, Array]:
        try:
            results = _named(self._torch, self._call(feeds))
        except (RuntimeError, IndexError) as error:
            if not self._is_declared and _SHAPES.search(str(error)):
                raise InvalidInput(
                    f"Model {self.name} cannot use this input: {_line(error)}"
                ) from (error)
            raise
        if self.outputs and len(results) == len(self.outputs):
            results = dict(zip(self.output_names(), results.values(), strict=True))
        for name in outputs:
            if name not in results:
                raise InvalidInput(
                    f"Unexpected inference output '{name}' for model '{self.name}'",
                    fix=f"Ask for {' or '.join(repr(one) for one in results)}.",
                )
        return {name: _array(results[name]) for name in outputs or results}

    def _call(self, feeds: Mapping[str, Array]) -> Any:
        torch = self._torch
        tensors = {
            name: torch.from_numpy(array if array.flags.writeable else array.copy()).to(
                self._device
            )
            for name, array in feeds.items()
        }
        with torch.inference_mode():
            if self._keywords:
                return self._module(**{name: tensors[name] for name in self._keywords})
            return self._module(*tensors.values())

    def warm_up(self) -> Any:
        return super().warm_up() if self._is_declared else None


def _refuse_archives(folder: Path) -> None:
    """TorchServe's layout, which KServe's own runtime for PyTorch takes."""
    if (folder / "model-store").is_dir():
        raise ModelLoadFailed(
            f"{folder} is laid out for TorchServe: it holds model-store/ with .mar archives.",
            fix="Name a runtime that reads them (spec.predictor.model.runtime: kserve-torchserve), "
            "or save the model as model.pt.",
        )


# -- what a module takes ---------------------------------------------------------------------------


def _script_inputs(module: Any) -> list[str]:
    arguments = module.forward.schema.arguments[1:]
    return [one.name for one in arguments if not one.has_default_value()]


def _forward_inputs(module: Any) -> list[str]:
    parameters = inspect.signature(module.forward).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [one.name for one in parameters if one.kind in positional and one.default is one.empty]


def _keywords(path: Path, program: Any) -> tuple[str, ...]:
    """Names to call the program with; none when it takes its inputs by position alone."""
    given, named = program.example_inputs or ((), {})
    flat = len(given) + len(named)
    inputs = program.graph_signature.user_inputs
    if flat and flat != len(inputs):
        raise ModelLoadFailed(
            f"{path} takes nested inputs ({len(inputs)} tensors in {flat} arguments), which the "
            "protocols cannot name.",
            fix="Export a module whose forward takes tensors only.",
        )
    if named and given:
        raise ModelLoadFailed(
            f"{path} was exported with positional and named inputs.",
            fix="Export it with torch.export.export(model, args=(...)) or kwargs={...} alone.",
        )
    return tuple(named)


def _export_tensors(program: Any, names: Sequence[Any]) -> tuple[TensorMetadata, ...]:
    nodes = {node.name: node.meta.get("val") for node in program.graph.nodes}
    found = []
    for name in names:
        value: Any = nodes.get(name)
        if not hasattr(value, "dtype"):
            raise ModelLoadFailed(
                f"The exported program has an input or output '{name}' that is no tensor.",
                fix="Export a module whose forward takes and gives tensors only.",
            )
        shape = tuple(extent if isinstance(extent, int) else -1 for extent in value.shape)
        found.append(TensorMetadata(str(name), _datatype(value.dtype), shape))
    return tuple(found)


def _make_module(torch: Any, model: str, path: Path, class_name: str) -> Any:
    source = path.parent / _CLASS_FILE
    if not source.is_file():
        raise ModelLoadFailed(
            f"{path} holds weights without the network they belong to.",
            fix=f"Put {_CLASS_FILE} with the network's class beside it, or save the model with "
            "torch.jit.script or torch.export.",
        )
    kind = _network(torch, source, import_file(source, model), class_name)
    try:
        return kind()
    except Exception as error:
        raise failure(source, error) from error


def _network(torch: Any, source: Path, module: Any, class_name: str) -> Callable[[], Any]:
    networks = {
        name: one
        for name, one in vars(module).items()
        if inspect.isclass(one)
        and issubclass(one, torch.nn.Module)
        and one.__module__ == module.__name__
    }
    if wanted := class_name or (_DEFAULT_CLASS if _DEFAULT_CLASS in networks else ""):
        if wanted in networks:
            return networks[wanted]
        raise ModelLoadFailed(
            f"{source} defines no network {wanted}; it defines {', '.join(networks) or 'none'}.",
            fix="Name one of them with --model_class_name.",
        )
    if len(networks) == 1:
        return next(iter(networks.values()))
    raise ModelLoadFailed(
        f"{source} defines {len(networks) or 'no'} networks: {', '.join(networks) or '-'}.",
        fix="Name the one to serve with --model_class_name, or call it PyTorchModel.",
    )


# -- what it gives ---------------------------------------------------------------------------------


def _named(torch: Any, results: Any) -> dict[str, Any]:
    if isinstance(results, torch.Tensor):
        return {"output-0": results}
    if isinstance(results, Mapping):
        return {str(name): value for name, value in results.items()}
    if isinstance(results, list | tuple):
        return {f"output-{index}": value for index, value in enumerate(results)}
    raise Unsupported(f"The model gave a {type(results).__name__}, not tensors.")


def _array(tensor: Any) -> Array:
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":
        tensor = tensor.float()
    array: Array = tensor.numpy()
    return array if array.ndim else array.reshape(1)


_DATATYPES = {
    "bool": "BOOL", "uint8": "UINT8", "int8": "INT8", "int16": "INT16", "int32": "INT32",
    "int64": "INT64", "float16": "FP16", "bfloat16": "FP32", "float32": "FP32", "float64": "FP64",
}  # fmt: skip


def _datatype(dtype: Any) -> str:
    name = str(dtype).removeprefix("torch.")
    if name not in _DATATYPES:
        raise ModelLoadFailed(
            f"The model has tensors of type {name}, which the protocols cannot carry.",
            fix="Convert them within forward.",
        )
    return _DATATYPES[name]


def _unusable(path: Path, facts: TorchFacts, installed: str, error: Exception) -> ModelLoadFailed:
    trained = facts.torch_version
    if trained and not same_minor(trained, installed):
        return ModelLoadFailed(
            f"{path} was exported by PyTorch {trained}, and {installed} is installed, which cannot "
            f"use it: {_line(error)}.",
            fix=f"pip install torch=={trained.partition('+')[0]}, or export it with {installed}.",
        )
    return ModelLoadFailed(
        f"{path} cannot be loaded by PyTorch {installed}: {type(error).__name__}: {_line(error)}.",
        fix="Save the model again with the PyTorch that is installed here.",
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:240].rstrip(".")
