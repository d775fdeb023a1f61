"""`model-settings.json`, and the flags of one runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

from kedge.protocol.inference import TensorMetadata
from kedge.runtimes.declared import Declared, read_declared
from kedge.runtimes.flags import Flags
from kedge.server.errors import BadUsage, ModelLoadFailed
from kedge.server.options import parse


def test_what_is_declared(tmp_path: Path) -> None:
    assert read_declared(tmp_path) == Declared()
    (tmp_path / "model-settings.json").write_text(
        '{"name": "m", "inputs": [{"name": "x", "datatype": "fp32", "shape": [-1, 4],'
        ' "parameters": {"content_type": "np"}}]}'
    )
    assert read_declared(tmp_path).inputs == (TensorMetadata("x", "FP32", (-1, 4)),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "model-settings.json: Input data was truncated"),
        ('{"inputs": [{"name": "x"}]}', "missing required field `datatype`"),
        ('{"inputs": [{"name": "x", "datatype": "F4", "shape": []}]}', "datatype 'F4', which does"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "model-settings.json").write_text(text)
    with pytest.raises(ModelLoadFailed) as caught:
        read_declared(tmp_path)
    assert message in str(caught.value)


def test_flags_of_one_runtime() -> None:
    flags = Flags("acme")
    flags.flag("model_class_name")
    flags.flag("dtype", choices=("auto", "float32"), default="auto")
    flags.switch("return_probabilities")
    flags.switch("disable_lower_case")
    argv = ["sklearn", "--model-class-name=Net", "--other", "--return_probabilities"]
    read = flags.read(parse([*argv, "--disable_lower_case=false"], {}))
    assert (read.model_class_name, read.dtype) == ("Net", "auto")
    assert (read.return_probabilities, read.disable_lower_case) == (True, False)
    with pytest.raises(BadUsage, match="kedge serve acme: argument --dtype: invalid choice"):
        flags.read(parse(["sklearn", "--dtype", "int3"], {}))
    with pytest.raises(BadUsage, match="'maybe' is neither true nor false"):
        flags.read(parse(["sklearn", "--disable_lower_case=maybe"], {}))
