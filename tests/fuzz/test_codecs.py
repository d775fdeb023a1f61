"""Whatever bytes come, a parser reads them or says in its own words why not."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import hpack
import orjson
import pytest
from google.protobuf.message import DecodeError
from tests.fuzz.mutating import SEED, mutations

from kedge.protocol import v1
from kedge.protocol.compression import decompress
from kedge.protocol.errors import ServingError
from kedge.protocol.inference import InferRequest, InferResponse
from kedge.protocol.open_inference import grpc as codec
from kedge.protocol.open_inference import messages, rest
from kedge.server.grpc.connection import read_message
from kedge.server.grpc.frames import ConnectionFault, FrameReader, unpadded
from kedge.server.grpc.head import HeadDecoder
from kedge.server.grpc.inbox import Inbox
from kedge.server.http import cloudevents
from kedge.server.side import reading, wire
from kedge.server.side.wire import Question

TENSORS = {
    "a": ("FP32", [2, 2], [1.5, -2, 3, 4]),
    "b": ("BYTES", [2], ["x", "größe"]),
    "c": ("BOOL", [1], [True]),
    "d": ("UINT64", [1, 1], [2**64 - 1]),
    "e": ("INT8", [3], [-128, 0, 127]),
}
REQUEST = InferRequest.from_json("m", TENSORS)
PLAIN = rest.encode_request(REQUEST)[0]
BINARY, LENGTH = rest.encode_request(REQUEST, binary=True)
EVENT = {
    "specversion": "1.0", "id": "1", "source": "s", "type": "t", "time": "now",
    "data": {"instances": [[1, 2]]}, "data_base64": "eyJhIjoxfQ==",
}  # fmt: skip
V1 = [
    b'{"instances": [[1, 2.5], [3, 4]]}',
    b'{"inputs": [{"a": 1, "b": [1, 2]}, {"a": null}]}',
    b'{"instances": [[{"a": 1}, {"b": "x"}]]}',
    b'{"instances": ["text", "more"], "signature_name": "s"}',
    json.dumps(EVENT).encode(),
]
WORDS = [
    b'"instances"', b'"inputs"', b'"shape"', b'"data"', b'"parameters"', b'"binary_data_size"',
    b'"binary_data_output"', b'"outputs"', b'"FP16"', b'"BYTES"', b'"BF16"', b'"datatype"',
]  # fmt: skip


def read_v1(raw: bytes) -> None:
    payload = v1.decode_request(raw, "application/json")
    assert len(v1.rows(payload)) >= 0
    v1.rows(payload, ["a", "b"])


def read_event(raw: bytes) -> None:
    body = v1.decode_request(raw)
    event = cloudevents.read({"content-type": cloudevents.STRUCTURED}, body)
    assert event is not None
    cloudevents.answer(event, "m", {"predictions": [1]})


def read_event_headers(raw: bytes) -> None:
    lines = [line.partition(b":") for line in raw.decode("latin-1").encode().split(b"\n")]
    headers = {name.decode().strip(): value.decode() for name, _, value in lines}
    cloudevents.read(headers, {"instances": []})


def read_v2(raw: bytes) -> None:
    answer(rest.decode_request(raw, "m"))


def read_binary(raw: bytes) -> None:
    """The first two bytes say how long the JSON part is."""
    if len(raw) > 2:
        (length,) = struct.unpack_from(">H", raw)
        answer(rest.decode_request(raw[2:], "m", "", length))


def answer(request: InferRequest) -> None:
    """What was read can be written, in each form."""
    for tensor in request.inputs:
        if tensor.datatype == "BYTES":
            with suppress(ServingError):
                tensor.texts()
    response = InferResponse("m", request.inputs, request.id).select(request.outputs)
    rest.encode_response(response, request)
    codec.encode_response(response, raw=True).SerializeToString()
    codec.encode_response(response, raw=False).SerializeToString()


def read_message_of_grpc(raw: bytes) -> None:
    message = messages.ModelInferRequest()
    message.ParseFromString(raw)
    answer(codec.decode_request(message))


def read_aside(raw: bytes) -> None:
    for protocol in ("v1", "v2"):
        with suppress(ServingError):
            reading.read(Question(protocol, "m", rows=True), memoryview(raw), wire.Writer())


def unpack(raw: bytes) -> None:
    assert len(decompress(raw, b"gzip", 1000)) <= 1000


def read_framed(raw: bytes) -> None:
    read_message(raw, b"gzip", 10_000)


def read_conversation(raw: bytes) -> None:
    taken: list[int] = []
    inbox = Inbox(10_000, taken.append)
    for start in range(0, len(raw), 7):
        inbox.feed(raw[start : start + 7])
    assert inbox.waiting <= len(raw)


def read_frames(raw: bytes) -> None:
    for frame in FrameReader(1 << 14).feed(raw):
        unpadded(frame)


def read_headers(raw: bytes) -> None:
    HeadDecoder(4096).decode(raw).metadata()


def _framed(*bodies: bytes) -> bytes:
    return b"".join(struct.pack(">BL", 0, len(body)) + body for body in bodies)


def _blocks() -> list[bytes]:
    call = [(":method", "POST"), (":path", "/a/B"), ("grpc-timeout", "1S"), ("x", "y" * 60)]
    encoder = hpack.Encoder()
    return [encoder.encode(call), encoder.encode(call), hpack.Encoder().encode(call, huffman=False)]


MESSAGE = codec.encode_request(REQUEST, raw=False).SerializeToString()
RAW_MESSAGE = codec.encode_request(REQUEST).SerializeToString()
FRAMES = [
    bytes.fromhex("00000c0400000000000003000003e80005000fffff"),
    bytes.fromhex("0000050009000000010261626300"),
    bytes.fromhex("00000408000000000000000001"),
]
HEADERS = [b"ce-specversion: 1.0\nce-id: 1\nce-source: s\nce-type: t\ncontent-type: x"]

PARSERS: dict[str, tuple[Callable[[bytes], None], Sequence[bytes], Sequence[bytes], Any]] = {
    "V1": (read_v1, V1, WORDS, ServingError),
    "CloudEvents": (read_event, V1[-1:], [b'"data_base64"', b'"specversion"'], ServingError),
    "CloudEvents headers": (read_event_headers, HEADERS, [b"\nce-"], ServingError),
    "V2": (read_v2, [PLAIN], WORDS, ServingError),
    "V2 binary": (
        read_binary,
        [struct.pack(">H", LENGTH or 0) + BINARY],
        WORDS,
        ServingError,
    ),
    "gRPC": (read_message_of_grpc, [MESSAGE, RAW_MESSAGE], [], (ServingError, DecodeError)),
    "side process": (read_aside, [*V1, PLAIN], WORDS, ()),
    "gzip": (unpack, [gzip.compress(b"x" * 900, mtime=0)], [], ServingError),
    "gRPC framing": (read_framed, [_framed(MESSAGE)], [], ServingError),
    "gRPC conversation": (read_conversation, [_framed(MESSAGE, b"", b"x")], [], ServingError),
    "HTTP/2 frames": (read_frames, FRAMES, [], ConnectionFault),
    "HPACK": (read_headers, _blocks(), [], ConnectionFault),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("parser", PARSERS)
def test_any_bytes_are_read_or_refused(parser: str) -> None:
    read, seeds, tokens, refusals = PARSERS[parser]
    for raw in mutations(seeds, tokens):
        try:
            read(raw)
        except refusals:
            continue
        except Exception as error:
            raise AssertionError(f"{parser}, seed {SEED}: {raw!r}") from error


def test_what_is_read_aside_is_what_is_read_here() -> None:
    for raw in mutations([*V1[:4], PLAIN], WORDS):
        with suppress(ServingError, orjson.JSONDecodeError):
            payload = v1.decode_request(raw)
            assert "".join(_rebuilt(payload)) == orjson.dumps(payload).decode()


def _rebuilt(value: Any) -> list[str]:
    pieces = b"".join(wire.pieces(value))
    work = wire.rebuilt(memoryview(pieces))
    while True:
        try:
            next(work)
        except StopIteration as end:
            return [orjson.dumps(end.value).decode()]
