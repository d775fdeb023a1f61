"""Models of the tests: small, and each wrong in one way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np

from kedge.protocol.datatypes import Array
from kedge.protocol.inference import InferRequest, InferResponse, ModelMetadata, TensorMetadata
from kedge.protocol.v1 import Columns, Rows
from kedge.server.model import ArrayModel, Headers, Model


class Doubler(ArrayModel):
    """Twice what it is given."""

    def metadata(self) -> ModelMetadata:
        both = (TensorMetadata("input-0", "FP64", (-1, 2)),)
        return ModelMetadata(self.name, "test", inputs=both, outputs=both)

    def warm_up(self) -> Any:
        return {"instances": [[0, 0]]}

    def output_names(self) -> tuple[str, ...]:
        return ("output-0", "again")

    def compute(self, rows: Rows, outputs: tuple[str, ...]) -> Mapping[str, Array]:
        if isinstance(rows, Columns):
            rows = np.array(list(rows.values.values())).T
        return {name: np.asarray(rows) * 2 for name in outputs}


class Echo(Model):
    """What it is given, by coroutines; with the headers it saw, when asked."""

    async def predict(self, payload: Any, headers: Headers) -> Any:
        if isinstance(payload, InferRequest):
            return InferResponse(self.name, payload.inputs)
        return {"predictions": payload["instances"], "agent": headers.get("user-agent", "")}

    async def explain(self, payload: Any, headers: Headers) -> Any:
        return {"explanations": payload["instances"]}


class Hanging(Model):
    """Never answers."""

    async def predict(self, payload: Any, headers: Headers) -> Any:
        await asyncio.Event().wait()


class Steps(Model):
    """Marks the way through its steps."""

    def preprocess(self, payload: Any, headers: Headers) -> Any:
        return [*payload["instances"], "pre"]

    def predict(self, payload: Any, headers: Headers) -> Any:
        return [*payload, "predict"]

    async def postprocess(self, result: Any, headers: Headers) -> Any:
        return {"predictions": [*result, "post"]}


class Broken(Model):
    def predict(self, payload: Any, headers: Headers) -> Any:
        raise ValueError("the secret is 42")


class BrokenArrays(Doubler):
    def warm_up(self) -> Any:
        return None

    def compute(self, rows: Rows, outputs: tuple[str, ...]) -> Mapping[str, Array]:
        raise ValueError("the secret is 42")


class WrongAnswer(Model):
    def predict(self, payload: Any, headers: Headers) -> Any:
        return object()
