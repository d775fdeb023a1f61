"""Payload records as events, and the queue that never lets a prediction wait."""

from __future__ import annotations

import base64
import gzip
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from kedge.lib.backoff import Backoff
from kedge.protocol.inference import InferRequest
from kedge.protocol.open_inference import grpc as codec
from kedge.server.errors import BadUsage
from kedge.server.payloads import log as payload_log
from kedge.server.payloads.log import PayloadLog
from kedge.server.payloads.options import PayloadOptions
from kedge.server.payloads.records import MANY_BYTES, Record, headers, line
from kedge.server.payloads.sinks import FileSink, Refused, open_sink

OPTIONS = PayloadOptions("http://sink/", source="pod", inference_service="iris", namespace="ml")
SOON = Backoff(initial=0.0)


def record(body: bytes = b'{"instances":[[1]]}', **fields: Any) -> Record:
    base: dict[str, Any] = {
        "kind": "request",
        "id": "7",
        "request_id": "r",
        "time": 0.5,
        "content_type": "application/json",
        "metadata": {"x-user": ["me é"]},
    }
    return Record(body=body, **(base | fields))


def whole(one: Record, options: PayloadOptions) -> bytes:
    return b"".join(line(one, options))


# -- events --------------------------------------------------------------------------------------


def test_headers_of_the_binary_mode() -> None:
    found = headers(record(), OPTIONS)
    assert found.pop("Ce-Recordedtime").endswith("Z")
    assert found == {
        "Ce-Specversion": "1.0",
        "Ce-Id": "7",
        "Ce-Type": "org.kubeflow.serving.inference.request",
        "Ce-Source": "pod",
        "Ce-Time": "1970-01-01T00:00:00.500000Z",
        "Ce-Inferenceservicename": "iris",
        "Ce-Namespace": "ml",
        "Ce-Component": "",
        "Ce-Endpoint": "",
        "Ce-Metadata": '{"x-user":["me %C3%A9"]}',
        "Ce-Requestid": "r",
        "Content-Type": "application/json",
    }


def test_a_line_carries_json_as_json_and_all_else_in_base64() -> None:
    event = orjson.loads(whole(record(kind="response"), OPTIONS))
    assert event["data"] == {"instances": [[1]]}
    assert event["type"] == "org.kubeflow.serving.inference.response"
    binary = record(b"\x00\xff", content_type="application/octet-stream", json_length=1)
    event = orjson.loads(whole(binary, OPTIONS))
    assert base64.b64decode(event["data_base64"]) == b"\x00\xff"
    assert event["jsonlength"] == "1"
    event = orjson.loads(whole(record(b"{"), OPTIONS))
    assert base64.b64decode(event["data_base64"]) == b"{"


def test_a_grpc_message_is_told_as_json() -> None:
    asked = InferRequest.from_json("m", {"x": ("INT32", [2], [1, 2])})
    raw = codec.encode_request(asked).SerializeToString()
    one = record(raw, is_grpc=True, content_type="")
    one.readable()
    assert one.content_type == "application/json"
    (tensor,) = orjson.loads(one.body)["inputs"]
    assert (tensor["name"], tensor["data"]) == ("x", [1, 2])
    other = record(b"\xff\xff", is_grpc=True)
    other.readable()
    assert (other.body, other.content_type) == (b"\xff\xff", "application/x-protobuf")


def test_a_large_body_keeps_no_prediction_waiting() -> None:
    body = b"[" + b"1," * MANY_BYTES + b"1]"
    event = orjson.loads(whole(record(body), OPTIONS))
    assert base64.b64decode(event["data_base64"]) == body
    message = record(b"\x0a" * (MANY_BYTES + 1), is_grpc=True)
    message.readable()
    assert message.content_type == "application/x-protobuf"


def test_compression_is_undone() -> None:
    one = record(gzip.compress(b"[1]"), encoding=b"gzip")
    one.readable()
    assert (one.body, one.encoding) == (b"[1]", b"")
    damaged = record(b"[1]", encoding=b"gzip")
    damaged.readable()
    assert damaged.body == b"[1]"


# -- files ---------------------------------------------------------------------------------------


def test_files_are_set_aside_and_bounded(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "payloads.jsonl"
    options = PayloadOptions(f"file://{path}", file_bytes=1, files=2)
    sink, other = FileSink(options), FileSink(options)
    for number in range(5):
        (sink if number % 2 else other).send(record(b"%d" % number))
    sink.close()
    other.close()
    found = {one.name: orjson.loads(one.read_bytes())["data"] for one in path.parent.iterdir()}
    assert found == {"payloads.jsonl": 4, "payloads.jsonl.1": 3, "payloads.jsonl.2": 2}


@pytest.mark.parametrize(
    "url", ["s3://bucket/x", "file://elsewhere/x", "http://", "file:///proc/x/y"]
)
def test_where_nothing_can_be_logged_to(url: str) -> None:
    with pytest.raises(BadUsage, match="Fix:"):
        open_sink(PayloadOptions(url))


# -- the queue -----------------------------------------------------------------------------------


class Sink:
    """Does with each record what the next of `script` says, and then no more."""

    def __init__(self) -> None:
        self.script: Iterator[Callable[[], None]] = iter(())
        self.sent: list[bytes] = []
        self.asked = 0

    def send(self, record: Record) -> None:
        self.asked += 1
        next(self.script, lambda: None)()
        self.sent.append(bytes(record.body))

    def close(self) -> None:
        return


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Sink:
    one = Sink()
    monkeypatch.setattr(payload_log, "open_sink", lambda options: one)
    return one


def failing() -> None:
    raise OSError("it answered 503")


def refusing() -> None:
    raise Refused("it answered 400")


async def sent(sink: Sink, *bodies: bytes, **options: Any) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    log = PayloadLog(PayloadOptions("http://x", senders=1, **options), outcomes, SOON)
    for body in bodies:
        log.offer(record(body))
    await log.close()
    return outcomes


async def test_what_waits_is_sent_at_the_end(sink: Sink) -> None:
    assert await sent(sink, b"1", b"2", b"3") == {"sent": 3}
    assert sink.sent == [b"1", b"2", b"3"]


async def test_a_receiver_that_fails_is_asked_again(sink: Sink) -> None:
    sink.script = iter([failing, failing])
    assert await sent(sink, b"1") == {"sent": 1}
    assert sink.asked == 3


async def test_but_not_for_ever_and_not_when_it_refuses(sink: Sink) -> None:
    sink.script = iter([failing] * 3 + [refusing])
    assert await sent(sink, b"1", b"2", b"3", attempts=3) == {"failed": 2, "sent": 1}
    assert sink.sent == [b"3"]


async def test_a_full_queue_drops(sink: Sink) -> None:
    hold = threading.Event()
    sink.script = iter([lambda: assert_(hold.wait(10))])
    outcomes: Counter[str] = Counter()
    log = PayloadLog(PayloadOptions("http://x", senders=1, records=2, bytes=10), outcomes, SOON)
    for body in (b"1", b"2", b"3"):
        log.offer(record(body))
    log.offer(record(b"x" * 11))
    assert outcomes == {"dropped": 2}
    hold.set()
    await log.close()
    assert outcomes == {"dropped": 2, "sent": 2}


async def test_the_end_does_not_wait_for_a_receiver_that_hangs(sink: Sink) -> None:
    hold = threading.Event()
    sink.script = iter([lambda: assert_(hold.wait(10))])
    assert await sent(sink, b"1", b"2", drain_seconds=0.0) == {"failed": 2}
    hold.set()


def assert_(condition: bool) -> None:
    assert condition
