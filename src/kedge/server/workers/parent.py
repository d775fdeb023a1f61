"""The parent: it holds the ports, keeps its workers running, and is asked what concerns them all.

It loads no model and answers no request, so that nothing a model does can end it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kedge.lib.backoff import Backoff
from kedge.server import phases
from kedge.server.errors import StartFailure
from kedge.server.log import logger
from kedge.server.ports import Ports, listen
from kedge.server.workers import figures
from kedge.server.workers.board import Board, State
from kedge.server.workers.changes import Changes
from kedge.server.workers.distribution import Distribution
from kedge.server.workers.preloading import Preloading, died
from kedge.server.workers.processes import Processes, kill, threads_each
from kedge.server.workers.seat import Seat, adopt_orphans
from kedge.server.workers.slots import Slot, describe
from kedge.server.workers.wire import Gone, Peer, Refused

HANG_SECONDS = 60.0
_FIGURES_SECONDS = 2.0
_WATCH_SECONDS = 1.0
_KILL_SECONDS = 5.0
_BACKOFF = Backoff(initial=0.1, limit=10.0)


@dataclass(frozen=True)
class Plan:
    """What the parent is to bring about.

    Attributes:
        command: starts another process of this server.
        preload: one process loads the models, and the workers are forked from it.
    """

    command: Sequence[str]
    workers: int
    preload: bool
    address: str
    http_port: int
    grpc_port: int | None
    grace_seconds: float


class Parent:
    """See the module."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._ports = Ports(plan.address, plan.http_port, plan.grpc_port)
        self._board = Board.make(plan.workers)
        self._slots = [Slot(number) for number in range(plan.workers)]
        self._distribution = Distribution(self._board, [slot.outlet for slot in self._slots])
        self._changes = Changes(self._changed)
        self._processes = Processes(plan.command)
        self._threads = threads_each(plan.workers, os.environ, len(os.sched_getaffinity(0)))
        inboxes = {slot.number: slot.outlet.theirs.fileno() for slot in self._slots}
        self._preloading = Preloading(
            self._processes,
            lambda control, forks: self._seat("preloader", control, inboxes, forks=forks.fileno()),
            (self._board.file, *inboxes.values()),
        )
        self._preloading.possible = plan.preload
        self._moments: dict[str, float] = {}
        self._arrivals = asyncio.Event()
        self._open = asyncio.Event()
        self._stop = asyncio.Event()
        self._signals = 0

    async def run(self) -> None:
        """Serves until told to stop. Raises `StartFailure` when no worker can begin."""
        loop = asyncio.get_running_loop()
        adopt_orphans()
        loop.add_signal_handler(signal.SIGCHLD, self._processes.reap)
        keepers = [asyncio.create_task(self._keep(slot)) for slot in self._slots]
        try:
            await self._first(keepers, self._arrivals)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._on_signal)
            self._begin()
            await self._first(keepers, self._stop)
            await self._drain(keepers)
        finally:
            for slot in self._slots:
                kill(slot.pid)
            self._preloading.close()
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            self._close()

    async def _first(self, keepers: list[asyncio.Task[None]], event: asyncio.Event) -> None:
        """Returns when the event comes; raises what a keeper gave up with."""
        awaited = asyncio.create_task(event.wait())
        try:
            while not event.is_set():
                await asyncio.wait(
                    [awaited, *keepers], timeout=_WATCH_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                for keeper in keepers:
                    if keeper.done():
                        keeper.result()
                self._watch()
        finally:
            awaited.cancel()

    def _begin(self) -> None:
        """Everyone is here: the ports open."""
        ports = self._ports
        if ports.grpc is not None:
            listen(ports.grpc, "grpc_port")
        listen(ports.http, "http_port")
        self._open.set()
        self._distribution.open(ports.http, ports.grpc)
        phases.tell(self._moments)
        logger.info(
            "%d workers serve on http port %d%s; %s",
            len(self._slots),
            ports.http_port,
            f" and grpc port {ports.grpc_port}" if ports.grpc is not None else "",
            "they share memory" if self._preloading.possible else "each has loaded for itself",
        )

    def _on_signal(self) -> None:
        self._signals += 1
        self._stop.set()
        if self._signals > 1:
            for peer in self._workers():
                peer.tell("leave")

    async def _drain(self, keepers: list[asyncio.Task[None]]) -> None:
        """Workers go when they are idle; new connections are handed to those that are left."""
        for slot in self._slots:
            if slot.peer is not None and slot.outlet.serving:
                slot.peer.tell("drain")
            else:
                kill(slot.pid)
        _, late = await asyncio.wait(keepers, timeout=self._plan.grace_seconds + _KILL_SECONDS)
        if late:
            logger.warning("%d workers did not end by themselves: killed", len(late))

    def _close(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        self._distribution.close()
        self._ports.http.close()
        if self._ports.grpc is not None:
            self._ports.grpc.close()
        for slot in self._slots:
            slot.outlet.close()
        self._board.close()

    # -- a worker's life -------------------------------------------------------------------------

    async def _keep(self, slot: Slot) -> None:
        """Fills a slot for as long as the server runs."""
        failures = 0
        while not self._stop.is_set():
            arrived, how = await self._employ(slot)
            if self._stop.is_set():
                return
            slot.restarts += 1
            if arrived:
                failures = 0
                logger.warning("worker %d %s; another takes its place", slot.number, how)
                continue
            failures += 1
            failure = slot.failure or died(f"Worker {slot.number}", how)
            if not self._open.is_set() or not self._workers():
                raise failure
            logger.error("worker %d did not begin: %s", slot.number, failure)
            await asyncio.sleep(_BACKOFF.delay(failures))

    async def _employ(self, slot: Slot) -> tuple[bool, str]:
        """One worker from beginning to end: whether it ever arrived, and how it ended."""
        ours, theirs = socket.socketpair()
        slot.failure, slot.epoch = None, self._changes.epoch
        slot.peer = peer = Peer(
            {
                "arrived": lambda moments: self._arrived(slot, moments),
                "failed": lambda words: self._failed(slot, words),
                "leaving": lambda _: self._leaving(slot),
                "figures": lambda content: self._told(slot, content),
                "everyone": lambda _: self._everyone(),
                "load": self._changes.load,
                "unload": self._changes.unload,
            }
        )
        await peer.connect(ours)
        try:
            with theirs:
                slot.pid = await self._start(slot, theirs)
            await peer.run()
        except StartFailure as failure:
            slot.failure = failure
        except (Gone, Refused) as error:
            slot.failure = StartFailure(error.message, fix=error.fix)
        finally:
            peer.close()
            self._distribution.end(slot.number)
            self._board.set_state(slot.number, State.ABSENT)
            arrived, pid = slot.arrived, slot.pid
            slot.vacate()
        return arrived, await self._processes.ending(pid) if pid else "did not begin"

    async def _start(self, slot: Slot, control: socket.socket) -> int:
        if pid := await self._preloading.fork(slot.number, control):
            return pid
        inbox = slot.outlet.theirs.fileno()
        seat = self._seat("worker", control, {slot.number: inbox}, slot=slot.number)
        files = (control.fileno(), inbox, self._board.file)
        return self._processes.spawn(seat, files, self._threads)

    def _seat(
        self,
        role: Literal["worker", "preloader"],
        control: socket.socket,
        inboxes: dict[int, int],
        *,
        slot: int = 0,
        forks: int = -1,
    ) -> Seat:
        return Seat(
            role=role,
            of=len(self._slots),
            parent=os.getpid(),
            control=control.fileno(),
            board=self._board.file,
            http_port=self._ports.http_port,
            grpc_port=self._ports.grpc_port,
            slot=slot,
            inboxes=inboxes,
            forks=forks,
            held=self._changes.held,
        )

    async def _arrived(self, slot: Slot, moments: dict[str, float]) -> None:
        """Answered when the worker may begin; refused when it loaded what is no longer served."""
        slot.arrived = True
        self._moments = moments
        if all(one.arrived for one in self._slots):
            self._arrivals.set()
        await self._open.wait()
        async with self._changes.lock:
            if slot.epoch != self._changes.epoch:
                raise Refused("The models were changed while it loaded.", reason="Outdated")
            self._board.set_beat(slot.number, _milliseconds())
            self._distribution.begin(slot.number)
            self._level(slot)

    def _level(self, newcomer: Slot) -> None:
        """Clients of those who have more than their part are asked to connect anew."""
        counts = {s.number: self._board.connections(s.number) for s in self._slots}
        part = -(-sum(counts.values()) // len(counts))
        for slot in self._slots:
            surplus = counts[slot.number] - part
            if slot is not newcomer and slot.peer is not None and surplus > 0:
                slot.peer.tell("hand back", surplus)

    async def _failed(self, slot: Slot, words: list[str]) -> None:
        reason, text, fix = words
        slot.failure = StartFailure(text, fix=fix, reason=reason)

    async def _leaving(self, slot: Slot) -> None:
        self._distribution.leave(slot.number)

    def _watch(self) -> None:
        """A worker whose loop has not turned for long will answer nobody any more."""
        for slot in self._slots:
            silent = (_milliseconds() - self._board.beat(slot.number)) / 1000
            if slot.outlet.serving and silent > HANG_SECONDS:
                logger.error("worker %d has hung for %d s: killed", slot.number, silent)
                kill(slot.pid)

    # -- what concerns them all ------------------------------------------------------------------

    def _workers(self) -> list[Peer]:
        return [s.peer for s in self._slots if s.outlet.serving and s.peer is not None]

    def _changed(self) -> list[Peer]:
        """Who is to load and unload: the workers, and whoever future workers are forked from."""
        preloader = self._preloading.peer
        return [*self._workers(), *([preloader] if preloader is not None else [])]

    async def _told(self, slot: Slot, content: Any) -> None:
        slot.last = figures.decode(content)

    async def _everyone(self) -> bytes:
        """The sum of what all have counted; of one that does not answer, what it last said."""
        await asyncio.gather(*(self._ask_figures(slot) for slot in self._slots))
        counts = [self._board.connections(slot.number) for slot in self._slots]
        told = [one for slot in self._slots for one in (slot.past, slot.last)]
        return figures.encode(figures.add([*told, describe(self._slots, counts)]))

    async def _ask_figures(self, slot: Slot) -> None:
        peer = slot.peer
        if peer is None or not slot.outlet.serving:
            return
        try:
            async with asyncio.timeout(_FIGURES_SECONDS):
                content = await peer.ask("figures")
        except (Gone, Refused, TimeoutError):
            return
        if slot.peer is peer:
            slot.last = figures.decode(content)


def _milliseconds() -> int:
    return int(time.monotonic() * 1000)
