"""The parent's side of the preloader: it is started when a worker is to be forked from it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from kedge.server.errors import ModelLoadFailed, StartFailure
from kedge.server.log import logger
from kedge.server.workers.processes import Processes, kill
from kedge.server.workers.seat import Seat
from kedge.server.workers.wire import Peer

SeatOf = Callable[[socket.socket, socket.socket], Seat]


class Preloading:
    """See the module.

    Attributes:
        possible: the models have been found to bear it, or have not been tried yet.
        peer: the preloader, while it is there and has loaded.
    """

    def __init__(self, processes: Processes, seat_of: SeatOf, files: tuple[int, ...]) -> None:
        self.possible = True
        self.peer: Peer | None = None
        self._processes = processes
        self._seat_of = seat_of
        self._files = files
        self._pid = 0
        self._forks: socket.socket | None = None
        self._lock = asyncio.Lock()
        self._talk: asyncio.Task[None] | None = None

    async def fork(self, slot: int, control: socket.socket) -> int:
        """The pid of a new worker; 0 where the models cannot be shared."""
        async with self._lock:
            if self.peer is None and self.possible:
                await self._begin()
        if self.peer is None or self._forks is None:
            return 0
        socket.send_fds(self._forks, [b"f"], [control.fileno()])
        return int(await self.peer.ask("fork", slot))

    async def _begin(self) -> None:
        ours, theirs = socket.socketpair()
        self._close_forks()
        self._forks, their_forks = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def loaded(_: int) -> None:
            outcome.set_result("")

        async def unsafe(reason: str) -> None:
            outcome.set_result(reason)

        async def failed(words: list[str]) -> None:
            reason, text, fix = words
            outcome.set_exception(StartFailure(text, fix=fix, reason=reason))

        peer = Peer({"loaded": loaded, "unsafe": unsafe, "failed": failed})
        await peer.connect(ours)
        with theirs, their_forks:
            files = (theirs.fileno(), their_forks.fileno(), *self._files)
            self._pid = self._processes.spawn(self._seat_of(theirs, their_forks), files, 1)
        self._talk = asyncio.create_task(self._until_gone(peer, self._pid))
        both: list[asyncio.Future[Any]] = [outcome, self._talk]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not outcome.done():
            how = await self._processes.ending(self._pid)
            raise died("The process that loads the models", how)
        if reason := outcome.result():
            logger.warning("each worker loads for itself, for %s", reason)
            self.possible = False
        else:
            self.peer = peer

    async def _until_gone(self, peer: Peer, pid: int) -> None:
        await peer.run()
        if self.peer is peer:
            self.peer = None
            if self.possible:
                logger.warning("the process that loads the models is gone")

    def close(self) -> None:
        self.possible = False
        kill(self._pid)
        self._close_forks()
        if self._talk is not None:
            self._talk.cancel()

    def _close_forks(self) -> None:
        if self._forks is not None:
            self._forks.close()


def died(who: str, how: str) -> StartFailure:
    fix = "Its log tells why."
    if "SIGKILL" in how:
        fix = "Raise limits.memory of the predictor, or start fewer --workers."
    return ModelLoadFailed(f"{who} {how} before it was ready.", fix=fix)
