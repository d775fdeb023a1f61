"""The iris model in Triton's Python backend: one instance, batches joined by Triton.

The backend's stub does not read PYTHONPATH: the packages of the environment are added here.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

sys.path.insert(0, os.environ["PACKAGES"])

import joblib
import numpy as np
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, arguments: dict[str, str]) -> None:
        parameters = json.loads(arguments["model_config"])["parameters"]
        self._model = joblib.load(parameters["model"]["string_value"])

    def execute(self, requests: list[Any]) -> list[Any]:
        rows = [triton.get_input_tensor_by_name(one, "input-0").as_numpy() for one in requests]
        labels = self._model.predict(np.concatenate(rows)).reshape(-1, 1)
        parts = np.split(labels, np.cumsum([len(part) for part in rows])[:-1])
        return [triton.InferenceResponse([triton.Tensor("output-0", part)]) for part in parts]
