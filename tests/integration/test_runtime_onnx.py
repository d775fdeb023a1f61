"""ONNX: graphs of one input and of several, a converted classifier, files that cannot be served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from tests.integration.server_process import Served
from tests.integration.trained import ROWS, iris

onnx = pytest.importorskip("onnx", reason="needs the onnx package to make models")
pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

FLOATS = np.array(ROWS, dtype=np.float32)


def converted_classifier(folder: Path, *, zipmap: bool) -> Any:
    """Logistic regression on iris, as skl2onnx writes it."""
    convert = pytest.importorskip("skl2onnx", reason="converts scikit-learn models")
    from sklearn.linear_model import LogisticRegression

    features, labels = iris()
    model = LogisticRegression(max_iter=500).fit(features, labels)
    graph = convert.to_onnx(
        model, features[:1].astype(np.float32), options={"zipmap": zipmap}, target_opset=15
    )
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    return model


def two_inputs(folder: Path, **changed: Any) -> Path:
    """total = a + b; text goes through."""
    helper, kinds = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Add", ["a", "b"], ["total"]),
        helper.make_node("Identity", ["words"], ["same"]),
    ]
    given = [
        ("a", kinds.FLOAT, ["n", 2]),
        ("b", kinds.FLOAT, ["n", 2]),
        ("words", kinds.STRING, ["n"]),
    ]
    made = [("total", kinds.FLOAT, ["n", 2]), ("same", kinds.STRING, ["n"])]
    graph = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info(*one) for one in given],
        [helper.make_tensor_value_info(*one) for one in made],
    )
    options = {"ir_version": 9, "opset_imports": [helper.make_opsetid("", 17)]} | changed
    onnx.save(helper.make_model(graph, producer_name="hand", **options), folder / "sum.onnx")
    return folder


@pytest.fixture(scope="module", params=[True, False], ids=["zipmap", "tensors"])
def classifier(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, Any]]:
    folder = tmp_path_factory.mktemp("classifier")
    model = converted_classifier(folder, zipmap=request.param)
    with serving("onnx", folder, tmp_path_factory.mktemp("log") / "log") as served:
        yield served, model


def test_a_converted_classifier(classifier: tuple[Served, Any]) -> None:
    served, model = classifier
    inputs, outputs = metadata(served)
    assert inputs == {"X": ("FP32", [-1, 4])}
    label, scores = outputs
    assert outputs[label] == ("INT64", [-1])
    assert outputs[scores] == ("FP32", [-1, 3])

    answer = everywhere(served, {"X": FLOATS})
    assert list(answer) == [label, scores]
    assert answer[label].tolist() == [1, 1]
    np.testing.assert_allclose(answer[scores], model.predict_proba(ROWS), atol=1e-5)
    assert everywhere(served, {"input-0": FLOATS}, (label,))[label].tolist() == [1, 1]

    rows = predictions(served, ROWS)
    assert [row[label] for row in rows] == [1, 1]
    assert len(rows[0][scores]) == 3


def test_rows_of_the_wrong_width_are_the_client_s_fault(classifier: tuple[Served, Any]) -> None:
    served, _ = classifier
    status, message = infer_error(served, {"X": FLOATS[:, :3]})
    assert status == 400
    assert message.startswith("Input 'X' has shape [2, 3], but the model takes [-1, 4]")
    status, body = served.post("/v1/models/m:predict", {"instances": [["a", "b", "c", "d"]]})
    assert (status, body["error"]) == (400, "Input 'X' takes FP32, but the request holds text.")


@pytest.fixture(scope="module")
def summing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = two_inputs(tmp_path_factory.mktemp("sum"))
    with serving("onnx", folder, tmp_path_factory.mktemp("log") / "log") as served:
        yield served


def test_several_inputs_by_name(summing: Served) -> None:
    inputs, outputs = metadata(summing)
    assert inputs == {"a": ("FP32", [-1, 2]), "b": ("FP32", [-1, 2]), "words": ("BYTES", [-1])}
    assert outputs == {"total": ("FP32", [-1, 2]), "same": ("BYTES", [-1])}
    pairs = np.array([[1, 2], [3, 4]], dtype=np.float32)
    words = np.array(["é", "b"], dtype=object)
    answer = everywhere(summing, {"b": pairs, "a": pairs, "words": words})
    assert answer["total"].tolist() == [[2, 4], [6, 8]]
    assert answer["same"].tolist() == ["é", "b"]


def test_v1_takes_an_object_per_row(summing: Served) -> None:
    row = {"a": [1, 2], "b": [0.5, 0.5], "words": "x"}
    assert predictions(summing, [row, row]) == [{"total": [1.5, 2.5], "same": "x"}] * 2
    status, body = summing.post("/v1/models/m:predict", {"instances": [[1, 2]]})
    assert status == 400
    assert "takes 3 inputs (a, b, words), so each instance must be an object" in body["error"]


def test_inputs_that_do_not_match(summing: Served) -> None:
    pairs = np.ones((2, 2), dtype=np.float32)
    words = np.array(["a", "b"], dtype=object)
    assert infer_error(summing, {"a": pairs, "words": words})[1].startswith("Input 'b' is missing.")
    status, message = infer_error(summing, {"a": pairs, "c": pairs, "words": words})
    assert (status, "has no input 'c'" in message) == (400, True)
    status, message = infer_error(summing, {"a": pairs, "b": np.ones((3, 2), "f4"), "words": words})
    assert (status, message.partition(":")[0]) == (400, "Inputs 'a' and 'b' must agree in 'n'")
    assert infer_error(summing, {"a": pairs, "b": pairs, "words": pairs[:, 0]})[0] == 400


def test_metadata_tells_of_the_file(summing: Served) -> None:
    _, body = summing.get("/v2/models/m")
    assert body["platform"] == "onnxruntime"
    assert body["properties"]["opset.ai.onnx"] == "17"
    assert body["properties"]["execution_provider"].endswith("ExecutionProvider")


def test_a_file_for_a_newer_runtime(tmp_path: Path) -> None:
    line = failed_start("onnx", two_inputs(tmp_path, ir_version=99))
    assert "(IR version 99, operator sets ai.onnx 17, written by hand) is not for ONNX" in line
    assert "pip install --upgrade onnxruntime" in line


def test_a_file_cut_short(tmp_path: Path) -> None:
    path = two_inputs(tmp_path) / "sum.onnx"
    content = path.read_bytes()
    path.write_bytes(content[:-30])
    assert "is no complete ONNX model: it ends" in failed_start("onnx", tmp_path)


def test_weights_that_were_not_uploaded(tmp_path: Path) -> None:
    weight = onnx.numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, ["n", 4])],
        [helper.make_tensor_value_info("y", kind, ["n", 4])],
        [weight],
    )
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(
        model,
        tmp_path / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    with serving("onnx", tmp_path, tmp_path / "log") as served:
        assert predictions(served, [[1, 1, 1, 1]]) == [[4, 4, 4, 4]]
    (tmp_path / "weights.bin").unlink()
    line = failed_start("onnx", tmp_path)
    assert "keeps its weights in weights.bin, which is not beside it" in line


def test_a_repository_of_triton_s(tmp_path: Path) -> None:
    version = tmp_path / "sum" / "1"
    version.mkdir(parents=True)
    two_inputs(version)
    with serving("onnx", tmp_path, tmp_path / "log") as served:
        assert served.get("/v2/models/sum/versions/1")[0] == 200
