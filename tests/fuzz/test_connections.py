"""Whatever bytes a connection gets, it answers or ends, and nothing of the server's own fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import hpack
import numpy as np
import pytest
from tests.fuzz.mutating import SEED, mutations
from tests.unit.server.models import Echo
from tests.unit.server.transport import Recorder

from kedge.protocol.datatypes import Array
from kedge.protocol.inference import InferRequest
from kedge.protocol.open_inference import grpc as codec
from kedge.protocol.v1 import Rows
from kedge.server.grpc import frames
from kedge.server.grpc.connection import GrpcConnection
from kedge.server.grpc.service import GrpcServer
from kedge.server.http.connection import Connection
from kedge.server.limits import Limits
from kedge.server.model import ArrayModel, Headers, Model, row_count
from kedge.server.server import ModelServer

LIMITS = Limits(json_bytes=5000, binary_bytes=5000, head_bytes=4096)
SERVICE = "/inference.GRPCInferenceService/"


class Counting(ArrayModel):
    """Takes whatever rows there are."""

    def compute(self, rows: Rows, outputs: tuple[str, ...]) -> Mapping[str, Array]:
        return {name: np.arange(row_count(rows)) for name in outputs}


class Patient(Echo):
    """Answers V1 whatever it is asked."""

    async def predict(self, payload: Any, headers: Headers) -> Any:
        if isinstance(payload, InferRequest):
            return await super().predict(payload, headers)
        return {"predictions": str(type(payload))}

    async def explain(self, payload: Any, headers: Headers) -> Any:
        return {"explanations": str(type(payload))}


class Streaming(Model):
    async def predict(self, payload: Any, headers: Headers) -> AsyncIterator[Any]:
        yield payload
        yield payload


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    one = ModelServer(limits=LIMITS, latency_log=False)
    one._shared.tick(0.0, b"now")
    for model in (Counting("m"), Patient("e")):
        await one.repository.start(model)
    yield one
    await one.dataplane.side.close()
    for entry in one.repository.entries():
        entry.stop()


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


V2 = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'
HTTP = [
    post("/v1/models/m:predict", b'{"instances":[[1,0]]}') * 2,
    post("/v2/models/m/infer", V2, "x-request-id: a", "content-type: application/json"),
    post("/v2/models/e/versions/1/infer", V2),
    post("/v2/models/e/infer", V2 + b"12345678", f"Inference-Header-Content-Length: {len(V2)}"),
    post("/v1/models/e:explain", b'{"instances":[1]}', "ce-specversion: 1.0", "ce-id: 1"),
    post("/v2/models/e/infer_stream", V2, "Expect: 100-continue"),
    post("/v2/models/e/generate", b'{"text_input":"x"}', "Connection: close"),
    b"GET /v2/models/m HTTP/1.1\r\nHost: x\r\n\r\nGET /metrics HTTP/1.0\r\n\r\n",
    b"POST /v2/repository/index HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
]
HTTP_WORDS = [
    b"\r\n\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n", b":predict",
    b"Content-Length: 5\r\n", b"Expect: 100-continue\r\n", b" HTTP/1.1\r\n", b"%00", b"/../",
]  # fmt: skip


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]


@pytest.mark.timeout(600)
async def test_http(server: ModelServer, caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    for number, raw in enumerate(mutations(HTTP, HTTP_WORDS)):
        connection, transport = Connection(server._shared, loop), Recorder()
        connection.connection_made(transport)
        cut = number * 7 % (len(raw) + 1)
        for piece in (raw[:cut], raw[cut:]):
            if not transport.closed:
                connection.data_received(piece)
                await asyncio.sleep(0)
        if number % 3 == 0 and not transport.closed:
            connection.eof_received()
        elif number % 3 == 1 and connection.tasks:
            await asyncio.wait(list(connection.tasks), timeout=0.005)  # Some wait for the client.
        connection.connection_lost(None)
        await asyncio.sleep(0)
        assert not complaints(caplog), f"seed {SEED}: {raw!r}"
    assert all(entry.metrics.in_flight == 0 for entry in server.repository.entries())


def calls() -> bytes:
    """A connection's first words, and calls."""
    encoder = hpack.Encoder()
    request = InferRequest.from_json("m", {"x": ("FP32", [1, 2], [1, 2])})
    message = codec.encode_request(request).SerializeToString()
    body = b"\0" + len(message).to_bytes(4, "big") + message
    said = [frames.PREFACE, frames.settings({frames.INITIAL_WINDOW_SIZE: 70_000})]
    for index, path in enumerate(
        ("ModelInfer", "ModelStreamInfer", "ServerLive", "RepositoryIndex")
    ):
        stream = 2 * index + 1
        fields = [
            (":method", "POST"), (":path", SERVICE + path), ("content-type", "application/grpc"),
            ("grpc-timeout", "1S"), ("grpc-encoding", "gzip"),
        ]  # fmt: skip
        block = encoder.encode(fields)
        said += [
            frames.frame(frames.HEADERS, frames.END_HEADERS, stream, block),
            frames.frame(frames.DATA, frames.END_STREAM, stream, body),
        ]
    said += [
        frames.frame(frames.PING, 0, 0, b"12345678"),
        frames.window_update(0, 1000),
        frames.rst_stream(3, frames.ErrorCode.CANCEL),
        frames.goaway(0, frames.ErrorCode.NO_ERROR),
    ]
    return b"".join(said)


@pytest.mark.timeout(600)
async def test_grpc(server: ModelServer, caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    grpc = GrpcServer(server.dataplane, LIMITS)
    start = len(frames.PREFACE)
    for number, raw in enumerate(mutations([calls()[start:]], [frames.settings({4: 0})])):
        connection, transport = GrpcConnection(grpc, LIMITS, loop), Recorder()
        connection.connection_made(transport)
        connection.data_received(frames.PREFACE)
        cut = number * 7 % (len(raw) + 1)
        for piece in (raw[:cut], raw[cut:]):
            if not transport.closed:
                connection.data_received(piece)
                await asyncio.sleep(0)
        if number % 2:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        connection.connection_lost(None)
        await asyncio.sleep(0)
        assert not complaints(caplog), f"seed {SEED}: {raw!r}"
    for _ in range(10):
        await asyncio.sleep(0)
    assert not grpc.connections
    assert all(entry.metrics.in_flight == 0 for entry in server.repository.entries())
