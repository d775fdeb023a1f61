"""How much a client may ask of the server, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Attributes:
    json_bytes: largest JSON body.
    binary_bytes: largest body with binary tensors, and largest gRPC message.
    send_bytes: largest gRPC message that is sent; 0 is no limit.
    head_bytes: request line and headers together.
    head_seconds: from the first byte of a request to the end of its headers.
    body_seconds: longest silence within a body.
    keep_alive_seconds: an idle connection is closed after this; longer than the gateway keeps
        its own, so that the gateway never writes into a connection that is being closed.
    concurrency: requests of one model worked on at once; 0 is no limit.
    waiting: requests of one model that wait for their turn; more are refused at once.
    waiting_bytes: the inputs of those that wait, together.
    request_seconds: from a whole request to its answer; 0 is no limit.
    """

    json_bytes: int = 16 * MIB
    binary_bytes: int = 64 * MIB
    send_bytes: int = 0
    head_bytes: int = 64 * 1024
    head_seconds: float = 20.0
    body_seconds: float = 60.0
    keep_alive_seconds: float = 75.0
    concurrency: int = 0
    waiting: int = 4096
    waiting_bytes: int = 256 * MIB
    request_seconds: float = 0.0


DEFAULT_LIMITS = Limits()
