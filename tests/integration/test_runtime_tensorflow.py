"""TensorFlow: SavedModels of one and several tensors, version folders, files of no use."""

from __future__ import annotations

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
    installed_version("tensorflow", "tensorflow")
except ModelLoadFailed:
    pytest.skip("needs TensorFlow", allow_module_level=True)

# TensorFlow's own imports warn, and it keeps threads: models are made in a process of their own.
MAKE = """
import sys
import tensorflow as tf

class Net(tf.Module):
    def __init__(self):
        self.weights = tf.Variable([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def scores(self, x):
        return {"scores": tf.matmul(x, self.weights)}

    @tf.function(input_signature=[
        tf.TensorSpec([None], tf.string, name="word"),
        tf.TensorSpec([None], tf.int64, name="times"),
    ])
    def echo(self, word, times):
        return {"upper": tf.strings.upper(word), "twice": times * 2}

net = Net()
tf.saved_model.save(net, sys.argv[1], signatures={"serving_default": net.scores, "echo": net.echo})
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tensorflow")
    subprocess.run(
        [sys.executable, "-c", MAKE, str(folder / "1")],
        check=True,
        capture_output=True,
        timeout=110,
    )
    return folder


def test_a_numbered_folder(saved: Path, tmp_path: Path) -> None:
    with serving("tensorflow", saved, tmp_path / "log") as served:
        assert metadata(served) == ({"x": ("FP32", [-1, 3])}, {"scores": ("FP32", [-1, 2])})
        assert served.get("/v2/models/m/versions/1")[0] == 200
        assert predictions(served, [[1, 2, 3], [0, 0, 1]]) == [[4.0, 7.0], [1.0, 1.0]]
        rows = np.array([[1, 2, 3]], dtype=np.float32)
        assert everywhere(served, {"x": rows})["scores"].tolist() == [[4.0, 7.0]]
        status, message = infer_error(served, {"x": rows[:, :2]})
        assert (status, message) == (
            400,
            "Input 'x' has shape [1, 2], but the model takes [-1, 3] (-1 is any extent).",
        )


def test_another_signature_of_text_and_numbers(saved: Path, tmp_path: Path) -> None:
    argument = "--signature_name=echo"
    with serving("tensorflow", saved / "1", tmp_path / "log", argument) as served:
        inputs, outputs = metadata(served)
        assert inputs == {"word": ("BYTES", [-1]), "times": ("INT64", [-1])}
        assert outputs == {"upper": ("BYTES", [-1]), "twice": ("INT64", [-1])}
        given = {
            "word": np.array(["ab", "c"], dtype=object),
            "times": np.array([1, 2], dtype=np.int64),
        }
        answer = everywhere(served, given)
        assert answer["upper"].tolist() == ["AB", "C"]
        assert answer["twice"].tolist() == [2, 4]
        rows = predictions(served, [{"word": "ab", "times": 4}])
        assert rows == [{"upper": "AB", "twice": 8}]


def test_tensorflow_servings_arguments(saved: Path, tmp_path: Path) -> None:
    """As KServe's runtime manifest gives them, ports apart."""
    with serving(
        "tensorflow", tmp_path, tmp_path / "log", f"--model_base_path={saved}",
        "--rest_api_timeout_in_ms=60000",
    ) as served:  # fmt: skip
        assert predictions(served, [[1, 2, 3]]) == [[4.0, 7.0]]


def test_files_that_cannot_be_used(saved: Path, tmp_path: Path) -> None:
    assert "No TensorFlow model in" in failed_start("tensorflow", tmp_path)
    line = failed_start("tensorflow", saved, "--signature_name=other")
    assert "has no signature 'other': it has" in line
    whole = (saved / "1" / "saved_model.pb").read_bytes()
    (tmp_path / "saved_model.pb").write_bytes(whole[:200])
    assert "is no complete SavedModel" in failed_start("tensorflow", tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(whole)
    assert "cannot be used by TensorFlow" in failed_start("tensorflow", tmp_path)
