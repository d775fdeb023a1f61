"""Dataframe requests as MLServer documents them, over every transport, by column name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.trained import sklearn_frame

from kedge.protocol.inference import InferRequest, InferResponse, Tensor
from kedge.runtimes import sklearn
from kedge.server import Model
from kedge.server.model import Headers
from kedge.server.options import parse
from kedge.testing import Refused, serve

pytest.importorskip("sklearn")

TOWN = {"name": "town", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}
ROOMS = {"name": "rooms", "datatype": "FP64", "shape": [2, 1], "data": [[1], [2]]}
TEXT = {"parameters": {"content_type": "str"}}


class Doubling(Model):
    """Twice the numbers of a dataframe, and its texts as they are."""

    def predict(self, payload: Any, headers: Headers) -> Any:
        return InferResponse.from_dataframe(self.name, payload.as_dataframe() * 2)


@pytest.mark.parametrize(
    "body",
    [
        {"parameters": {"content_type": "pd"}, "inputs": [TOWN | TEXT, ROOMS]},
        {"parameters": {"content_type": "pd"}, "inputs": [ROOMS, TOWN]},
        {"inputs": [TOWN, ROOMS]},
    ],
)
async def test_columns_go_by_their_names(tmp_path: Path, body: dict[str, Any]) -> None:
    model = sklearn.make("m", sklearn_frame(tmp_path), parse(["sklearn"]))
    async with serve(model) as one:
        told = await one.json("POST", "/v2/models/m/infer", body)
        assert np.allclose(told["outputs"][0]["data"], [1, 3], atol=0.5)
        rooms, town = np.array([[1.0], [2.0]]), np.array(["a", "b"], dtype=object)
        inputs = {"rooms": rooms, "town": town}
        for transport in ("rest", "grpc"):
            same = await one.infer(inputs, transport=transport)
            assert np.allclose(same.outputs[0].array, told["outputs"][0]["data"])


async def test_what_is_wrong_with_a_column_is_named(tmp_path: Path) -> None:
    model = sklearn.make("m", sklearn_frame(tmp_path), parse(["sklearn"]))
    frame = {"content_type": "pd"}
    async with serve(model) as one:
        for inputs, told in (
            ([TOWN], "lacks: rooms"),
            ([TOWN, ROOMS | {"shape": [1], "data": [1]}], "Input 'rooms' has 1 elements"),
            ([TOWN, ROOMS, ROOMS], "Two inputs have the same name"),
            ([ROOMS, TOWN | {"parameters": {"content_type": "datetime"}}], "content type datetime"),
        ):
            with pytest.raises(Refused) as refused:
                await one.json(
                    "POST", "/v2/models/m/infer", {"parameters": frame, "inputs": inputs}
                )
            assert refused.value.status == 400
            assert told in refused.value.body["error"]


async def test_a_model_of_ones_own_answers_with_a_dataframe() -> None:
    pytest.importorskip("pandas")
    async with serve(Doubling("m")) as one:
        told = await one.json("POST", "/v2/models/m/infer", {"inputs": [TOWN, ROOMS]})
        assert told["parameters"] == {"content_type": "pd"}
        town, rooms = told["outputs"]
        assert town["data"] == ["aa", "bb"] and town["parameters"] == {"content_type": "str"}
        assert rooms["data"] == [2, 4] and rooms["shape"] == [2]
        made = InferRequest("m", [Tensor.from_values("town", ["c"])])
        assert made.inputs[0].parameters == {"content_type": "str"}
