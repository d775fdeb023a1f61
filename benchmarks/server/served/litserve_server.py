"""LitServe around the iris model: one worker process, batches of 64.

It has no Open Inference of its own; the API reads and writes the bodies that the others do.
LitServe looks at the annotation of `request`: `Request` itself, not its name, means JSON.
"""

import os
from typing import Any

import joblib
import litserve
import numpy as np
from fastapi import Request


class Iris(litserve.LitAPI):  # type: ignore[misc]  # litserve's types are partial
    def setup(self, device: str) -> None:
        self._model = joblib.load(os.environ["MODEL"])

    def decode_request(self, request: Request, **kwargs: Any) -> Any:
        document: Any = request  # LitServe has parsed it.
        return np.array(document["inputs"][0]["data"])

    def batch(self, inputs: list[Any]) -> Any:
        return inputs

    def predict(self, batch: list[Any], **kwargs: Any) -> Any:
        labels = self._model.predict(np.concatenate(batch))
        ends = np.cumsum([len(part) for part in batch])[:-1]
        return np.split(labels, ends)

    def unbatch(self, output: Any) -> Any:
        return output

    def encode_response(self, output: Any, **kwargs: Any) -> Any:
        labels = output.tolist()
        tensor = {"name": "output-0", "datatype": "INT64", "shape": [len(labels)], "data": labels}
        return {"model_name": "iris", "outputs": [tensor]}


if __name__ == "__main__":
    api = Iris(max_batch_size=64, batch_timeout=0.001, api_path="/v2/models/iris/infer")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    port = int(os.environ["PORT"])
    server.run(host="127.0.0.1", port=port, num_api_servers=1, generate_client_file=False)
