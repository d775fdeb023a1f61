"""KServe's own server around one model.

KServe's sklearnserver and its siblings are not on PyPI; this is what they do, with the public
parts of the package that is: `kserve.Model`, `kserve.ModelServer` and its codecs.
"""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kserve
from kserve import model_server
from kserve.utils.utils import get_predict_input, get_predict_response


def load(framework: str, folder: Path) -> Callable[[Any], Any]:
    if framework == "sklearn":
        import joblib

        return joblib.load(folder / "model.joblib").predict  # type: ignore[no-any-return]
    if framework == "xgboost":
        import xgboost

        booster = xgboost.Booster(params={"nthread": 1}, model_file=str(folder / "model.bst"))
        return lambda rows: booster.predict(xgboost.DMatrix(rows, nthread=1))
    if framework == "lightgbm":
        import lightgbm

        trees = lightgbm.Booster(params={"nthread": 1}, model_file=str(folder / "model.bst"))
        return lambda rows: trees.predict(rows)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    name, output = session.get_inputs()[0].name, session.get_outputs()[0].name
    return lambda rows: session.run([output], {name: rows.astype("float32")})[0]


class Served(kserve.Model):  # type: ignore[misc]  # kserve has no types
    """A framework's model, asked with the rows of the request."""

    def __init__(self, name: str, framework: str, folder: Path) -> None:
        super().__init__(name)
        self._source = framework, folder

    def load(self) -> bool:
        self._predict = load(*self._source)
        self.ready = True
        return self.ready

    def predict(self, payload: Any, headers: dict[str, str] | None = None) -> Any:
        labels = self._predict(get_predict_input(payload))
        if self._source[0] != "onnx":
            return get_predict_response(payload, labels, self.name)
        output = kserve.InferOutput("label", list(labels.shape), "INT64")
        output.set_data_from_numpy(labels, binary_data=False)
        return kserve.InferResponse(payload.id or str(uuid.uuid4()), self.name, [output])


class Identity(kserve.Model):  # type: ignore[misc]  # kserve has no types
    """Answers the array it is asked with, in the form it came in."""

    def load(self) -> bool:
        self.ready = True
        return self.ready

    def predict(self, payload: Any, headers: dict[str, str] | None = None) -> Any:
        tensor = payload.inputs[0]
        output = kserve.InferOutput("output-0", list(tensor.shape), tensor.datatype)
        asked = bool(payload.use_binary_outputs)
        output.set_data_from_numpy(tensor.as_numpy(), binary_data=asked or payload.from_grpc)
        return kserve.InferResponse(
            payload.id or str(uuid.uuid4()), self.name, [output], use_binary_outputs=asked
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[model_server.parser])
    parser.add_argument("--framework", default="sklearn")
    parser.add_argument("--model_dir", default="")
    asked, _ = parser.parse_known_args()
    model: kserve.Model = (
        Identity(asked.model_name)
        if asked.framework == "identity"
        else Served(asked.model_name, asked.framework, Path(asked.model_dir))
    )
    model.load()
    kserve.ModelServer().start([model])
