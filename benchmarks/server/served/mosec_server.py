"""mosec around the iris model: its web server in Rust, one worker process, batches of 64.

It has no Open Inference of its own; the worker reads and writes the bodies that the others do.
"""

from __future__ import annotations

import json
import os
from typing import Any

import joblib
import numpy as np
from mosec import Runtime, Server, Worker


class Iris(Worker):  # type: ignore[misc]  # mosec's types are partial
    def __init__(self) -> None:
        super().__init__()
        self._model = joblib.load(os.environ["MODEL"])

    def deserialize(self, data: bytes) -> Any:
        return json.loads(data)

    def serialize(self, data: Any) -> bytes:
        return json.dumps(data).encode()

    def forward(self, data: list[Any]) -> list[Any]:
        rows = [np.array(one["inputs"][0]["data"]) for one in data]
        labels = self._model.predict(np.concatenate(rows)).tolist()
        answers, at = [], 0
        for part in rows:
            own = labels[at : at + len(part)]
            at += len(part)
            output = {"name": "output-0", "datatype": "INT64", "shape": [len(own)], "data": own}
            answers.append({"model_name": "iris", "outputs": [output]})
        return answers


if __name__ == "__main__":
    server = Server()
    worker = Runtime(Iris, num=1, max_batch_size=64, max_wait_time=1)
    server.register_runtime({"/v2/models/iris/infer": [worker]})
    server.run()
