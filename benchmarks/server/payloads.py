"""The models and the bodies that every server gets, and the answers that are right.

Iris bodies are V2 JSON with two rows each, 1,000 of them, all distinct. Tensors are FP32.
"""

from __future__ import annotations

import importlib.util
import json
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kedge.protocol.open_inference import messages

COUNT = 1000
MIB = 1 << 20
GRPC_PATH = "/inference.GRPCInferenceService/ModelInfer"

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Payload:
    """The bodies of one kind.

    Attributes:
        entries: as `benchmarks.load` reads them.
        grpc: one body in gRPC's framing, where there is such a form.
        blob: the tensor's bytes that an echo must give back; empty where labels are predicted.
    """

    entries: list[Any]
    grpc: bytes = b""
    blob: bytes = b""


class Materials:
    """Makes models and payloads below a folder, each when first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._payloads: dict[str, Payload] = {}
        rng = random.Random(7)
        self.rows: Array = np.array(
            [
                [[round(rng.uniform(0.1, 7.9), 3) for _ in range(4)] for _ in range(2)]
                for _ in range(COUNT)
            ]
        )

    # -- models ----------------------------------------------------------------------------------

    def model(self, framework: str) -> Path:
        """The folder of a trained model; the framework's own answers lie beside it."""
        folder = self._folder / "models" / framework
        if framework != "identity" and not folder.exists():
            folder.mkdir(parents=True)
            expected = TRAINERS[framework](folder, self.rows.reshape(-1, 4))
            answers = np.asarray(expected).reshape(COUNT, 2)
            np.save(self._folder / f"{framework}.npy", answers)
        return folder

    def expected(self, framework: str) -> Array:
        """Answers by body, two each, from the framework itself."""
        self.model(framework)
        found: Array = np.load(self._folder / f"{framework}.npy")
        return found

    # -- bodies ----------------------------------------------------------------------------------

    def file(self, kind: str) -> Path:
        """The bodies of a kind as a file for the load generator."""
        path = self._folder / f"{kind}.json"
        if not path.exists():
            path.write_text(json.dumps(self.payload(kind).entries))
        return path

    def grpc_file(self, kind: str) -> Path:
        path = self._folder / f"{kind}.grpc"
        if not path.exists():
            path.write_bytes(self.payload(kind).grpc)
        return path

    def payload(self, kind: str) -> Payload:
        if kind not in self._payloads:
            self._payloads[kind] = self._make(kind)
        return self._payloads[kind]

    def _make(self, kind: str) -> Payload:
        if kind == "iris":
            return Payload(self._iris("FP64"), grpc_body("iris", self.rows[0], "FP64"))
        if kind == "iris-label":
            return Payload(self._iris("FP32", name="input", outputs=[{"name": "label"}]))
        if kind == "iris-bad":
            return Payload(spoil(self._iris("FP64")))
        if kind == "small":
            return Payload(self._iris("FP32"))
        form, _, size = kind.partition("-")
        return self._tensor(form, int(size))

    def _iris(self, datatype: str, **more: Any) -> list[str]:
        return [v2_json(pair.tolist(), [2, 4], datatype, **more) for pair in self.rows]

    def _tensor(self, form: str, size: int) -> Payload:
        """A tensor of `size` bytes; as JSON its text is about twice that."""
        array = np.random.default_rng(7).random(size // 4, dtype=np.float32).round(4)
        blob, shape = array.tobytes(), [1, array.size]
        if form == "json":
            values = [float(f"{value:.4f}") for value in array.tolist()]
            return Payload([v2_json(values, shape, "FP32")], blob=blob)
        head = json.dumps(
            {
                "inputs": [
                    {
                        "name": "input-0",
                        "shape": shape,
                        "datatype": "FP32",
                        "parameters": {"binary_data_size": size},
                    }
                ],
                "parameters": {"binary_data_output": True},
            }
        ).encode()
        path = self._folder / f"binary-{size}.bin"
        path.write_bytes(head + blob)
        headers = {
            "content-type": "application/octet-stream",
            "inference-header-content-length": str(len(head)),
        }
        entry = {"file": str(path), "headers": headers}
        grpc = grpc_body("identity", array.reshape(1, -1), "FP32")
        return Payload([entry], grpc, blob)


def v2_json(
    data: list[Any], shape: list[int], datatype: str, name: str = "input-0", **more: Any
) -> str:
    tensor = {"name": name, "shape": shape, "datatype": datatype, "data": data}
    return json.dumps({"inputs": [tensor], **more})


def grpc_body(model: str, array: Array, datatype: str) -> bytes:
    """A unary ModelInfer call: one message in gRPC's five-byte frame."""
    wire = messages.ModelInferRequest(model_name=model)
    tensor = messages.ModelInferRequest.InferInputTensor(
        name="input-0", datatype=datatype, shape=list(array.shape)
    )
    wire.inputs.append(tensor)
    wire.raw_input_contents.append(array.tobytes())
    body = wire.SerializeToString()
    return struct.pack(">BI", 0, len(body)) + body


def spoil(bodies: Sequence[str]) -> list[Any]:
    """One body in a hundred is wrong, in four ways by turns."""
    wrong = (
        '{"inputs": [{"name": "input-0", "shape": [2, 4',
        v2_json([[1.0, 2.0], [3.0, 4.0]], [2, 4], "FP64"),
        v2_json([["a", "b", "c", "d"]], [1, 4], "FP64"),
        '{"inputs": [{"name": "input-0", "shape": [2, 4], "datatype": "FP64"}]}',
    )
    spoiled: list[Any] = list(bodies)
    for turn, index in enumerate(range(50, len(spoiled), 100)):
        spoiled[index] = {"body": wrong[turn % len(wrong)], "status": 0}
    return spoiled


# -- training ------------------------------------------------------------------------------------


def _sklearn(folder: Path, rows: Array) -> Any:
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.svm import SVC

    data = load_iris()
    model = SVC(gamma="scale").fit(data.data, data.target)
    joblib.dump(model, folder / "model.joblib")
    return model.predict(rows)


def _xgboost(folder: Path, rows: Array) -> Any:
    import xgboost
    from sklearn.datasets import load_iris

    data = load_iris()
    model = xgboost.XGBRegressor(n_estimators=50, max_depth=3, n_jobs=1)
    model.fit(data.data, data.target)
    model.get_booster().save_model(folder / "model.ubj")
    (folder / "model.ubj").rename(folder / "model.bst")
    return model.predict(rows)


def _lightgbm(folder: Path, rows: Array) -> Any:
    import lightgbm
    from sklearn.datasets import load_iris

    data = load_iris()
    train = lightgbm.Dataset(data.data, data.target)
    settings = {"objective": "regression", "verbosity": -1, "num_threads": 1}
    model = lightgbm.train(settings, train, num_boost_round=50)
    model.save_model(folder / "model.bst")
    return model.predict(rows)


def _onnx(folder: Path, rows: Array) -> Any:
    import onnxruntime
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    data = load_iris()
    model = LogisticRegression(max_iter=1000).fit(data.data, data.target)
    kinds = [("input", FloatTensorType([None, 4]))]
    options = {LogisticRegression: {"zipmap": False}}
    graph = convert_sklearn(model, initial_types=kinds, options=options)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    return session.run(["label"], {"input": rows.astype(np.float32)})[0]


TRAINERS: dict[str, Callable[[Path, Array], Any]] = {
    "sklearn": _sklearn,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "onnx": _onnx,
}


def trainable(framework: str) -> bool:
    """What trains it is installed."""
    needed = {"onnx": ("skl2onnx", "onnxruntime"), "sklearn": ("sklearn",), "identity": ()}
    return all(
        importlib.util.find_spec(module) is not None
        for module in needed.get(framework, (framework, "sklearn"))
    )
