"""Large JSON answers, compressed for clients that ask for it; in a thread, which zlib lets run."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable

from kedge.server.http.reply import JSON, Reply

PACKED_BYTES = 16 * 1024
"""Smaller answers are sent sooner than they are compressed."""
_LEVEL = 1
_GZIP = 31


def wants_packing(headers: Iterable[tuple[bytes, bytes]], reply: Reply) -> bool:
    """Whether `reply` is large JSON, and the client takes gzip. Arrays in binary form stay."""
    body = reply.body
    if (len(body) == 1 and len(body[0]) < PACKED_BYTES) or reply.content_type != JSON:
        return False
    if b"content-encoding" in reply.headers:
        return False
    return any(name == b"accept-encoding" and _takes_gzip(value) for name, value in headers)


def _takes_gzip(accepted: bytes) -> bool:
    for one in accepted.lower().split(b","):
        coding, _, quality = one.partition(b";")
        if coding.strip() == b"gzip":
            return quality.replace(b" ", b"") not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")
    return False


async def packed(reply: Reply) -> Reply:
    body = await asyncio.to_thread(_pack, reply.body)
    headers = reply.headers + b"content-encoding: gzip\r\nvary: accept-encoding\r\n"
    return Reply(reply.status, body, reply.content_type, headers)


def _pack(body: list[bytes]) -> list[bytes]:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    pieces = [packer.compress(piece) for piece in body]
    return [b"".join((*pieces, packer.flush()))]
