"""One worker: a model server whose door, repository and figures are those of all workers."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kedge.protocol.errors import ModelNotFound
from kedge.server import phases
from kedge.server.errors import ModelLoadFailed, StartFailure, out_of_memory
from kedge.server.model import Model
from kedge.server.repository import Entry, settled
from kedge.server.statistics import ModelStatistics
from kedge.server.workers import figures
from kedge.server.workers.board import Board, State
from kedge.server.workers.door import Inbox
from kedge.server.workers.seat import Seat
from kedge.server.workers.wire import Gone, Peer, Refused, words

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from kedge.server.server import ModelServer

BEAT_SECONDS = 1.0


class Member:
    """Ties a server to its parent; it is the server's `Crew`, and its repository's `Changes`."""

    def __init__(self, seat: Seat, server: ModelServer) -> None:
        self._seat = seat
        self._server = server
        self._board = Board(seat.board, seat.of)
        self._prepared: dict[str, Entry] = {}
        self._told = -1
        self._peer = Peer(
            {
                "prepare": self._prepare,
                "commit": self._commit,
                "abort": self._abort,
                "remove": self._remove,
                "names": self._names,
                "figures": self._figures,
                "drain": self._drain,
                "leave": self._leave,
                "hand back": self._hand_back,
            }
        )

    async def run(self, models: Callable[[], Sequence[Model]]) -> None:
        """Serves until the parent says it is enough."""
        await self._peer.connect(socket.socket(fileno=self._seat.control))
        talk = asyncio.create_task(self._talk())
        self._server.join(Inbox(self._seat, self._board, self._arrive), self, self)
        try:
            await self._restore()
            await self._server.serve(() if self._seat.held is not None else models())
        except StartFailure as failure:
            await self._confess(failure)
            raise
        except MemoryError as error:
            too_large = out_of_memory()
            await self._confess(too_large)
            raise too_large from error
        finally:
            talk.cancel()
            self._peer.close()

    async def _talk(self) -> None:
        """A worker without a parent would answer nobody: there is no one to hand it clients."""
        await self._peer.run()
        os._exit(1)

    async def _arrive(self) -> None:
        """Returns when everyone is here, at the start; at once in the place of one that is gone."""
        await self._peer.ask("arrived", phases.moments())
        self._beat()

    async def _confess(self, failure: StartFailure) -> None:
        try:
            await self._peer.ask("failed", words(failure))
        except (Gone, Refused):
            return

    async def _restore(self) -> None:
        """What was loaded and unloaded since the start, where the command line cannot tell."""
        held = self._seat.held
        if held is not None:
            repository = self._server.repository
            for name in held.loaded:
                repository.place(await repository.prepare(name, threaded=False))
            repository.note_unloaded(held.unloaded)

    def _beat(self) -> None:
        """Once a second: that the loop turns, whether the models are ready, and what is new."""
        loop = asyncio.get_running_loop()
        row = self._seat.slot
        ready = self._server.dataplane.ready_here()
        self._board.set_state(row, State.READY if ready else State.UNREADY)
        self._board.set_beat(row, int(time.monotonic() * 1000))
        if (served := self._server.served()) != self._told:
            self._told = served
            self._peer.tell("figures", self._encoded())
        loop.call_later(BEAT_SECONDS, self._beat)

    # -- what the parent asks for ----------------------------------------------------------------

    async def _prepare(self, name: str) -> None:
        self._prepared[name] = await self._server.repository.prepare(name)

    async def _commit(self, name: str) -> None:
        await settled(name, self._server.repository.place(self._prepared.pop(name)))

    async def _abort(self, name: str) -> None:
        if (entry := self._prepared.pop(name, None)) is not None:
            self._server.repository.discard(entry)

    async def _remove(self, name: str) -> None:
        await settled(name, self._server.repository.remove(name))

    async def _names(self, _: None) -> list[str]:
        return self._server.repository.names()

    async def _figures(self, _: None) -> bytes:
        return self._encoded()

    def _encoded(self) -> bytes:
        server = self._server
        found = figures.taken(server.metrics.families(), server.dataplane.statistics.of())
        return figures.encode(found)

    async def _drain(self, _: None) -> None:
        self._server.stop()

    async def _hand_back(self, count: int) -> None:
        self._server.hand_back(count)

    def leaving(self) -> None:
        self._peer.tell("leaving")

    async def _leave(self, _: None) -> None:
        self._server.stop(now=True)

    # -- what the server asks of its crew --------------------------------------------------------

    def ready(self) -> bool:
        return self._board.all_ready()

    async def families(self) -> list[Metric]:
        return figures.metrics(await self._everyone())

    async def statistics(self) -> list[ModelStatistics]:
        return (await self._everyone()).statistics

    async def _everyone(self) -> figures.Figures:
        return figures.decode(await self._peer.ask("everyone"))

    async def load(self, name: str) -> None:
        await self._change("load", name)

    async def unload(self, name: str) -> None:
        await self._change("unload", name)

    async def _change(self, what: str, name: str) -> None:
        try:
            await self._peer.ask(what, name)
        except Refused as refused:
            if refused.reason == ModelNotFound.reason:
                raise ModelNotFound(name) from refused
            raise ModelLoadFailed(refused.message, fix=refused.fix) from refused
