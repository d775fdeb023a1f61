"""One HTTP connection: order, limits, and what is refused, on a recorded transport."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import orjson
import pytest
from tests.unit.server.models import Doubler, Echo
from tests.unit.server.transport import Recorder

from kedge.server.http.connection import Connection
from kedge.server.limits import Limits
from kedge.server.server import ModelServer

LIMITS = Limits(json_bytes=1000, binary_bytes=2000, head_bytes=4096)


class Wire:
    """A connection to a server that holds `fast` (inline) and `slow` (a coroutine)."""

    def __init__(self, server: ModelServer) -> None:
        self.server = server
        self.transport = Recorder()
        self.connection = Connection(server._shared, asyncio.get_running_loop())
        self.connection.connection_made(self.transport)

    def send(self, raw: bytes) -> bytes:
        self.connection.data_received(raw)
        return self.transport.take()

    async def settle(self) -> bytes:
        while self.connection.tasks:
            await asyncio.wait(list(self.connection.tasks))
        return self.transport.take()


@pytest.fixture
async def wire() -> Wire:
    server = ModelServer(limits=LIMITS, latency_log=False)
    server._shared.tick(0.0, b"now")
    await server.repository.start(Doubler("fast"))
    await server.repository.start(Echo("slow"))
    return Wire(server)


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def predict(model: str, value: int = 1, *headers: str) -> bytes:
    return post(f"/v1/models/{model}:predict", b'{"instances":[[%d,0]]}' % value, *headers)


def answers(raw: bytes) -> list[tuple[int, Any]]:
    """Status and JSON of every answer in `raw`."""
    found = []
    while raw:
        head, _, rest = raw.partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length")
        )
        found.append((int(head[9:12]), orjson.loads(rest[:length])))
        raw = rest[length:]
    return found


async def test_a_prediction(wire: Wire) -> None:
    assert answers(wire.send(predict("fast", 4))) == [(200, {"predictions": [[8, 0]]})]
    assert not wire.connection.busy


async def test_the_request_s_id_comes_back(wire: Wire) -> None:
    assert b"x-request-id: abc\r\n" in wire.send(predict("fast", 1, "X-Request-Id: abc"))


async def test_bytes_may_come_one_by_one(wire: Wire) -> None:
    written = b"".join(wire.send(bytes([byte])) for byte in predict("fast", 4))
    assert answers(written) == [(200, {"predictions": [[8, 0]]})]


async def test_pipelined_answers_keep_their_order(wire: Wire) -> None:
    requests = [predict("fast", 1), predict("slow", 2), predict("fast", 3), predict("slow", 4)]
    written = wire.send(b"".join(requests)) + await wire.settle()
    assert [body["predictions"][0][0] for _, body in answers(written)] == [2, 2, 6, 4]
    assert wire.transport.reading


async def test_a_thousand_pipelined_requests_behind_a_slow_one(wire: Wire) -> None:
    written = wire.send(predict("slow") + predict("fast") * 1000) + await wire.settle()
    assert len(answers(written)) == 1001


async def test_asgi_and_predictions_share_the_order(wire: Wire) -> None:
    get = b"GET /v1/models/fast HTTP/1.1\r\nHost: x\r\n\r\n"
    written = wire.send(get + predict("fast", 1) + get) + await wire.settle()
    assert [body for _, body in answers(written)] == [
        {"name": "fast", "ready": True},
        {"predictions": [[2, 0]]},
        {"name": "fast", "ready": True},
    ]


async def test_close_is_honoured(wire: Wire) -> None:
    assert b"connection: close\r\n" in wire.send(predict("fast", 1, "Connection: close"))
    assert wire.transport.closed


async def test_draining_asks_for_a_new_connection(wire: Wire) -> None:
    wire.server._shared.draining = True
    assert b"connection: close\r\n" in wire.send(predict("fast"))
    assert wire.transport.closed


async def test_a_half_closed_client_still_gets_its_answer(wire: Wire) -> None:
    wire.send(predict("slow"))
    assert wire.connection.eof_received() is True
    assert wire.transport.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answers(await wire.settle())[0][0] == 200
    assert wire.transport.closed


@pytest.mark.parametrize(
    ("raw", "status", "message"),
    [
        (b"nonsense\r\n\r\n", 400, "Invalid HTTP request received"),
        (post("/v1/models/fast:predict", b"x" * 1001), 413, "has 1001 bytes"),
        (
            b"POST /v1/models/fast:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3e9\r\n" + b"x" * 1001,
            413,
            "goes on",
        ),
        (post("/v1/models/fast:explain", b"x" * 1001), 413, "goes on"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 5000, 431, "larger than 4 KiB"),
        (b"GET /" + b"y" * 5000, 431, "larger than 4 KiB"),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            400,
            "Invalid HTTP request received",
        ),
    ],
)
async def test_what_is_refused_ends_the_connection(
    wire: Wire, raw: bytes, status: int, message: str
) -> None:
    ((found, body),) = answers(wire.send(raw))
    assert found == status
    assert message in body["error"]
    assert wire.send(predict("fast")) == b""


@pytest.mark.parametrize("raw", [b"nonsense\r\n\r\n", post("/v1/models/fast:predict", b"x" * 1001)])
async def test_a_refusal_is_not_taken_for_an_earlier_answer(wire: Wire, raw: bytes) -> None:
    written = wire.send(predict("slow", 2) + raw) + await wire.settle()
    assert answers(written) == [(200, {"predictions": [[2, 0]], "agent": ""})]
    assert b"connection: close" in written
    assert wire.transport.closed


async def test_binary_bodies_may_be_larger(wire: Wire) -> None:
    path = "/v2/models/fast/infer"
    big = post(path, b"x" * 1500, "Inference-Header-Content-Length: 2")
    assert answers(wire.send(big))[0][0] == 400
    big = post(path, b"x" * 2001, "Inference-Header-Content-Length: 2")
    ((status, body),) = answers(wire.send(big))
    assert status == 413
    assert "binary form" in body["error"]


async def test_continue_is_said_before_a_large_body(wire: Wire) -> None:
    raw = predict("fast", 1, "Expect: 100-continue")
    head, _, body = raw.partition(b"\r\n\r\n")
    assert wire.send(head + b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answers(wire.send(body))[0][0] == 200


async def test_compressed_bodies(wire: Wire) -> None:
    path = "/v1/models/fast:predict"
    body = gzip.compress(b'{"instances":[[1,0]]}')
    assert answers(wire.send(post(path, body, "Content-Encoding: gzip")))[0][0] == 200
    bomb = gzip.compress(b"x" * 100_000)
    assert answers(wire.send(post(path, bomb, "Content-Encoding: gzip")))[0][0] == 413
    for raw, kind in ((b"junk", "gzip"), (body[:-9], "gzip"), (body, "br")):
        ((status, _),) = answers(wire.send(post(path, raw, f"Content-Encoding: {kind}")))
        assert status == 400


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/models/no:predict", b"{}", 404, "Model with name no does not exist."),
        ("/v2/models/no/infer", b"{}", 404, "Model with name no does not exist."),
        ("/v2/models/fast/versions/3/infer", b"{}", 404, "has no version 3"),
        ("/v1/models/fast:predict", b"{", 400, "Unrecognized request format"),
        ("/v1/models/fast:predict", b"", 400, "Unrecognized request format"),
        ("/v1/models/fast:predict", b"{}", 400, 'neither "instances" nor "inputs"'),
        ("/v2/models/fast/infer", b"{}", 400, "missing required field `inputs`"),
        ("/v2/models/f%61st/infer", b"{}", 400, "missing required field `inputs`"),
    ],
)
async def test_bad_requests_keep_the_connection(
    wire: Wire, path: str, body: bytes, status: int, message: str
) -> None:
    ((found, answer),) = answers(wire.send(post(path, body)))
    assert found == status
    assert message in answer["error"]
    assert answers(wire.send(predict("fast")))[0][0] == 200


async def test_a_bad_length_header_is_named(wire: Wire) -> None:
    raw = post("/v2/models/fast/infer", b"{}", "Inference-Header-Content-Length: two")
    ((status, body),) = answers(wire.send(raw))
    assert status == 400
    assert "'two'" in body["error"]


async def test_a_client_that_does_not_read_is_not_read_from(wire: Wire) -> None:
    wire.connection.pause_writing()
    assert not wire.transport.reading
    wire.send(predict("fast"))
    assert not wire.transport.reading
    wire.connection.resume_writing()
    assert wire.transport.reading


async def test_idle_connections_are_closed_and_busy_ones_not(wire: Wire) -> None:
    wire.send(predict("fast")[:20])
    wire.server._shared.tick(1000.0, b"now")
    assert not wire.transport.closed
    wire.send(predict("fast")[20:])
    wire.server._shared.tick(1000.0 + LIMITS.keep_alive_seconds, b"now")
    assert not wire.transport.closed
    wire.server._shared.tick(1001.0 + LIMITS.keep_alive_seconds, b"now")
    assert wire.transport.closed


async def test_a_slow_head_and_a_silent_body_run_out_of_time(wire: Wire) -> None:
    wire.send(b"GET / HT")
    wire.connection._too_slow()
    assert answers(wire.transport.take())[0][0] == 408
    assert wire.connection._timer is None


@pytest.mark.parametrize(
    ("accepts", "takes"),
    [("gzip, deflate", True), ("br;q=1, GZIP; q=0.5", True), ("gzip;q=0", False), ("br", False)],
)
async def test_large_answers_are_compressed_for_who_asks(
    wire: Wire, accepts: str, takes: bool
) -> None:
    many = b'{"instances":[%b]}' % b",".join([b"[1,0]"] * 150)
    wire.connection._limits = Limits()
    wire.server._shared.inference._limits = Limits()
    path, asks = "/v1/models/fast:predict", f"Accept-Encoding: {accepts}"
    assert b"content-encoding" not in wire.send(post(path, many, asks))
    many = b'{"instances":[%b]}' % b",".join([b"[1,0]"] * 5000)
    raw = wire.send(post(path, many, asks)) + await wire.settle()
    head, _, body = raw.partition(b"\r\n\r\n")
    assert (b"content-encoding: gzip\r\nvary: accept-encoding" in head) is takes
    told = orjson.loads(gzip.decompress(body) if takes else body)
    assert len(told["predictions"]) == 5000
    assert answers(wire.send(predict("fast")))[0][0] == 200


async def test_expect_continue_of_what_is_refused_gets_no_continue(wire: Wire) -> None:
    raw = post("/v1/models/fast:predict", b"x" * 1001, "Expect: 100-continue")
    ((status, _),) = answers(wire.send(raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"))
    assert status == 413


async def test_chunks_may_be_cut_anywhere_and_have_trailers(wire: Wire) -> None:
    head = b"POST /v1/models/fast:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    raw = head + b'5;a=b\r\n{"ins\r\n13\r\ntances":[[4,0]]}   \r\n0\r\nX: y\r\n\r\n'
    written = b"".join(wire.send(bytes([byte])) for byte in raw * 2)
    assert answers(written) == [(200, {"predictions": [[8, 0]]})] * 2


async def test_http_1_0_closes(wire: Wire) -> None:
    raw = predict("fast", 4).replace(b"HTTP/1.1", b"HTTP/1.0")
    assert answers(wire.send(raw))[0] == (200, {"predictions": [[8, 0]]})
    assert wire.transport.closed
