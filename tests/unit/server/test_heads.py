"""Heads that have been seen before: read once, and never taken for another."""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.server.models import Doubler
from tests.unit.server.transport import Recorder

from kedge.server.http.connection import Connection
from kedge.server.http.heads import Head, Headers, Heads, Target
from kedge.server.server import ModelServer

BODY = b'{"instances":[[%d,0]]}'
URL = "/v1/models/fast:predict"
TARGET = Target("v1", "fast", "")


def request(value: int, *headers: str) -> bytes:
    body = BODY % value
    lines = [f"POST {URL} HTTP/1.1", "host: x", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Parser:
    """Counts what the parser is told."""

    def __init__(self, parser: httptools.HttpRequestParser) -> None:
        self._parser = parser
        self.fed = 0

    def feed_data(self, data: bytes) -> None:
        self.fed += 1
        self._parser.feed_data(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)


class Wire:
    """A connection to a server that holds `fast`."""

    def __init__(self, server: ModelServer) -> None:
        self.server = server
        self.transport = Recorder()
        self.connection = Connection(server._shared, asyncio.get_running_loop())
        self.connection.connection_made(self.transport)
        self.parser = Parser(self.connection.parser)
        self.connection.parser = self.parser

    def send(self, *pieces: bytes) -> bytes:
        for piece in pieces:
            self.connection.data_received(piece)
        return self.transport.take()


@pytest.fixture
async def wire() -> Wire:
    server = ModelServer(latency_log=False)
    server._shared.tick(0.0, b"now")
    await server.repository.start(Doubler("fast"))
    return Wire(server)


def doubled(raw: bytes) -> list[int]:
    return [
        orjson.loads(part.partition(b"\r\n\r\n")[2])["predictions"][0][0]
        for part in raw.split(b"HTTP/1.1 200 OK")[1:]
    ]


async def test_the_second_request_is_not_parsed(wire: Wire) -> None:
    assert doubled(wire.send(request(1), request(2), request(3))) == [2, 4, 6]
    assert wire.parser.fed == 1
    assert not wire.connection.busy


async def test_ids_of_proxies_come_back_each_to_its_request(wire: Wire) -> None:
    for turn in range(3):
        named = f"x-request-id: 0a-{turn}", f"traceparent: 00-{turn}-1-01"
        assert f"x-request-id: 0a-{turn}\r\n".encode() in wire.send(request(turn, *named))
    assert wire.parser.fed == 1


async def test_requests_in_pieces_together_or_otherwise_framed_are_parsed(wire: Wire) -> None:
    one = request(1)
    wire.send(one)
    assert doubled(wire.send(one[:30], one[30:])) == [2]
    assert doubled(wire.send(one[:-3], one[-3:])) == [2]
    assert doubled(wire.send(one + request(2))) == [2, 4]
    assert doubled(wire.send(b"\r\n" + one)) == [2]
    assert doubled(wire.send(one)) == [2]


async def test_a_model_that_has_gone_is_not_asked(wire: Wire) -> None:
    wire.send(request(1))
    await wire.server.repository.unload("fast")
    assert wire.send(request(1)).startswith(b"HTTP/1.1 404")


async def test_close_is_honoured_every_time(wire: Wire) -> None:
    wire.send(request(1))
    assert b"connection: close\r\n" in wire.send(request(1, "connection: close"))
    assert wire.transport.closed


def head_of(raw: bytes, fields: list[tuple[bytes, bytes]]) -> Head:
    return Head(URL.encode(), TARGET, Headers(fields), 20, 1000)


LINES = b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 20"
FIELDS = [(b"host", b"x"), (b"content-length", b"20")]


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        (LINES.replace(b"\r\n", b"\n"), FIELDS),
        (LINES + b"\n\nab", FIELDS),
        (LINES + b"\n", FIELDS),
        (LINES + b"\r\nx-request-id: a\r\n b", [*FIELDS, (b"x-request-id", b"a b")]),
        (LINES + b"\r\nX-Request-Id: a", [*FIELDS, (b"x-request-id", b"a")]),
        (
            LINES + b"\r\nx-request-id: a\r\nx-request-id: b",
            [*FIELDS, (b"x-request-id", b"a"), (b"x-request-id", b"b")],
        ),
        (LINES + b"\r\nx-request-id: a b", [*FIELDS, (b"x-request-id", b"a b")]),
        (LINES + b"\r\ntransfer-encoding: chunked", [*FIELDS, (b"transfer-encoding", b"chunked")]),
        (LINES + b"\r\nexpect: 100-continue", [*FIELDS, (b"expect", b"100-continue")]),
        (b"PUT" + LINES[4:], FIELDS),
    ],
)
def test_what_is_unusual_is_not_learnt(raw: bytes, fields: list[tuple[bytes, bytes]]) -> None:
    heads = Heads()
    heads.learn(raw, head_of(raw, fields))
    assert heads.find(raw) is None


def test_a_head_is_found_with_the_ids_of_this_request() -> None:
    heads = Heads()
    first = LINES + b"\r\nx-request-id: first\r\naccept: */*"
    fields = [*FIELDS, (b"x-request-id", b"first"), (b"accept", b"*/*")]
    heads.learn(first, head_of(first, fields))
    found = heads.find(first.replace(b"first", b"second"))
    assert found is not None
    assert found.headers == [*FIELDS, (b"x-request-id", b"second"), (b"accept", b"*/*")]
    assert found.headers.read().request_id == b"second"
    assert heads.find(first.replace(b"first", b"se cond")) is None
    assert heads.find(first.replace(b"x-request-id: first\r\n", b"")) is None


@given(st.lists(st.sampled_from([b"a", b"b c", b"", b"\r\n", b"\n", b" ", b":", b"z: 1"])))
def test_a_known_head_is_what_the_parser_read(parts: list[bytes]) -> None:
    """Whatever stands between, equal bytes are read as before, and others are not found."""
    heads = Heads()
    raw = LINES + b"\r\n" + b"".join(parts)
    heads.learn(raw, head_of(raw, FIELDS))
    found = heads.find(raw)
    assert found is None or (b"\n\n" not in raw and b"\n\r\n" not in raw)
    assert heads.find(raw + b"x") is None


class Joined(Doubler):
    """Its requests are computed together."""

    independent_rows = True


async def test_requests_that_are_joined_are_answered_with_their_own_rows() -> None:
    server = ModelServer(latency_log=False)
    server._shared.tick(0.0, b"now")
    await server.repository.start(Joined("joined"))
    wires = [Wire(server) for _ in range(3)]
    for number, wire in enumerate(wires):
        tensor = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [number, 0.5]}
        body = orjson.dumps({"id": f"id {number}", "inputs": [tensor]})
        head = f"POST /v2/models/joined/infer HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n"
        assert not wire.send(head.encode() + body)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for number, wire in enumerate(wires):
        answer = orjson.loads(wire.transport.take().partition(b"\r\n\r\n")[2])
        output = {"name": "output-0", "shape": [1, 2], "datatype": "FP64"}
        assert answer["outputs"] == [{**output, "data": [number * 2.0, 1.0]}]
        assert answer["id"] == f"id {number}"
    metrics = server.repository.find("joined").metrics
    assert metrics.batch_requests.total == 3
    assert metrics.requests["v2", 200] == 3
