"""Heads of requests that have been parsed before.

A client says the same head again and again. The parser's reading of it is kept by its bytes, so
that the next request with these very bytes is not parsed again. Ids that proxies give to every
request (`x-request-id`, `traceparent`) are left out of the key and put back into what is kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from kedge.protocol.open_inference import rest
from kedge.server.request_id import NAME

LENGTH = rest.LENGTH_HEADER.encode()
_MANY_HEADS = 1024
_LONGEST = 4096
_CHANGING = tuple((name, b"\r\n%b: " % name) for name in (NAME, b"traceparent"))
_PLAIN = re.compile(rb"[\w.-]{1,128}", re.ASCII)
_FOLDED = re.compile(rb"\n[\r \t]")
_UNUSUAL = frozenset((b"transfer-encoding", b"upgrade", b"expect", b"trailer"))

Fields = list[tuple[bytes, bytes]]


class Target(NamedTuple):
    """What a path asks for."""

    protocol: str
    model: str
    version: str


class Facts(NamedTuple):
    """What the headers of an inference say.

    Attributes:
        request_id: as the client sent it; empty when it did not.
    """

    content_type: str
    content_encoding: bytes
    json_length: bytes | None
    request_id: bytes
    is_event: bool


class Headers(Fields):
    """The headers of a request, and what was read from them."""

    __slots__ = ("facts",)

    facts: Facts

    def read(self) -> Facts:
        """The same each time; read once."""
        try:
            return self.facts
        except AttributeError:
            self.facts = read_facts(self)
            return self.facts

    def with_values(self, values: dict[bytes, bytes]) -> Headers:
        """The same with other values of some."""
        changed = Headers((name, values.get(name, value)) for name, value in self)
        changed.facts = self.read()._replace(request_id=values.get(NAME, b""))
        return changed


def read_facts(headers: Fields) -> Facts:
    content_type = content_encoding = request_id = b""
    json_length: bytes | None = None
    is_event = False
    for name, value in headers:
        if name == b"content-type":
            content_type = value
        elif name == LENGTH:
            json_length = value
        elif name == b"content-encoding":
            content_encoding = value
        elif name == NAME:
            request_id = value
        elif name == b"ce-specversion":
            is_event = True
    return Facts(
        content_type.decode("latin-1"), content_encoding, json_length, request_id, is_event
    )


@dataclass(slots=True)
class Head:
    """What a head says of the request behind it.

    Attributes:
        url: as it came; what it asks for may change with the models.
        length: bytes of its body.
        limit: most bytes of its body.
    """

    url: bytes
    target: Target
    headers: Headers
    length: int
    limit: int


class Heads:
    """By their bytes, without the last line break."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def find(self, raw: bytes) -> Head | None:
        """What the parser would make of `raw`, where it has made it before."""
        found = self._known.get(raw)
        if found is not None:
            return found
        key, values = _split(raw)
        if not values or (found := self._known.get(key)) is None:
            return None
        return Head(
            found.url, found.target, found.headers.with_values(values), found.length, found.limit
        )

    def learn(self, raw: bytes, head: Head) -> None:
        """Keeps what the parser made of `raw`, a whole head, where that is all there is to it."""
        if len(raw) > _LONGEST or not raw.startswith(b"POST ") or not _is_regular(raw):
            return
        key, values = _split(raw)
        names = [name for name, _ in head.headers]
        if any(name in _UNUSUAL for name in names):
            return
        if any(names.count(name) != (name in values) for name, _ in _CHANGING):
            return
        if len(self._known) >= _MANY_HEADS:
            self._known.clear()
        self._known[key] = head


def _is_regular(raw: bytes) -> bool:
    """Lines end as they should: the parser and `Heads` see the same lines and the same end."""
    return raw.count(b"\n") == raw.count(b"\r\n") and not _FOLDED.search(raw)


def _split(raw: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """`raw` without the values that change from request to request, and these."""
    values: dict[bytes, bytes] = {}
    for name, opening in _CHANGING:
        start = raw.find(opening)
        if start < 0:
            continue
        start += len(opening)
        end = raw.find(b"\r\n", start)
        value = raw[start:] if end < 0 else raw[start:end]
        if _PLAIN.fullmatch(value):
            values[name] = value
            raw = raw[:start] + raw[start + len(value) :]
    return raw, values
