"""The headers of a gRPC call, and those of its answer.

Answers use only literals that enter no table: they are the same bytes every time, and no encoder
has a state. Requests are decoded by `hpack`; a block that changed no table decodes the same the
next time, so that a client's second call costs a dictionary look-up.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote

import hpack
from hpack.exceptions import HPACKError, OversizedHeaderListError

from kedge.protocol.errors import GrpcCode
from kedge.server.grpc.frames import ConnectionFault, ErrorCode
from kedge.server.request_id import NAME

_MANY_BLOCKS = 256
_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


class Head(NamedTuple):
    """What a call's headers say.

    Attributes:
        timeout: seconds the client will wait; None when it did not say.
        encoding: of its messages.
        request_id: as the client sent it; empty when it did not.
    """

    method: bytes
    path: bytes
    content_type: bytes
    encoding: bytes
    timeout: float | None
    request_id: bytes
    fields: tuple[tuple[bytes, bytes], ...]

    def metadata(self) -> dict[str, str]:
        """The headers as a model sees them."""
        return {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in self.fields
            if not name.startswith(b":")
        }


class HeadDecoder:
    """Header blocks of one connection."""

    def __init__(self, largest: int) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=largest)
        self._known: dict[bytes, Head] = {}

    def decode(self, block: bytes) -> Head:
        found = self._known.get(block)
        if found is not None:
            return found
        table = self._decoder.header_table
        before = self._state()
        try:
            fields = tuple((bytes(n), bytes(v)) for n, v in self._decoder.decode(block, raw=True))
        except OversizedHeaderListError as error:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "headers too large") from error
        except (HPACKError, IndexError, UnicodeDecodeError) as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "headers unreadable") from error
        head = _head(fields)
        if table is not self._decoder.header_table or before != self._state():
            self._known.clear()
        else:
            if len(self._known) >= _MANY_BLOCKS:
                self._known.clear()
            self._known[block] = head
        return head

    def _state(self) -> tuple[int, int, int]:
        """Changes whenever the dynamic table does."""
        table = self._decoder.header_table
        entries = table.dynamic_entries
        return len(entries), id(entries[0]) if entries else 0, table.maxsize


def _head(fields: tuple[tuple[bytes, bytes], ...]) -> Head:
    values = dict(fields)
    return Head(
        method=values.get(b":method", b""),
        path=values.get(b":path", b""),
        content_type=values.get(b"content-type", b""),
        encoding=values.get(b"grpc-encoding", b"identity"),
        timeout=_seconds(values.get(b"grpc-timeout")),
        request_id=values.get(NAME, b""),
        fields=fields,
    )


def _seconds(raw: bytes | None) -> float | None:
    match = _TIMEOUT.fullmatch(raw) if raw is not None else None
    return int(match[1]) * _UNITS[match[2]] if match else None


# -- answers -------------------------------------------------------------------------------------


def _literal(name: bytes, value: bytes) -> bytes:
    """A field that enters no table, without Huffman coding."""
    return b"\x00" + _string(name) + _string(value)


def _string(raw: bytes) -> bytes:
    length = len(raw)
    if length < 127:
        return bytes((length,)) + raw
    length -= 127
    encoded = bytearray((127,))
    while length >= 128:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded) + raw


_STATUS_200 = b"\x88"
RESPONSE = (
    _STATUS_200
    + _literal(b"content-type", b"application/grpc")
    + _literal(b"grpc-accept-encoding", b"identity,deflate,gzip")
)
_REQUEST_ID = b"\x00" + _string(NAME)
TRAILERS_OK = _literal(b"grpc-status", b"0")
UNSUPPORTED_MEDIA_TYPE = b"\x08" + _string(b"415") + _literal(b"content-length", b"0")


def response(request_id: str) -> bytes:
    """The headers of the answer to one request."""
    return RESPONSE + _REQUEST_ID + _string(request_id.encode("latin-1"))


def trailers(code: GrpcCode, message: str) -> bytes:
    text = quote(message[:1500], safe=_PRINTABLE)
    return _literal(b"grpc-status", b"%d" % code) + _literal(b"grpc-message", text.encode())
