"""Compressed bodies, unpacked within a limit whatever their compressed size promises."""

from __future__ import annotations

import zlib

from kedge.protocol.errors import InvalidInput, PayloadTooLarge

_MIB = 1 << 20


def decompress(body: bytes | memoryview, encoding: bytes, limit: int) -> bytes:
    """The body behind `content-encoding`."""
    if encoding.lower() not in (b"gzip", b"x-gzip", b"deflate"):
        raise InvalidInput(
            f"content-encoding {encoding[:40].decode('latin-1')!r} is not understood.",
            fix="Send the body as it is, or with gzip or deflate.",
        )
    unpacker = zlib.decompressobj(wbits=47)
    try:
        plain = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidInput(f"The body is not valid {encoding.decode('latin-1')}.") from error
    if len(plain) > limit:
        raise too_large(limit, limit + 1, "unpacked body")
    if not unpacker.eof:
        raise InvalidInput("The compressed body ends too early.")
    return plain


def too_large(limit: int, size: int | None, what: str = "body") -> PayloadTooLarge:
    found = f"has {size} bytes" if size is not None else "goes on"
    return PayloadTooLarge(
        f"The {what} {found}, but this server takes {limit // _MIB} MiB.",
        fix="Send large tensors in binary form (Inference-Header-Content-Length) or over gRPC.",
    )
