"""One gRPC connection on a recorded transport: windows, floods, and protocol faults."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, field

import hpack
import pytest
from tests.unit.server.models import Doubler, Echo, Hanging
from tests.unit.server.transport import Recorder

from kedge.protocol.inference import InferRequest
from kedge.protocol.open_inference import grpc as codec
from kedge.protocol.open_inference.messages import ModelInferResponse
from kedge.server.dataplane import DataPlane
from kedge.server.grpc import connection, frames
from kedge.server.grpc.connection import GrpcConnection
from kedge.server.grpc.frames import ErrorCode, Frame, FrameReader
from kedge.server.grpc.service import GrpcServer
from kedge.server.limits import Limits
from kedge.server.metrics import Metrics
from kedge.server.repository import Repository

INFER = "/inference.GRPCInferenceService/ModelInfer"
LIVE = "/inference.GRPCInferenceService/ServerLive"


@dataclass
class Call:
    """What came back on a stream."""

    headers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    ended: bool = False
    reset: int | None = None


class Wire:
    """A client that speaks frames."""

    def __init__(self, plane: DataPlane, limits: Limits) -> None:
        self.server = GrpcServer(plane, limits)
        self.transport = Recorder()
        self.connection = GrpcConnection(self.server, limits, asyncio.get_running_loop())
        self.connection.connection_made(self.transport)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.reader = FrameReader(frames.LARGEST_FRAME)
        self.calls: dict[int, Call] = {}
        self.goaway: int | None = None
        self.send(frames.PREFACE + frames.settings({}))

    def send(self, raw: bytes) -> list[Frame]:
        self.connection.data_received(raw)
        return self.receive()

    def receive(self) -> list[Frame]:
        received = list(self.reader.feed(self.transport.take()))
        for one in received:
            call = self.calls.setdefault(one.stream, Call())
            if one.kind == frames.HEADERS:
                call.headers |= dict(self.decoder.decode(one.payload))
            elif one.kind == frames.DATA:
                call.data += one.payload
            elif one.kind == frames.RST_STREAM:
                call.reset = frames.read_word(one.payload)
            elif one.kind == frames.GOAWAY:
                self.goaway = frames.read_word(one.payload[4:8])
            if one.kind in (frames.HEADERS, frames.DATA):
                call.ended = call.ended or bool(one.flags & frames.END_STREAM)
        return received

    def head(self, stream: int, path: str, *more: tuple[str, str], end: bool = False) -> bytes:
        fields = [(":method", "POST"), (":path", path), ("content-type", "application/grpc")]
        flags = frames.END_HEADERS | (frames.END_STREAM if end else 0)
        block = self.encoder.encode([*fields, *more])
        return frames.frame(frames.HEADERS, flags, stream, block)

    def call(self, stream: int, path: str, message: bytes = b"") -> Call:
        body = struct.pack(">BL", 0, len(message)) + message
        call = self.calls.setdefault(stream, Call())
        self.send(
            self.head(stream, path) + frames.frame(frames.DATA, frames.END_STREAM, stream, body)
        )
        return call


@pytest.fixture
async def wire() -> Wire:
    repository = Repository(Metrics())
    await repository.start(Doubler("fast"))
    await repository.start(Echo("slow"))
    await repository.start(Hanging("hanging"))
    return Wire(DataPlane(repository), Limits(binary_bytes=1_000_000))


def infer(model: str, rows: int = 1) -> bytes:
    request = InferRequest.from_json(
        model, {"input-0": ("FP64", [rows, 2], [float(number) for number in range(rows * 2)])}
    )
    return codec.encode_request(request).SerializeToString()


def response(call: Call) -> ModelInferResponse:
    assert call.ended
    assert call.headers["grpc-status"] == "0"
    assert struct.unpack(">BL", call.data[:5]) == (0, len(call.data) - 5)
    return ModelInferResponse.FromString(call.data[5:])


async def settle(wire: Wire) -> None:
    tasks = [one.task for one in wire.connection._streams.values() if one.task is not None]
    if tasks:
        await asyncio.wait(tasks)
    jobs = [one.job for one in wire.connection._streams.values() if one.job is not None]
    for _ in range(1_000_000):
        if not any(job.open for job in jobs):
            break
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    wire.receive()


async def test_a_prediction_in_one_write(wire: Wire) -> None:
    answer = response(wire.call(1, INFER, infer("fast")))
    assert codec.decode_response(answer).outputs[0].array.tolist() == [[0, 2]]
    assert not wire.connection.busy
    assert wire.server.served == 1


async def test_a_coroutine_s_answer(wire: Wire) -> None:
    wire.call(1, INFER, infer("slow"))
    assert wire.connection.busy
    await settle(wire)
    assert response(wire.calls[1]).outputs[0].name == "input-0"


async def test_bytes_may_come_one_by_one(wire: Wire) -> None:
    message = infer("fast")
    body = struct.pack(">BL", 0, len(message)) + message
    stream = wire.head(1, INFER) + frames.frame(frames.DATA, frames.END_STREAM, 1, body)
    for byte in stream:
        wire.send(bytes([byte]))
    response(wire.calls[1])


async def test_a_message_in_many_frames_opens_the_window_again(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kedge.server.grpc.connection.STREAM_WINDOW", 1 << 20)
    message = infer("fast", 60_000)
    body = struct.pack(">BL", 0, len(message)) + message
    updates = 0
    wire.send(wire.head(1, INFER))
    for at in range(0, len(body), 16_384):
        chunk = body[at : at + 16_384]
        flags = frames.END_STREAM if at + 16_384 >= len(body) else 0
        received = wire.send(frames.frame(frames.DATA, flags, 1, chunk))
        updates += sum(one.kind == frames.WINDOW_UPDATE and one.stream == 1 for one in received)
    assert updates >= 1
    wire.send(frames.window_update(0, 2_000_000) + frames.window_update(1, 2_000_000))
    await settle(wire)
    assert response(wire.calls[1]).outputs[0].shape == [60_000, 2]


async def test_answers_wait_for_the_peer_s_window(wire: Wire) -> None:
    wire.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 100}))
    call = wire.call(1, INFER, infer("slow", 50))
    await settle_until(wire, lambda: len(call.data) == 100)
    assert not call.ended
    wire.send(frames.window_update(1, 200))
    assert len(call.data) == 300
    wire.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 10_000}))
    response(call)


async def settle_until(wire: Wire, condition: object) -> None:
    assert callable(condition)
    for _ in range(100):
        wire.receive()
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("never happened")


@pytest.mark.parametrize(
    ("path", "message", "code", "text"),
    [
        ("/no.Such/Method", b"", "12", "Method not found!"),
        (INFER, b"\xff\xff", "3", "not a ModelInferRequest"),
        (INFER, b"", "5", "Model with name  does not exist."),
        ("/grpc.health.v1.Health/Check", b"\x0a\x02no", "5", "does not exist"),
    ],
)
async def test_refused_calls(wire: Wire, path: str, message: bytes, code: str, text: str) -> None:
    call = wire.call(1, path, message)
    assert call.ended
    assert call.headers["grpc-status"] == code
    assert text in call.headers["grpc-message"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "13"),
        (b"\x00\x00\x00\x00\x09x", "13"),
        (b"\x00\x00\x00\x00\x00x", "13"),
        (b"\x00\x7f\xff\xff\xff", "8"),
        (b"\x01\x00\x00\x00\x01x", "12"),
    ],
)
async def test_malformed_messages(wire: Wire, body: bytes, code: str) -> None:
    wire.send(wire.head(1, LIVE) + frames.frame(frames.DATA, frames.END_STREAM, 1, body))
    assert wire.calls[1].headers["grpc-status"] == code


async def test_a_message_too_large_is_cut_off(wire: Wire) -> None:
    wire.send(wire.head(1, INFER))
    for _ in range(80):
        wire.send(frames.frame(frames.DATA, 0, 1, b"x" * 16_384))
    assert wire.calls[1].headers["grpc-status"] == "8"
    assert wire.calls[1].reset == ErrorCode.NO_ERROR
    assert wire.connection._held == 0
    assert wire.call(3, LIVE).headers["grpc-status"] == "0"


async def test_a_deadline_that_has_passed(wire: Wire) -> None:
    message = infer("hanging")
    body = struct.pack(">BL", 0, len(message)) + message
    wire.send(
        wire.head(1, INFER, ("grpc-timeout", "1m"))
        + frames.frame(frames.DATA, frames.END_STREAM, 1, body)
    )
    await settle(wire)
    assert wire.calls[1].headers["grpc-status"] == "4"


async def test_a_cancelled_call_ends_its_task(wire: Wire) -> None:
    wire.call(1, INFER, infer("hanging"))
    task = wire.connection._streams[1].task
    assert task is not None
    wire.send(frames.rst_stream(1, ErrorCode.CANCEL))
    await asyncio.wait([task])
    assert task.cancelled()
    assert not wire.connection.busy


async def test_not_grpc_is_said_in_http(wire: Wire) -> None:
    block = wire.encoder.encode([(":method", "POST"), (":path", LIVE)])
    wire.send(frames.frame(frames.HEADERS, frames.END_HEADERS, 1, block))
    assert wire.calls[1].headers[":status"] == "415"
    assert wire.calls[1].ended


async def test_pings_are_answered(wire: Wire) -> None:
    (one,) = wire.send(frames.frame(frames.PING, 0, 0, b"12345678"))
    assert (one.kind, one.flags, one.payload) == (frames.PING, frames.ACK, b"12345678")


async def test_headers_may_be_continued(wire: Wire) -> None:
    whole = wire.head(1, LIVE)[9:]
    wire.send(frames.frame(frames.HEADERS, 0, 1, whole[:5]))
    wire.send(frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, whole[5:]))
    wire.send(frames.frame(frames.DATA, frames.END_STREAM, 1, bytes(5)))
    assert wire.calls[1].headers["grpc-status"] == "0"


def _priming(*streams: int) -> bytes:
    encoder = hpack.Encoder()
    block = encoder.encode(
        [(":method", "POST"), (":path", LIVE), ("content-type", "application/grpc")]
    )
    return b"".join(
        frames.frame(frames.HEADERS, frames.END_HEADERS, stream, block) for stream in streams
    )


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (frames.frame_head(frames.DATA, 0, 1, 2_000_000), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.DATA, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.CONTINUATION, 4, 1, b""), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.PUSH_PROMISE, 4, 1, b"1234"), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.PING, 0, 0, b"123"), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.SETTINGS, 0, 0, b"123"), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.SETTINGS, 0, 1, b""), ErrorCode.PROTOCOL_ERROR),
        (frames.settings({frames.INITIAL_WINDOW_SIZE: 2**31}), ErrorCode.FLOW_CONTROL_ERROR),
        (frames.settings({frames.MAX_FRAME_SIZE: 1}), ErrorCode.PROTOCOL_ERROR),
        (frames.window_update(0, 0), ErrorCode.FLOW_CONTROL_ERROR),
        (frames.window_update(0, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
        (frames.window_update(9, 1), ErrorCode.PROTOCOL_ERROR),
        (frames.rst_stream(9, ErrorCode.CANCEL), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.HEADERS, 4, 1, b"\xff\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
        (_priming(2), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.HEADERS, 0, 1, b"") + _priming(3), ErrorCode.PROTOCOL_ERROR),
        (
            frames.frame(frames.HEADERS, 0, 1, b"")
            + frames.frame(frames.CONTINUATION, 0, 1, b"x" * 16_000) * 5,
            ErrorCode.ENHANCE_YOUR_CALM,
        ),
        (frames.frame(frames.PING, 0, 0, b"12345678") * 5000, ErrorCode.ENHANCE_YOUR_CALM),
        (frames.settings({}) * 5000, ErrorCode.ENHANCE_YOUR_CALM),
        (
            b"".join(
                _priming(stream) + frames.rst_stream(stream, ErrorCode.CANCEL)
                for stream in range(1, 10_000, 2)
            ),
            ErrorCode.ENHANCE_YOUR_CALM,
        ),
        (
            _priming(1) + frames.frame(frames.DATA, 0, 1, b"") * 5000 + frames.settings({}),
            ErrorCode.ENHANCE_YOUR_CALM,
        ),
    ],
)
async def test_faults_end_the_connection(wire: Wire, raw: bytes, code: ErrorCode) -> None:
    wire.send(raw)
    assert wire.goaway == code
    assert wire.transport.closed


async def test_another_protocol_is_told_so(wire: Wire) -> None:
    other = Recorder()
    fresh = GrpcConnection(wire.server, Limits(), asyncio.get_running_loop())
    fresh.connection_made(other)
    fresh.data_received(b"GET / HTTP/1.1\r\n\r\n")
    assert other.closed
    assert b"this port speaks gRPC" in other.written
    fresh.connection_lost(None)


async def test_streams_beyond_the_limit_are_refused_for_now(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_STREAMS", 2)
    for stream in (1, 3, 5):
        wire.send(wire.head(stream, LIVE))
    assert wire.calls[5].reset == ErrorCode.REFUSED_STREAM
    wire.send(frames.frame(frames.DATA, frames.END_STREAM, 1, bytes(5)))
    assert wire.calls[1].headers["grpc-status"] == "0"


async def test_draining_says_goaway_and_still_answers(wire: Wire) -> None:
    wire.server.drain()
    wire.receive()
    assert wire.goaway == ErrorCode.NO_ERROR
    assert wire.call(1, LIVE).headers["grpc-status"] == "0"


async def test_every_answer_has_its_request_id(wire: Wire) -> None:
    refused = wire.call(1, "/no.Such/Method")
    answered = wire.call(3, INFER, infer("fast"))
    await settle(wire)
    ids = {call.headers["x-request-id"] for call in (refused, answered)}
    assert len(ids) == 2
    wire.send(wire.head(5, LIVE, ("x-request-id", "mine")))
    wire.send(frames.frame(frames.DATA, frames.END_STREAM, 5, b"\0\0\0\0\0"))
    assert wire.calls[5].headers["x-request-id"] == "mine"
