"""The shape of KServe's batcher, where it is asked for."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from tests.unit.server.models import BrokenArrays, Doubler, Echo
from tests.unit.server.test_http_connection import Wire, post, predict

from kedge.server.server import ModelServer


@pytest.fixture
async def wire() -> Wire:
    server = ModelServer(latency_log=False, batcher_response=True)
    server._shared.tick(0.0, b"now")
    await server.repository.start(Doubler("fast"))
    await server.repository.start(Echo("slow"))
    await server.repository.start(BrokenArrays("broken"))
    return Wire(server)


async def asked(wire: Wire, raw: bytes) -> tuple[int, bytes]:
    answer = wire.send(raw) or await wire.settle()
    for _ in range(10_000):
        if answer:
            break
        await asyncio.sleep(0.001)
        answer = wire.transport.take()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"x-request-id: " in head
    return int(head.split()[1]), body


@pytest.mark.parametrize("model", ["fast", "slow"])
async def test_an_answer(wire: Wire, model: str) -> None:
    status, body = await asked(wire, predict(model))
    told = orjson.loads(body)
    assert (status, told["message"], len(told["batchId"])) == (200, "", 36)
    assert told["predictions"] == ([[2, 0]] if model == "fast" else [[1, 0]])
    assert list(told) == ["message", "batchId", "predictions"]


@pytest.mark.parametrize("model", ["none", "broken"])
async def test_a_failure_is_a_message(wire: Wire, model: str) -> None:
    status, body = await asked(wire, predict(model))
    told = orjson.loads(body)
    assert (status, told["batchId"], told["predictions"]) == (200, "", None)
    assert model in orjson.loads(told["message"])["error"]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", b"can't Unmarshal body"),
        (b"{}", b"no instances in the request"),
        (b'{"instances":[]}', b"no instances in the request"),
        (b"[1]", b"no instances in the request"),
    ],
)
async def test_what_the_batcher_refuses(wire: Wire, body: bytes, text: bytes) -> None:
    assert await asked(wire, post("/v1/models/fast:predict", body)) == (400, text)


async def test_open_inference_is_as_ever(wire: Wire) -> None:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}
    body: Any = orjson.dumps({"inputs": [tensor]})
    status, answer = await asked(wire, post("/v2/models/fast/infer", body))
    assert (status, orjson.loads(answer)["outputs"][0]["data"]) == (200, [2.0, 4.0])
