"""An HTTP answer before it is bytes on a connection."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from kedge.protocol.errors import ServingError, rest_status

JSON = b"application/json"
BINARY = b"application/octet-stream"


@dataclass(slots=True)
class Reply:
    """Status, content type, and a body in pieces; `headers` are further lines, each with CRLF."""

    status: int
    body: list[bytes]
    content_type: bytes = JSON
    headers: bytes = b""


def error_reply(error: ServingError) -> Reply:
    """The protocol's error object; one that passes says when to come back."""
    status = rest_status(error)
    headers = b"retry-after: 1\r\n" if status == 503 else b""
    return Reply(status, [orjson.dumps({"error": str(error)})], headers=headers)


def named(reply: Reply, request_id: str) -> Reply:
    """`reply`, which from now on says which request it answers."""
    reply.headers += b"x-request-id: %s\r\n" % request_id.encode("latin-1")
    return reply
