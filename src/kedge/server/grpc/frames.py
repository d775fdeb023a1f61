"""HTTP/2 frames (RFC 9113): what they look like, how they are read and written. No I/O."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple, cast

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DEFAULT_WINDOW = 65_535
DEFAULT_FRAME_SIZE = 16_384
LARGEST_WINDOW = 2**31 - 1
LARGEST_FRAME = 2**24 - 1
_LARGE = 4096

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9

END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x1, 0x4, 0x8, 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 1, 2, 3
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 4, 5, 6

_HEAD = struct.Struct(">BHBBL")
_SETTING = struct.Struct(">HL")
_WORD = struct.Struct(">L")


class ErrorCode(IntEnum):
    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ConnectionFault(Exception):
    """The peer broke the protocol: the connection ends with this code."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class Frame(NamedTuple):
    """One frame; large DATA is a view of what was received."""

    kind: int
    flags: int
    stream: int
    payload: bytes


class FrameReader:
    """Cuts a byte stream into frames, and never holds more than one that is incomplete."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._pending: list[bytes] = []
        self._have = 0
        self._need = 9

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes."""
        if self._pending:
            self._pending.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._pending)
            self._pending = []
        position, end = 0, len(data)
        while end - position >= 9:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, position)
            length = high << 16 | low
            if length > self._largest:
                raise ConnectionFault(
                    ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes is too large"
                )
            stop = position + 9 + length
            if stop > end:
                self._keep(data[position:], 9 + length)
                return
            if kind == DATA and length >= _LARGE:
                payload = cast(bytes, memoryview(data)[position + 9 : stop])
            else:
                payload = data[position + 9 : stop]
            yield Frame(kind, flags, stream & 0x7FFFFFFF, payload)
            position = stop
        if position < end:
            self._keep(data[position:], 9)

    def _keep(self, rest: bytes, need: int) -> None:
        self._pending = [rest]
        self._have = len(rest)
        self._need = need


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    length = len(payload)
    return _HEAD.pack(length >> 16, length & 0xFFFF, kind, flags, stream) + payload


def frame_head(kind: int, flags: int, stream: int, length: int) -> bytes:
    return _HEAD.pack(length >> 16, length & 0xFFFF, kind, flags, stream)


def settings(values: dict[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*pair) for pair in values.items()))


def read_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    if len(payload) % 6:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS is not a multiple of 6 bytes")
    return _SETTING.iter_unpack(payload)


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, _WORD.pack(increment))


def rst_stream(stream: int, code: ErrorCode) -> bytes:
    return frame(RST_STREAM, 0, stream, _WORD.pack(code))


def goaway(last_stream: int, code: ErrorCode, text: str = "") -> bytes:
    payload = _WORD.pack(last_stream) + _WORD.pack(code) + text.encode()[:200]
    return frame(GOAWAY, 0, 0, payload)


def read_word(payload: bytes) -> int:
    if len(payload) != 4:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame must have 4 bytes")
    return int(_WORD.unpack(payload)[0])


def unpadded(one: Frame) -> bytes:
    """The payload of DATA or HEADERS without its padding and priority."""
    payload, start, padding = one.payload, 0, 0
    if one.flags & PADDED:
        if not payload:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a padded frame is empty")
        start, padding = 1, payload[0]
    if one.kind == HEADERS and one.flags & PRIORITIZED:
        start += 5
    if start + padding > len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding is longer than its frame")
    return payload[start : len(payload) - padding] if start or padding else payload
