"""Questions and answers between the parent and its workers, over a Unix socket.

Each message is a length and a MessagePack array. Both ends may ask; who is asked answers, or
refuses with a reason. A question whose other end goes away is `Gone`.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from enum import IntEnum
from typing import Any

import msgspec

from kedge.lib.errors import KedgeError
from kedge.server.log import logger

Handler = Callable[[Any], Awaitable[Any]]

_LENGTH = struct.Struct(">I")


class Kind(IntEnum):
    QUESTION = 0
    ANSWER = 1
    REFUSAL = 2
    NEWS = 3


class Message(msgspec.Struct, array_like=True):
    """Attributes:
    what: names the question or the news.
    number: of the question, repeated by its answer.
    """

    kind: Kind
    number: int
    what: str
    body: Any = None


class Refused(KedgeError):
    """The other end could not do what it was asked to."""


class Gone(KedgeError):
    """The other end is no more."""

    reason = "WorkerGone"


def encode(message: Message) -> bytes:
    content = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(content)) + content


def decode(content: bytes) -> Message:
    return msgspec.msgpack.decode(content, type=Message)


def refusal(number: int, error: Exception) -> Message:
    """What the one who asked is told of an error."""
    if not isinstance(error, KedgeError):
        error = KedgeError(f"{type(error).__name__}: {error}")
    return Message(Kind.REFUSAL, number, "", words(error))


def words(error: KedgeError) -> list[str]:
    """An error as it is told."""
    return [error.reason, error.message, error.fix]


class Peer:
    """One end, on an event loop."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader | None = None

    async def connect(self, sock: socket.socket) -> None:
        self._reader, self._writer = await asyncio.open_unix_connection(sock=sock)

    async def run(self) -> None:
        """Answers until the other end is gone."""
        assert self._reader is not None
        try:
            while True:
                head = await self._reader.readexactly(_LENGTH.size)
                content = await self._reader.readexactly(_LENGTH.unpack(head)[0])
                self._receive(decode(content))
        except (asyncio.IncompleteReadError, OSError):
            return
        finally:
            self.close()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for future in self._asked.values():
            if not future.done():
                future.set_exception(Gone("The other process has ended."))
        self._asked.clear()
        for task in self._tasks:
            task.cancel()

    async def ask(self, what: str, body: Any = None) -> Any:
        """The answer; raises `Refused` or `Gone`."""
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        try:
            self._send(Message(Kind.QUESTION, number, what, body))
            return await future
        finally:
            self._asked.pop(number, None)

    def tell(self, what: str, body: Any = None) -> None:
        """News need no answer, and are lost on who is gone."""
        if self._writer is not None:
            self._send(Message(Kind.NEWS, 0, what, body))

    def _send(self, message: Message) -> None:
        if self._writer is None:
            raise Gone("The other process has ended.")
        self._writer.write(encode(message))

    def _receive(self, message: Message) -> None:
        if message.kind in (Kind.QUESTION, Kind.NEWS):
            task = asyncio.get_running_loop().create_task(self._answer(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        future = self._asked.get(message.number)
        if future is None or future.done():
            return
        if message.kind is Kind.ANSWER:
            future.set_result(message.body)
        else:
            reason, text, fix = message.body
            future.set_exception(Refused(text, fix=fix, reason=reason))

    async def _answer(self, message: Message) -> None:
        try:
            body = await self._handlers[message.what](message.body)
            answer = Message(Kind.ANSWER, message.number, "", body)
        except Exception as error:
            if not isinstance(error, KedgeError):
                logger.exception("%s failed", message.what)
            answer = refusal(message.number, error)
        if message.kind is Kind.QUESTION and self._writer is not None:
            self._send(answer)


class Line:
    """One end, for a process without an event loop: it is asked, one thing at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.setblocking(True)

    def receive(self) -> Message | None:
        """The next question; None when the other end is gone."""
        head = self._exactly(_LENGTH.size)
        content = head and self._exactly(_LENGTH.unpack(head)[0])
        return decode(content) if content else None

    def send(self, message: Message) -> None:
        self._sock.sendall(encode(message))

    def close(self) -> None:
        self._sock.close()

    def _exactly(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            try:
                part = self._sock.recv(size - len(found))
            except OSError:
                return b""
            if not part:
                return b""
            found += part
        return bytes(found)
