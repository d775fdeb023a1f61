"""HTTP/2's bytes: whatever comes is cut into frames or refused, and never held without bound."""

from __future__ import annotations

from contextlib import suppress

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.protocol.errors import GrpcCode
from kedge.server.grpc import frames, head
from kedge.server.grpc.frames import ConnectionFault, ErrorCode, Frame, FrameReader

FRAMES = st.lists(
    st.tuples(
        st.integers(0, 255),
        st.integers(0, 255),
        st.integers(0, 2**31 - 1),
        st.binary(max_size=50),
    ),
    max_size=8,
)


@given(FRAMES, st.data())
def test_frames_survive_any_cut(
    sent: list[tuple[int, int, int, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(frames.frame(*one) for one in sent)
    reader = FrameReader(frames.DEFAULT_FRAME_SIZE)
    received: list[Frame] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        received.extend(reader.feed(stream[:size]))
        stream = stream[size:]
    assert received == [Frame(*one) for one in sent]


@given(st.binary(max_size=300))
def test_any_bytes_are_frames_or_refused(raw: bytes) -> None:
    reader = FrameReader(100)
    with suppress(ConnectionFault):
        for one in reader.feed(raw):
            assert len(one.payload) <= 100


@pytest.mark.parametrize(
    ("kind", "flags", "payload", "expected"),
    [
        (frames.DATA, 0, b"abc", b"abc"),
        (frames.DATA, frames.PADDED, b"\x02abcXX", b"abc"),
        (frames.HEADERS, frames.PRIORITIZED, b"12345abc", b"abc"),
        (frames.HEADERS, frames.PADDED | frames.PRIORITIZED, b"\x0112345abcX", b"abc"),
    ],
)
def test_padding_and_priority_are_removed(
    kind: int, flags: int, payload: bytes, expected: bytes
) -> None:
    assert frames.unpadded(Frame(kind, flags, 1, payload)) == expected


@pytest.mark.parametrize(
    ("kind", "flags", "payload"),
    [
        (frames.DATA, frames.PADDED, b""),
        (frames.DATA, frames.PADDED, b"\x09abc"),
        (frames.HEADERS, frames.PRIORITIZED, b"123"),
    ],
)
def test_impossible_padding_is_refused(kind: int, flags: int, payload: bytes) -> None:
    with pytest.raises(ConnectionFault):
        frames.unpadded(Frame(kind, flags, 1, payload))


def test_settings() -> None:
    raw = frames.settings({frames.INITIAL_WINDOW_SIZE: 7, frames.MAX_FRAME_SIZE: 9})
    (one,) = FrameReader(100).feed(raw)
    assert list(frames.read_settings(one.payload)) == [(4, 7), (5, 9)]
    with pytest.raises(ConnectionFault):
        frames.read_settings(b"12345")


CALL = [
    (":method", "POST"),
    (":path", "/a/B"),
    ("content-type", "application/grpc"),
    ("grpc-timeout", "1500m"),
    ("x-request-id", "r"),
]


def test_headers_are_read_and_remembered() -> None:
    encoder, decoder = hpack.Encoder(), head.HeadDecoder(65536)
    first = decoder.decode(encoder.encode(CALL))
    assert (first.method, first.path, first.timeout) == (b"POST", b"/a/B", 1.5)
    assert first.request_id == b"r"
    block = encoder.encode(CALL)
    second = decoder.decode(block)
    assert second == first
    assert decoder.decode(block) is second
    encoder.encode([("new", "entry")])
    changed = hpack.Encoder().encode([("other", "entry")])
    decoder.decode(changed)
    assert decoder.decode(block) is not second


@given(st.binary(max_size=100))
def test_any_header_block_is_read_or_refused(raw: bytes) -> None:
    decoder = head.HeadDecoder(1000)
    with suppress(ConnectionFault):
        decoder.decode(raw)


def test_a_header_bomb_is_refused() -> None:
    block = hpack.Encoder().encode([("x", "y" * 4000)] * 100)
    with pytest.raises(ConnectionFault) as caught:
        head.HeadDecoder(65536).decode(block)
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_answers_read_as_they_were_meant() -> None:
    decoder = hpack.Decoder()
    fields = dict(decoder.decode(head.RESPONSE))
    assert fields[":status"] == "200"
    assert fields["content-type"] == "application/grpc"
    assert dict(decoder.decode(head.TRAILERS_OK)) == {"grpc-status": "0"}
    long = "é % " + "x" * 400
    fields = dict(decoder.decode(head.trailers(GrpcCode.NOT_FOUND, long)))
    assert fields["grpc-status"] == "5"
    assert fields["grpc-message"] == "%C3%A9 %25 " + "x" * 400
    assert dict(decoder.decode(head.UNSUPPORTED_MEDIA_TYPE))[":status"] == "415"


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [
        (b"1H", 3600.0),
        (b"2M", 120.0),
        (b"3S", 3.0),
        (b"7u", 7e-6),
        (b"x", None),
        (b"9999999999S", None),
    ],
)
def test_timeouts(raw: bytes, seconds: float | None) -> None:
    encoder = hpack.Encoder()
    block = encoder.encode([(b"grpc-timeout", raw)])
    assert head.HeadDecoder(65536).decode(block).timeout == seconds
