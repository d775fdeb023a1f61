"""A transformer: raw measurements in, the names of irises out.

Clients send centimetres as text (`"6.8 x 2.8, 4.8 x 1.4"`); the predictor knows numbers and
classes. What stands before and after the prediction is here; the prediction itself is asked of the
predictor named by `--predictor_host`::

    python transformer.py --model_name iris --predictor_host localhost:8080 --http_port 8090

The script is written as for KServe's Python server: only the import differs.
"""

from __future__ import annotations

import argparse
import re
from typing import Any

from kedge.server.kserve import InvalidInput, Model, ModelServer, logging, model_server

NAMES = ("setosa", "versicolor", "virginica")


class IrisTransformer(Model):
    """Reads measurements, and names the classes."""

    def __init__(self, name: str, unit: float) -> None:
        super().__init__(name)
        self.unit = unit
        self.ready = True

    def preprocess(self, payload: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        return {"instances": [self._row(text) for text in payload["instances"]]}

    def _row(self, text: str) -> list[float]:
        numbers = [float(one) * self.unit for one in re.findall(r"\d+(?:\.\d+)?", text)]
        if len(numbers) != 4:
            raise InvalidInput(f"{text!r} has {len(numbers)} measurements, and an iris has four.")
        return numbers

    def postprocess(self, result: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        return {"predictions": [NAMES[label] for label in result["predictions"]]}


parser = argparse.ArgumentParser(parents=[model_server.parser])
parser.add_argument("--unit", type=float, default=1.0, help="centimetres in one unit of the input")

if __name__ == "__main__":
    args, _ = parser.parse_known_args()
    if args.configure_logging:
        logging.configure_logging(args.log_config_file)
    ModelServer().start([IrisTransformer(args.model_name, args.unit)])
