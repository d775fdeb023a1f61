"""The messages of a streaming call, cut from DATA as it arrives and taken one by one.

What is here and not yet taken is bounded by the stream's window: the connection opens it again only
as messages are taken, so that a client cannot send faster than the model answers. A message that
has begun may always end: a client that writes it whole before it reads would wait for ever.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable

from kedge.protocol.errors import PayloadTooLarge

PREFIX = struct.Struct(">BL")


class Inbox:
    """An asynchronous iterator of messages: (compressed, bytes).

    Attributes:
        waiting: bytes of whole messages that nobody has taken yet.
    """

    def __init__(self, limit: int, on_take: Callable[[int], None]) -> None:
        self._limit = limit
        self._on_take = on_take
        self._partial = bytearray()
        self._messages: deque[tuple[bool, bytes]] = deque()
        self._arrived = asyncio.Event()
        self._ended = False
        self.waiting = 0

    def feed(self, data: bytes) -> None:
        """Takes what DATA frames carried; raises `PayloadTooLarge` at a message's own prefix."""
        self._partial += data
        while len(self._partial) >= PREFIX.size:
            compressed, length = PREFIX.unpack_from(self._partial)
            if length > self._limit:
                raise PayloadTooLarge(
                    f"A message of {length} bytes is larger than this server takes "
                    f"({self._limit} bytes)."
                )
            end = PREFIX.size + length
            if len(self._partial) < end:
                return
            self._messages.append((bool(compressed), bytes(self._partial[PREFIX.size : end])))
            del self._partial[:end]
            self.waiting += end
            self._arrived.set()

    @property
    def missing(self) -> int:
        """Bytes until the message that has begun is whole; 0 when none has."""
        if len(self._partial) < PREFIX.size:
            return 0
        return PREFIX.size + int(PREFIX.unpack_from(self._partial)[1]) - len(self._partial)

    def end(self) -> None:
        """No more will come."""
        self._ended = True
        self._arrived.set()

    def __aiter__(self) -> Inbox:
        return self

    async def __anext__(self) -> tuple[bool, bytes]:
        while not self._messages:
            if self._ended:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        compressed, message = self._messages.popleft()
        self.waiting -= PREFIX.size + len(message)
        self._on_take(PREFIX.size + len(message))
        return compressed, message
