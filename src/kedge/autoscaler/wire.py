"""What gateways tell the autoscaler: messages of one bidirectional gRPC stream, as msgpack.

A gateway opens the stream and says who it is. From then on it reports every second, and tells at
once of the first request for what rests at zero. A gateway that ends for good says goodbye; one
that is merely gone is missed, and while it is, no pod goes. Nothing is sent back yet.
"""

from __future__ import annotations

import msgspec

METHOD = "/kedge.autoscaler.Signals/Report"

Signal = tuple[float, float, float]
"""Requests in flight on average (held ones included), requests a second, requests held now."""


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The first message of a stream.

    Attributes:
        gateway: the gateway's name, the same after a restart.
    """

    gateway: str


class Report(msgspec.Struct, frozen=True, tag="report"):
    """What went on since the report before.

    Attributes:
        seconds: how long that was.
        revisions: by `namespace/private service`; what is not in it had nothing.
    """

    seconds: float
    revisions: dict[str, Signal]


class Wake(msgspec.Struct, frozen=True, tag="wake"):
    """A request is being held.

    Attributes:
        key: what it is for, `namespace/private service`.
        held: how many are.
    """

    key: str
    held: float = 1.0


Count = tuple[int, int, int, tuple[int, ...]]
"""Requests answered 2xx, 4xx, 5xx, and how many took how long, by `settings.gateway`'s buckets."""


class Counted(msgspec.Struct, frozen=True, tag="counted"):
    """What became of requests, for people; sent every ten seconds or so.

    Attributes:
        seconds: since when these are the first.
        revisions: by `namespace/private service`.
    """

    seconds: float
    revisions: dict[str, Count]


class Goodbye(msgspec.Struct, frozen=True, tag="goodbye"):
    """This gateway ends and has no requests any more."""


Message = Hello | Report | Wake | Counted | Goodbye

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    return _ENCODER.encode(message)


def decode(data: bytes) -> Message:
    """Raises `msgspec.DecodeError` for anything else."""
    message: Message = _DECODER.decode(data)
    return message
