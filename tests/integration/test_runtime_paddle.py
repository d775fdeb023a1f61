"""Paddle: programs in both forms, several outputs, files that cannot be used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.integration.runtime_process import (
    everywhere,
    failed_start,
    infer_error,
    metadata,
    predictions,
    serving,
)

from kedge.runtimes.versions import installed_version
from kedge.server.errors import ModelLoadFailed

try:
    installed_version("paddlepaddle", "paddle")
except ModelLoadFailed:
    pytest.skip("needs Paddle", allow_module_level=True)

# Paddle's imports warn, and the form is chosen as it is imported: made in processes of their own.
MAKE = """
import sys
import paddle

class Net(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.linear = paddle.nn.Linear(3, 2, bias_attr=False)
        self.linear.weight.set_value(paddle.to_tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]))

    def forward(self, x, y):
        return self.linear(x), y * 2

spec = paddle.static.InputSpec
paddle.jit.save(
    Net(), sys.argv[1],
    input_spec=[spec([None, 3], "float32", "x"), spec([None], "int64", "y")],
)
"""


def saved(folder: Path, form: str) -> Path:
    script = folder / "make.py"  # Paddle reads the layer's source
    script.write_text(MAKE)
    env = {**os.environ, "FLAGS_enable_pir_api": "0" if form == "old" else "1"}
    subprocess.run(
        [sys.executable, str(script), str(folder / "model")],
        check=True, capture_output=True, timeout=110, env=env,
    )  # fmt: skip
    return folder


@pytest.mark.parametrize("form", ["new", "old"])
def test_a_program(form: str, tmp_path: Path) -> None:
    saved(tmp_path, form)
    with serving("paddle", tmp_path, tmp_path / "log") as served:
        assert metadata(served) == (
            {"x": ("FP32", [-1, 3]), "y": ("INT64", [-1])},
            {"output-0": ("FP32", [-1, 2]), "output-1": ("INT64", [-1])},
        )
        rows = np.array([[1, 2, 3], [0, 0, 1]], dtype=np.float32)
        answer = everywhere(served, {"x": rows, "y": np.array([4, 5], dtype=np.int64)})
        assert answer["output-0"].tolist() == [[4.0, 7.0], [1.0, 1.0]]
        assert answer["output-1"].tolist() == [8, 10]
        assert predictions(served, [{"x": [1, 2, 3], "y": 4}]) == [
            {"output-0": [4.0, 7.0], "output-1": 8}
        ]
        status, message = infer_error(served, {"x": rows})
        assert (status, message) == (
            400,
            "Input 'y' is missing. Fix: Model m takes 'x' FP32 [-1, 3], 'y' INT64 [-1].",
        )


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    assert "No Paddle model in" in failed_start("paddle", tmp_path)
    (tmp_path / "model.json").write_text('{"program": {}}')
    assert "ends in .pdiparams" in failed_start("paddle", tmp_path)
    (tmp_path / "model.pdiparams").write_bytes(b"abc")
    assert "is no complete Paddle program" in failed_start("paddle", tmp_path)
    (tmp_path / "model.json").unlink()
    (tmp_path / "model.pdmodel").write_bytes(b"\x0a\xff\xff\xff")
    assert "is no complete Paddle program" in failed_start("paddle", tmp_path)
