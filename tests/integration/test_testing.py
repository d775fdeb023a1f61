"""`kedge.testing`: what the how-to says of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kedge.protocol.errors import InvalidInput
from kedge.server import Model
from kedge.server.model import Headers
from kedge.testing import EchoModel, Refused, serve


class Sum(Model):
    def predict(self, payload: Any, headers: Headers) -> Any:
        return {"predictions": [sum(row) for row in payload["instances"]]}


async def test_models_are_asked_by_name() -> None:
    async with serve(Sum("sum"), EchoModel("echo")) as served:
        assert await served.predict({"instances": [[1, 2]]}) == {"predictions": [3]}
        assert await served.predict({"instances": [1]}, model="echo") == {"predictions": [1]}
        assert await served.json("GET", "/v1/models") == {"models": ["sum", "echo"]}


@pytest.mark.parametrize("transport", ["rest", "grpc"])
async def test_an_echo_keeps_what_it_saw(transport: Any) -> None:
    echo = EchoModel("m")
    async with serve(echo) as served:
        answer = await served.infer({"x": np.arange(3)}, transport=transport, x_tag="a")
        echo.fail = InvalidInput("no")
        with pytest.raises(Refused, match="no") as caught:
            await served.infer({"x": np.arange(3)}, transport=transport)
    assert answer.output("x").array.tolist() == [0, 1, 2]
    assert echo.requests[0][1]["x-tag"] == "a"
    assert caught.value.status == (400 if transport == "rest" else 3)
