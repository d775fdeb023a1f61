"""Where a worker's connections come in: the parent accepts them and hands them over."""

from __future__ import annotations

import array
import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from kedge.server.log import logger
from kedge.server.ports import Factory
from kedge.server.workers.board import Board
from kedge.server.workers.seat import Seat

HTTP, GRPC = b"h", b"g"
_AT_ONCE = 32


class Watched(set[Any]):
    """Connections, whose number someone wants to know."""

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self._changed = changed

    def add(self, connection: Any) -> None:
        super().add(connection)
        self._changed()

    def discard(self, connection: Any) -> None:
        super().discard(connection)
        self._changed()


class Inbox:
    """A worker's side of it; a `Door`. `arrive` returns when the worker may begin to take."""

    def __init__(self, seat: Seat, board: Board, arrive: Callable[[], Awaitable[None]]) -> None:
        self._arrive = arrive
        self.http_port = seat.http_port
        self.grpc_port = seat.grpc_port
        self._slot = seat.slot
        self._board = board
        self._sock = socket.socket(fileno=seat.inboxes[seat.slot])
        self._sock.setblocking(False)
        self._taken = board.taken(seat.slot)
        self._sets: list[Watched] = []
        self._arriving: set[asyncio.Task[Any]] = set()
        self._factories: dict[bytes, Factory] = {}

    def connections(self) -> set[Any]:
        watched = Watched(self._publish)
        self._sets.append(watched)
        return watched

    async def open(self, http: Factory, grpc: Factory | None) -> None:
        self._factories = {HTTP: http} | ({GRPC: grpc} if grpc is not None else {})
        await self._arrive()
        asyncio.get_running_loop().add_reader(self._sock.fileno(), self._take)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._sock.fileno())
        for task in self._arriving:
            task.cancel()

    def _publish(self) -> None:
        count = sum(map(len, self._sets)) + len(self._arriving)
        self._board.set_connections(self._slot, count)

    def _take(self) -> None:
        """What is counted here is no longer counted as being on its way."""
        for _ in range(_AT_ONCE):
            try:
                handed = receive(self._sock)
            except OSError:
                return
            if handed is None:
                return
            kind, connection = handed
            task = asyncio.get_running_loop().create_task(self._welcome(kind, connection))
            self._arriving.add(task)
            task.add_done_callback(self._arrived)
            self._publish()
            self._taken += 1
            self._board.set_taken(self._slot, self._taken)

    async def _welcome(self, kind: bytes, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(self._factories[kind], connection)
        except OSError as error:
            logger.debug("a connection went away as it came: %s", error)
            connection.close()

    def _arrived(self, task: asyncio.Task[Any]) -> None:
        self._arriving.discard(task)
        self._publish()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a connection was lost", exc_info=error)


def receive(inbox: socket.socket) -> tuple[bytes, socket.socket] | None:
    """A connection out of an inbox; None when the other end is closed."""
    kind, ancillary, _, _ = inbox.recvmsg(1, socket.CMSG_SPACE(array.array("i").itemsize))
    for level, what, data in ancillary:
        if (level, what) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            connection = socket.socket(fileno=array.array("i", data)[0])
            connection.setblocking(False)
            return kind, connection
    return None


def hand(inbox: socket.socket, kind: bytes, connection: socket.socket) -> bool:
    """Gives a connection away; False when the inbox is full or has nobody behind it."""
    try:
        socket.send_fds(inbox, [kind], [connection.fileno()])
    except OSError:
        return False
    return True
