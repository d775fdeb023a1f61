"""The preloader: it loads the models once, and every worker is forked from it.

Forking shares memory only while nobody writes to it, and is safe only in a process of one thread:
the frameworks are held to one before they are imported, and the threads are counted when the
models have been loaded and tried. It has no event loop but while it loads.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedge.server.errors import StartFailure, out_of_memory
from kedge.server.log import logger
from kedge.server.model import Model
from kedge.server.repository import Entry, Repository
from kedge.server.workers.seat import Seat
from kedge.server.workers.wire import Kind, Line, Message, refusal, words

if TYPE_CHECKING:
    from kedge.server.server import ModelServer

_SETTLE_SECONDS = 1.0


@dataclass
class Fork:
    """A request to become a worker."""

    slot: int
    control: int


class Preloader:
    """See the module."""

    def __init__(self, seat: Seat, server: ModelServer) -> None:
        self._seat = seat
        self._repository: Repository = server.repository
        self._server = server
        self._line = Line(socket.socket(fileno=seat.control))
        self._forks = socket.socket(fileno=seat.forks)
        self._prepared: dict[str, Entry] = {}

    def run(self, models: Sequence[Model]) -> Seat:
        """Returns in each worker that was forked, with its seat; here it never does."""
        self._load(models)
        while (message := self._line.receive()) is not None:
            if message.what == "fork":
                if (seat := self._fork(message)) is not None:
                    return seat
            else:
                self._line.send(self._answer(message))
        os._exit(0)

    def _load(self, models: Sequence[Model]) -> None:
        try:
            asyncio.run(self._start(models))
        except StartFailure as failure:
            self._line.send(Message(Kind.NEWS, 0, "failed", words(failure)))
            raise
        except MemoryError as error:
            too_large = out_of_memory()
            self._line.send(Message(Kind.NEWS, 0, "failed", words(too_large)))
            raise too_large from error
        reason = unsafe()
        if reason:
            self._line.send(Message(Kind.NEWS, 0, "unsafe", reason))
            os._exit(0)
        _freeze()
        self._line.send(Message(Kind.NEWS, 0, "loaded", os.getpid()))

    async def _start(self, models: Sequence[Model]) -> None:
        for model in models:
            await self._server.load(model)
        held = self._seat.held
        if held is not None:
            for name in held.loaded:
                self._repository.place(await self._repository.prepare(name, threaded=False))
            self._repository.note_unloaded(held.unloaded)

    # -- changes ---------------------------------------------------------------------------------

    def _answer(self, message: Message) -> Message:
        steps = {
            "prepare": self._prepare,
            "commit": self._commit,
            "abort": self._abort,
            "remove": self._repository.remove,
        }
        try:
            steps[message.what](message.body)
        except Exception as error:
            return refusal(message.number, error)
        return Message(Kind.ANSWER, message.number, "")

    def _prepare(self, name: str) -> None:
        entry = asyncio.run(self._repository.prepare(name, threaded=False))
        reason = unsafe()
        if reason:
            self._repository.discard(entry)
            raise StartFailure(
                f"Model {name} cannot be shared by the workers: {reason}.",
                fix="Start the server with --preload=false.",
            )
        self._prepared[name] = entry

    def _commit(self, name: str) -> None:
        self._repository.place(self._prepared.pop(name))
        _freeze()

    def _abort(self, name: str) -> None:
        if (entry := self._prepared.pop(name, None)) is not None:
            self._repository.discard(entry)

    # -- forking ---------------------------------------------------------------------------------

    def _fork(self, message: Message) -> Seat | None:
        """The worker's seat, in the worker. It becomes the parent's child: its own is gone."""
        slot = int(message.body)
        _, files, _, _ = socket.recv_fds(self._forks, 1, 1)
        told, tell = os.pipe()
        between = os.fork()
        if between == 0:
            os.close(told)
            worker = os.fork()
            if worker:
                os.write(tell, str(worker).encode())
                os._exit(0)
            os.close(tell)
            return self._become(slot, files[0])
        os.close(tell)
        os.close(files[0])
        pid = int(os.read(told, 32) or 0)
        os.close(told)
        os.waitpid(between, 0)
        self._line.send(Message(Kind.ANSWER, message.number, "", pid))
        return None

    def _become(self, slot: int, control: int) -> Seat:
        self._line.close()
        self._forks.close()
        for other, inbox in self._seat.inboxes.items():
            if other != slot:
                os.close(inbox)
        if (numpy := sys.modules.get("numpy")) is not None:
            numpy.random.seed()
        seat: Any = {name: getattr(self._seat, name) for name in self._seat.__struct_fields__}
        return Seat(**seat | {"role": "worker", "slot": slot, "control": control, "forks": -1})


def _freeze() -> None:
    """What is here now is left alone by the collector, which would write to every object."""
    gc.collect()
    gc.freeze()


def unsafe() -> str:
    """Why this process may not be forked; empty when it may. Threads that end are waited for."""
    end = time.monotonic() + _SETTLE_SECONDS
    while len(threads := list(Path("/proc/self/task").iterdir())) > 1:
        if time.monotonic() > end:
            return f"loading left {len(threads) - 1} threads running"
        time.sleep(0.01)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "it uses a GPU"
    logger.debug("one thread: forking is safe")
    return ""
