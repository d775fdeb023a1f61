"""What replicas of the gateway say to each other: messages of a gRPC stream, as msgpack.

Each replica opens a stream to each other one. On it goes what it asks there; back comes what it is
answered, and what that replica makes of each route.
"""

from __future__ import annotations

import msgspec

METHOD = "/kedge.gateway.Peers/Talk"

Verdict = tuple[int, bool, str, str]
"""Of a route: the generation that was judged, whether it is answered, reason and message."""


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The first message of a stream: who speaks."""

    name: str


class View(msgspec.Struct, frozen=True, tag="view"):
    """The replicas that are ready, as the speaker sees them.

    By then it has stopped handing out what is another's to hand out, and has said which of its
    requests are in pods whose slots are the hearer's.

    Attributes:
        number: greater each time.
    """

    number: int
    names: tuple[str, ...]


class Seen(msgspec.Struct, frozen=True, tag="seen"):
    """The answer to `View`: the hearer knows of it."""

    number: int


class Inherited(msgspec.Struct, frozen=True, tag="inherited"):
    """Requests that an earlier process of the speaker sent to pods, by address."""

    counts: dict[str, int]


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """A request wants a slot.

    Attributes:
        number: of the request, for the speaker.
        cluster: what it came through.
        id: the request's own, the same when it comes again.
    """

    number: int
    cluster: str
    id: bytes


class Running(msgspec.Struct, frozen=True, tag="running"):
    """A request is in that pod; another replica gave it the slot."""

    number: int
    cluster: str
    address: str


class Drop(msgspec.Struct, frozen=True, tag="drop"):
    """A request has ended, or wants its slot elsewhere."""

    number: int


class Placed(msgspec.Struct, frozen=True, tag="placed"):
    """The answer to `Ask`: the pod that has a slot for it."""

    number: int
    address: str
    port: int


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The answer to `Ask`: the request is not to wait."""

    number: int
    message: str
    retry_after: int | None = None


class Verdicts(msgspec.Struct, frozen=True, tag="verdicts"):
    """What the speaker makes of routes, by `namespace/name`; None for one that is no more."""

    routes: dict[str, Verdict | None]


Message = Hello | View | Seen | Inherited | Ask | Running | Drop | Placed | Refused | Verdicts

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    return _ENCODER.encode(message)


def decode(data: bytes) -> Message:
    """Raises `msgspec.DecodeError` for anything else."""
    message: Message = _DECODER.decode(data)
    return message
