"""Paddle: one program (`.pdmodel`, or `.json` from Paddle 3) and its `.pdiparams`, on the CPU.

Names, types and shapes of the inputs and outputs are read from the program before Paddle is asked.
The first output is called `output-0`, as KServe's server calls it, the next `output-1`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedge.protocol.datatypes import Array
from kedge.protocol.inference import TensorMetadata
from kedge.runtimes.files import find_model_file, has_model_file
from kedge.runtimes.protobuf import Damaged, fields, messages, text
from kedge.runtimes.tensors import TensorModel
from kedge.runtimes.versions import installed_version
from kedge.server.errors import ModelLoadFailed
from kedge.server.options import Options

ENDINGS = (".pdmodel", ".json")
_WEIGHTS = (".pdiparams",)

_PIR_TYPES = {
    "t_bool": "BOOL", "t_ui8": "UINT8", "t_i8": "INT8", "t_i16": "INT16", "t_i32": "INT32",
    "t_i64": "INT64", "t_f16": "FP16", "t_f32": "FP32", "t_f64": "FP64",
}  # fmt: skip
# VarType.Type of framework.proto
_PROGRAM_TYPES = {
    0: "BOOL", 1: "INT16", 2: "INT32", 3: "INT64", 4: "FP16", 5: "FP32", 6: "FP64", 20: "UINT8",
    21: "INT8",
}  # fmt: skip


def make(name: str, folder: Path, options: Options) -> TensorModel:
    return PaddleModel(name, folder, nthread=options.nthread)


@dataclass(frozen=True)
class Program:
    """What a program takes and gives, in its own order; a shape's -1 is any extent."""

    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


class PaddleModel(TensorModel):
    """A program in Paddle's inference engine."""

    platform = "paddle"

    def __init__(self, name: str, folder: Path, *, nthread: int = 1) -> None:
        super().__init__(name)
        self._folder = folder
        self._nthread = nthread
        self._predictor: Any = None
        self._handles: dict[str, Any] = {}

    def load(self) -> None:
        old_form = has_model_file(self._folder, (".pdmodel",))
        path = find_model_file(self._folder, (".pdmodel",) if old_form else ENDINGS, "Paddle")
        weights = find_model_file(self._folder, _WEIGHTS, "Paddle")
        program = read_program(path)
        installed = installed_version("paddlepaddle", "paddle")
        import paddle.inference

        config = paddle.inference.Config(str(path), str(weights))
        config.disable_gpu()
        config.disable_glog_info()
        config.set_cpu_math_library_num_threads(self._nthread)
        try:
            self._predictor = paddle.inference.create_predictor(config)
        except Exception as error:
            raise _unusable(path, weights, installed, error) from error
        self.inputs = program.inputs
        self.outputs = tuple(
            TensorMetadata(f"output-{index}", one.datatype, one.shape)
            for index, one in enumerate(program.outputs)
        )
        names = self._predictor.get_output_names()
        self._handles = {
            f"output-{index}": self._predictor.get_output_handle(name)
            for index, name in enumerate(names)
        }
        self.ready = True

    def unload(self) -> None:
        super().unload()
        self._predictor = None
        self._handles = {}

    def run(self, feeds: Mapping[str, Array], outputs: tuple[str, ...]) -> Mapping[str, Array]:
        for name, array in feeds.items():
            self._predictor.get_input_handle(name).copy_from_cpu(array)
        self._predictor.run()
        return {name: self._handles[name].copy_to_cpu() for name in outputs}


def read_program(path: Path) -> Program:
    """The inputs and outputs of a program, without Paddle.

    Raises:
        ModelLoadFailed: the file is none, cut short, or has an input that no protocol can carry.
    """
    try:
        if path.suffix == ".pdmodel":
            return _from_program_desc(path.read_bytes())
        return _from_pir(json.loads(path.read_bytes()))
    except (Damaged, KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelLoadFailed(
            f"{path} ({path.stat().st_size} bytes) is no complete Paddle program: "
            f"{' '.join(str(error).split())[:200] or type(error).__name__}.",
            fix="Save the model again with paddle.jit.save and check that the upload was complete.",
        ) from error


def _from_pir(document: dict[str, Any]) -> Program:
    """Paddle 3: operations of the dialect, those of data and fetch among them."""
    inputs: list[TensorMetadata] = []
    outputs: list[TensorMetadata] = []
    for operation in document["program"]["regions"][0]["blocks"][0]["ops"]:
        kind = operation["#"].rpartition(".")[2]
        if kind in ("data", "fetch"):
            name = next(one["AT"]["D"] for one in operation["A"] if one["N"] == "name")
            dtype, shape = operation["O"][0]["TT"]["D"][:2]
            given = _PIR_TYPES.get(dtype["#"].rpartition(".")[2])
            (inputs if kind == "data" else outputs).append(
                TensorMetadata(name, _known(given, name, dtype["#"]), tuple(shape))
            )
    return Program(tuple(inputs), tuple(outputs))


def _from_program_desc(content: bytes) -> Program:
    """Paddle 1 and 2: framework.proto's ProgramDesc; its operators feed and fetch name the ends."""
    block = next(messages(memoryview(content), 1), None)
    if block is None:
        raise Damaged("it has no block")
    variables = dict(_variable(one) for one in messages(block, 3))
    ends: dict[str, list[TensorMetadata]] = {"feed": [], "fetch": []}
    for operator in messages(block, 4):
        kind = next((text(value) for number, value in fields(operator) if number == 3), "")
        if kind in ends:
            # feed writes its variable (2: outputs), fetch reads it (1: inputs)
            name = _first_argument(operator, 2 if kind == "feed" else 1)
            code, shape = variables[name]
            datatype = _known(_PROGRAM_TYPES.get(code), name, f"type {code}")
            ends[kind].append(TensorMetadata(name, datatype, shape))
    # Feeds stand at the head of a block, the last one first.
    return Program(tuple(reversed(ends["feed"])), tuple(ends["fetch"]))


def _variable(view: memoryview) -> tuple[str, tuple[int, tuple[int, ...]]]:
    name, code, extents = "", -1, []
    for number, value in fields(view):
        if number == 1:
            name = text(value)
        elif number == 2 and isinstance(value, memoryview):
            for tensor in messages(value, 3):
                for description in messages(tensor, 1):
                    for key, one in fields(description):
                        if key == 1 and isinstance(one, int):
                            code = one
                        elif key == 2 and isinstance(one, int):
                            extents.append(-1 if one >> 63 else one)
    return name, (code, tuple(extents))


def _first_argument(operator: memoryview, side: int) -> str:
    for parameter in messages(operator, side):
        for argument in messages(parameter, 2):
            return text(argument)
    raise Damaged("an operator has no argument")


def _known(datatype: str | None, name: str, found: str) -> str:
    if datatype is None:
        raise Damaged(f"'{name}' is of {found}, which the protocols cannot carry")
    return datatype


def _unusable(path: Path, weights: Path, installed: str, error: Exception) -> ModelLoadFailed:
    cause = next(
        (line for line in reversed(str(error).splitlines()) if "Error" in line or "rror:" in line),
        str(error),
    )
    return ModelLoadFailed(
        f"{path} with {weights.name} cannot be used by Paddle {installed}: "
        f"{' '.join(cause.split())[:300].rstrip('.')}.",
        fix="Check that both files are of one paddle.jit.save, by a Paddle that is not newer.",
    )
