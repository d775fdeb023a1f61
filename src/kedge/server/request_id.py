"""The name that a request goes by: in its answer, in logs, events and traces.

A client's own (`x-request-id`) is kept; without one, the server makes one for less than a
microsecond: random per process, then counted.
"""

from __future__ import annotations

import os
from itertools import count

NAME = b"x-request-id"
LONGEST = 128
"""A longer one is not repeated into every log line, but replaced."""


class _Source:
    """Ids in the form of UUIDs; no two processes share the random part."""

    def __init__(self) -> None:
        random = os.urandom(14).hex()
        self._random = f"{random[:8]}-{random[8:12]}-4{random[12:15]}-8{random[15:18]}-"
        self._count = count(int(random[18:28], 16))

    def next(self) -> str:
        return f"{self._random}{next(self._count):012x}"


_source = _Source()


def _renew() -> None:
    global _source
    _source = _Source()


os.register_at_fork(after_in_child=_renew)


def new_id() -> str:
    return _source.next()


def chosen(raw: bytes) -> str:
    """The id that a client sent, or a new one where that is none that logs could carry."""
    if raw and len(raw) <= LONGEST:
        text = raw.decode("latin-1")
        if text.isprintable():
            return text
    return _source.next()


class TracedId(str):
    """The id of a request that is traced.

    Attributes:
        traceparent: the request's own span, as W3C has it: the parent of what it leads to.
    """

    __slots__ = ("traceparent",)

    traceparent: str

    def __new__(cls, text: str, traceparent: str) -> TracedId:
        made = super().__new__(cls, text)
        made.traceparent = traceparent
        return made

    @property
    def trace_id(self) -> str:
        return self.traceparent[3:35]

    @property
    def span_id(self) -> str:
        return self.traceparent[36:52]


def passed_on(request_id: str) -> dict[str, str]:
    """The headers by which whatever a request leads to is told apart."""
    if isinstance(request_id, TracedId):
        return {"x-request-id": str(request_id), "traceparent": request_id.traceparent}
    return {"x-request-id": request_id}
