"""Inputs and outputs that a person wrote down: `model-settings.json`, as MLServer reads it.

For models that do not say themselves what they take (TorchScript, a state dict): names, datatypes
and shapes in the words of Open Inference.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from kedge.protocol.datatypes import DATATYPES
from kedge.protocol.inference import TensorMetadata
from kedge.server.errors import ModelLoadFailed

SETTINGS = "model-settings.json"
_EXAMPLE = 'Write {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]}.'


@dataclass(frozen=True)
class Declared:
    """What the file declares; nothing where there is no file."""

    inputs: tuple[TensorMetadata, ...] = ()
    outputs: tuple[TensorMetadata, ...] = ()


class _Tensor(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]


class _Settings(msgspec.Struct):
    inputs: list[_Tensor] = []
    outputs: list[_Tensor] = []


def read_declared(folder: Path) -> Declared:
    path = folder / SETTINGS
    if not path.is_file():
        return Declared()
    try:
        settings = msgspec.json.decode(path.read_bytes(), type=_Settings)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ModelLoadFailed(f"{path}: {error}.", fix=_EXAMPLE) from error
    return Declared(
        tuple(_tensor(path, one) for one in settings.inputs),
        tuple(_tensor(path, one) for one in settings.outputs),
    )


def _tensor(path: Path, one: Any) -> TensorMetadata:
    if one.datatype.upper() not in DATATYPES:
        raise ModelLoadFailed(
            f"{path}: '{one.name}' has datatype {one.datatype!r}, which does not exist.",
            fix=f"Use one of {', '.join(DATATYPES)}.",
        )
    return TensorMetadata(one.name, one.datatype.upper(), tuple(one.shape))
