"""Request ids: kept, made, and repeated in every answer; and the log lines that carry them."""

from __future__ import annotations

import json
import logging

import pytest
from tests.unit.server.test_http_connection import Wire, post, predict
from tests.unit.server.test_http_connection import wire as wire  # a fixture

from kedge.server.log import JsonFormatter, RequestLog
from kedge.server.request_id import LONGEST, TracedId, chosen, new_id

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"


def header(answer: bytes, name: bytes = b"x-request-id") -> str:
    head = answer.partition(b"\r\n\r\n")[0].lower()
    found = [line for line in head.split(b"\r\n") if line.startswith(name + b": ")]
    assert len(found) == 1, head
    return found[0].partition(b": ")[2].decode()


def test_ids_differ_and_a_good_one_is_kept() -> None:
    assert len({new_id() for _ in range(1000)}) == 1000
    assert len(new_id()) == 36
    assert chosen(b"mine") == "mine"


@pytest.mark.parametrize("bad", [b"", b"a\tb", b"x" * (LONGEST + 1), b"\x85"])
def test_an_id_that_logs_cannot_carry_is_replaced(bad: bytes) -> None:
    assert len(chosen(bad)) == 36


@pytest.mark.parametrize(
    "request_",
    [
        predict("fast"),
        predict("unknown"),
        post("/v1/models/fast:predict", b"{"),
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: a\r\n\r\n",
    ],
    ids=["answer", "unknown model", "bad JSON", "bad HTTP"],
)
async def test_every_answer_has_one(wire: Wire, request_: bytes) -> None:
    assert len(header(wire.send(request_))) == 36


@pytest.mark.parametrize("model", ["fast", "unknown", "slow"])
async def test_a_clients_own_comes_back(wire: Wire, model: str) -> None:
    answer = wire.send(predict(model, 1, "X-Request-Id: abc")) or await wire.settle()
    assert header(answer) == "abc"


@pytest.mark.parametrize("path", ["/v2/health/live", "/nothing", "/v1/models/slow:explain"])
async def test_so_it_is_off_the_short_way(wire: Wire, path: str) -> None:
    body = b'{"instances":[1]}' if "explain" in path else b""
    wire.send(post(path, body, "X-Request-Id: abc"))
    assert header(await wire.settle()) == "abc"


def test_lines_as_json() -> None:
    lines: list[bytes] = []
    log = RequestLog(lines.append, form="json")
    traced = TracedId("r", TRACEPARENT)
    log.latency('quote"', 0.001, 0.0, 0.002, 0.0)
    log.latency(traced, 0.001, 0.0, 0.002, 0.0)
    log.flush()
    first, second = (json.loads(line) for line in b"".join(lines).splitlines())
    assert (first["request_id"], first["predict_ms"]) == ('quote"', 2.0)
    assert (second["request_id"], second["trace_id"], second["span_id"]) == ("r", TRACE, SPAN)


def test_a_trace_in_the_text_form() -> None:
    lines: list[bytes] = []
    log = RequestLog(lines.append)
    traced = TracedId("r", TRACEPARENT)
    log.latency(traced, 0.0, 0.0, 0.0, 0.0)
    log.flush()
    assert b"requestId: r, " in lines[0] and lines[0].endswith(f", traceId: {TRACE}\n".encode())


def test_the_servers_own_lines_as_json() -> None:
    try:
        raise ValueError("x")
    except ValueError as error:
        record = logging.LogRecord(
            "kedge", logging.ERROR, __file__, 1, "model %s", ("m",), (ValueError, error, None)
        )
    record.request = "r"
    line = json.loads(JsonFormatter().format(record))
    assert (line["message"], line["level"], line["request_id"]) == ("model m", "ERROR", "r")
    assert "ValueError: x" in line["exception"]
