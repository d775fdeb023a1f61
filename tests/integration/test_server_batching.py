"""Sixty-four clients over every protocol at once: each gets its own answer, and none another's."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import joblib
import numpy as np
import pytest
from tests.integration import trained
from tests.integration.runtime_process import serving
from tests.integration.server_process import Served

from kedge.protocol.inference import InferRequest
from kedge.protocol.open_inference import grpc as codec
from kedge.protocol.open_inference import messages

CLIENTS = 64
ROUNDS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained.sklearn_classifier(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def served(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving("sklearn", folder, tmp_path_factory.mktemp("log") / "server.log") as one:
        yield one


class Client:
    """Asks for random rows, and compares with what the framework itself says."""

    def __init__(self, number: int, served: Served, model: Any) -> None:
        self._random = random.Random(number)
        self._way = (self._v1, self._v2, self._rpc)[number % 3]
        self._served, self._model = served, model
        self.bad = 0

    async def run(self, session: aiohttp.ClientSession, channel: grpc.aio.Channel) -> int:
        for _ in range(ROUNDS):
            shape = (self._random.randint(1, 5), 4)
            rows = [
                [round(self._random.uniform(0, 8), 1) for _ in range(4)] for _ in range(shape[0])
            ]
            broken = self._random.random() < 0.05
            if broken:
                rows[-1][-1] = float("nan")
            answer = await self._way(session, channel, rows)
            if broken:
                assert answer == "refused"
                self.bad += 1
            else:
                assert answer == self._model.predict(np.array(rows)).tolist()
        return self.bad

    async def _v1(self, session: aiohttp.ClientSession, _: object, rows: Any) -> Any:
        body = json.dumps({"instances": rows}).replace("NaN", "null")
        return await self._post(session, "/v1/models/m:predict", body, "predictions")

    async def _v2(self, session: aiohttp.ClientSession, _: object, rows: Any) -> Any:
        datatype = self._random.choice(["FP64", "FP32"])
        tensor = {"name": "x", "shape": [len(rows), 4], "datatype": datatype, "data": rows}
        body = json.dumps({"inputs": [tensor]}).replace("NaN", "null")
        return await self._post(session, "/v2/models/m/infer", body, "outputs")

    async def _post(self, session: aiohttp.ClientSession, path: str, body: str, key: str) -> Any:
        headers = {"content-type": "application/json"}
        async with session.post(self._served.url + path, data=body, headers=headers) as answer:
            if answer.status == 400:
                return "refused"
            found = (await answer.json())[key]
            return found if key == "predictions" else found[0]["data"]

    async def _rpc(self, _: object, channel: grpc.aio.Channel, rows: Any) -> Any:
        request = InferRequest.from_json("m", {"x": ("FP64", [len(rows), 4], rows)})
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            messages.ModelInferRequest.SerializeToString,
            messages.ModelInferResponse.FromString,
        )
        try:
            answer = await call(codec.encode_request(request), timeout=30)
        except grpc.aio.AioRpcError as error:
            return "refused" if error.code() == grpc.StatusCode.INVALID_ARGUMENT else error
        return codec.decode_response(answer).outputs[0].array.tolist()


def metric(served: Served, name: str) -> float:
    _, _, page = served.request("GET", "/metrics")
    line = next(
        one for one in page.decode().splitlines() if one.startswith(f'{name}{{model_name="m"}}')
    )
    return float(line.rpartition(" ")[2])


async def test_every_answer_is_the_framework_s_own(served: Served, folder: Path) -> None:
    model = joblib.load(folder / "model.joblib")
    clients = [Client(number, served, model) for number in range(CLIENTS)]
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        grpc.aio.insecure_channel(served.grpc) as channel,
    ):
        bad = await asyncio.gather(*(one.run(session, channel) for one in clients))
    assert sum(bad) > 0
    assert metric(served, "model_batch_requests_sum") == CLIENTS * ROUNDS
    assert metric(served, "model_batch_requests_count") < CLIENTS * ROUNDS
    assert metric(served, "model_requests_in_flight") == 0
    assert metric(served, "model_requests_waiting") == 0


SLOW = """
import time

independent_rows = True

def predict(rows):
    time.sleep(0.2)
    return {"y": rows * 2}

inputs = [("x", "FP64", [-1, 2])]
outputs = [("y", "FP64", [-1, 2])]
"""


@pytest.mark.parametrize(
    ("flags", "statuses"),
    [
        (["--max_queue=3", "--batching=false"], {200: 4, 503: 6}),
        (["--request_timeout=0.05"], {504: 10}),
        ([], {200: 10}),
    ],
)
async def test_limits_over_http(tmp_path: Path, flags: list[str], statuses: dict[int, int]) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.py").write_text(SLOW)
    runtime = ["python", tmp_path / "model", tmp_path / "log"]
    with serving(*runtime, *flags) as served:  # type: ignore[arg-type]  # unpacked
        url = served.url + "/v1/models/m:predict"
        seen: dict[int, int] = {}
        async with aiohttp.ClientSession() as session:

            async def ask(number: int) -> None:
                async with session.post(url, json={"instances": [[number, 1.5]]}) as answer:
                    seen[answer.status] = seen.get(answer.status, 0) + 1
                    if answer.status == 503:
                        assert answer.headers["retry-after"] == "1"
                    if answer.status == 200:
                        assert await answer.json() == {"predictions": [[2.0 * number, 3.0]]}

            first = asyncio.create_task(ask(0))
            for _ in range(1000):
                if metric(served, "model_requests_in_flight"):
                    break
                await asyncio.sleep(0.01)
            await asyncio.gather(first, *(ask(number) for number in range(1, 10)))
        assert seen == statuses
        assert metric(served, "model_requests_in_flight") == 0
