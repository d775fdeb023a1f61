"""The parent's side of the door: it accepts, and whoever has the fewest connections gets the next.

Nothing is lost with a worker: what nobody took is in a socket that the parent holds as well.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from dataclasses import dataclass, field

from kedge.server.log import logger
from kedge.server.workers.board import Board
from kedge.server.workers.door import GRPC, HTTP, hand, receive

_AT_ONCE = 64
_RETRY_SECONDS = 0.01


@dataclass
class Outlet:
    """What leads to one worker.

    Attributes:
        ours: where the parent puts connections.
        theirs: where the worker takes them; whoever has this slot next finds what is left.
        handed: connections ever put there.
        serving: it takes them.
        leaving: it is on its way out, and is given one only if there is nobody else.
    """

    slot: int
    ours: socket.socket = field(init=False)
    theirs: socket.socket = field(init=False)
    handed: int = 0
    serving: bool = False
    leaving: bool = False

    def __post_init__(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.setblocking(False)
        self.theirs.setblocking(False)

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


class Distribution:
    """See the module. Nothing is accepted while nobody serves."""

    def __init__(self, board: Board, outlets: list[Outlet]) -> None:
        self._board = board
        self._outlets = outlets
        self._listeners: dict[bytes, socket.socket] = {}
        self._held: deque[tuple[bytes, socket.socket]] = deque()
        self._reading = False
        self._last = 0

    def open(self, http: socket.socket, grpc: socket.socket | None) -> None:
        self._listeners = {HTTP: http} | ({GRPC: grpc} if grpc is not None else {})
        self._resume()

    def close(self) -> None:
        self._pause()
        self._listeners = {}
        for _, connection in self._held:
            connection.close()

    def begin(self, slot: int) -> None:
        """A worker takes connections from now on."""
        outlet = self._outlets[slot]
        outlet.serving, outlet.leaving = True, False
        self._resume()

    def end(self, slot: int) -> None:
        """A worker is gone: what it had not taken goes to the others, or waits for the next."""
        outlet = self._outlets[slot]
        outlet.serving = False
        self._board.set_connections(slot, 0)
        if not any(one.serving for one in self._outlets):
            self._pause()
            return
        while (left := self._take_back(outlet)) is not None:
            self._give(*left)
        outlet.handed = self._board.taken(slot)

    def leave(self, slot: int) -> None:
        self._outlets[slot].leaving = True

    def _take_back(self, outlet: Outlet) -> tuple[bytes, socket.socket] | None:
        try:
            return receive(outlet.theirs)
        except OSError:
            return None

    def _resume(self) -> None:
        if self._reading or not any(one.serving for one in self._outlets):
            return
        self._reading = True
        loop = asyncio.get_running_loop()
        for kind, listener in self._listeners.items():
            loop.add_reader(listener.fileno(), self._accept, kind, listener)

    def _pause(self) -> None:
        self._reading = False
        loop = asyncio.get_running_loop()
        for listener in self._listeners.values():
            loop.remove_reader(listener.fileno())

    def _accept(self, kind: bytes, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                logger.error("no connection can be accepted: %s", error)
                self._later()
                return
            self._give(kind, connection)
            if not self._reading:
                return

    def _give(self, kind: bytes, connection: socket.socket) -> None:
        for outlet in sorted((one for one in self._outlets if one.serving), key=self._load):
            if hand(outlet.ours, kind, connection):
                connection.close()
                outlet.handed += 1
                self._last = outlet.slot
                return
        self._held.append((kind, connection))
        self._later()

    def _load(self, outlet: Outlet) -> tuple[bool, int, int]:
        """The fewest first; among equals whoever has waited longest for one."""
        slot = outlet.slot
        under_way = outlet.handed - self._board.taken(slot)
        turn = (slot - self._last - 1) % len(self._outlets)
        return outlet.leaving, self._board.connections(slot) + under_way, turn

    def _later(self) -> None:
        """Every inbox is full, or there are no files left: a moment's rest."""
        self._pause()
        asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        held, self._held = self._held, deque()
        self._resume()
        for kind, connection in held:
            self._give(kind, connection)
