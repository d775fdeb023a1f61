"""A gateway's end of the stream: reports every second, tells of held requests at once.

While the autoscaler is away nothing is kept: once it is back, the next report says what is held.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import grpc

from kedge.autoscaler.wire import (
    METHOD,
    Count,
    Counted,
    Goodbye,
    Hello,
    Message,
    Report,
    Signal,
    Wake,
    encode,
)
from kedge.lib.backoff import Backoff
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.lib.errors import KedgeError

log = logging.getLogger(__name__)

Stream = grpc.aio.StreamStreamCall[bytes, bytes]
PERIOD = 1.0
COUNT_PERIOD = 10.0
"""Seconds between two readings of what became of requests."""
AFTER_WAKE = 0.15
"""Seconds from a first held request until those that came with it are counted."""
LEAVE_SECONDS = 2.0
"""How long an autoscaler that does not hear the goodbye is tried."""
_BACKOFF = Backoff(initial=0.05, limit=1.0)


_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    # A leader whose machine is gone says nothing; it is noticed by that.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)


@dataclass(frozen=True)
class Peer:
    """Where an autoscaler is.

    Attributes:
        target: `unix:PATH` or `host:port`.
        token: the bearer token to show; empty for none.
    """

    target: str
    token: str = ""


Find = Callable[[], Awaitable[Peer]]
"""Finds the autoscaler of now; raises `KedgeError` where there is none."""


class Demand(Protocol):
    """What a gateway knows of its traffic."""

    @property
    def blind(self) -> bool:
        """Whether it knows nothing now: no report is better than one that says too little."""
        ...

    def sample(self) -> Mapping[str, tuple[float, float, float]]:
        """By `namespace/service` since the last call: requests in flight on average, how many
        requests there were, and how many are held now. What is not in it had none."""
        ...

    def on_wake(self, callback: Callable[[str], None]) -> None:
        """Have `callback(key)` called as soon as a request has to be held for `key`."""
        ...


class SignalsClient:
    """Tells the autoscaler of one gateway's traffic.

    Args:
        place: the autoscaler's unix socket, or how to find it, asked before each attempt.
        gateway: its name, the same after a restart.
        demand: what is told.
        count: reads what became of requests since it was last called; None where nobody counts.
    """

    def __init__(
        self,
        place: Path | Find,
        gateway: str,
        demand: Demand,
        *,
        count: Callable[[], Awaitable[dict[str, Count]]] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._find = _at(place) if isinstance(place, Path) else place
        self._gateway = gateway
        self._demand = demand
        self._count = count
        self._counted: Counted | None = None
        self._clock = clock
        self._woken: dict[str, None] = {}
        self._news = asyncio.Event()
        self._sampled = clock.monotonic()
        self._due = 0.0
        self._leaving = False
        self._left = asyncio.Event()
        demand.on_wake(self._wake)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._report())
            if self._count is not None:
                tasks.create_task(self._read_counts(self._count))

    async def leave(self) -> None:
        """Say that this gateway ends and has no requests any more; nothing is said after that.

        A gateway that only went away would be missed, and no pod would go while it is.
        """
        self._leaving = True
        self._news.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._left.wait()

    async def _read_counts(self, count: Callable[[], Awaitable[dict[str, Count]]]) -> None:
        since = self._clock.monotonic()
        while True:
            # What is still to be sent comes first: nothing is read that would be lost.
            if self._counted is None:
                try:
                    revisions = await count()
                except KedgeError as error:
                    log.debug("%s", error)
                else:
                    now = self._clock.monotonic()
                    self._counted, since = Counted(now - since, revisions), now
            await self._clock.sleep(COUNT_PERIOD)

    async def _report(self) -> None:
        failures = 0
        while True:
            failures += 1
            try:
                peer = await self._find()
                shown = (("authorization", f"Bearer {peer.token}"),) if peer.token else ()
                async with grpc.aio.insecure_channel(peer.target, options=_OPTIONS) as channel:
                    stream = channel.stream_stream(METHOD, None, None)(None, metadata=shown)
                    await self._send(stream, Hello(self._gateway))
                    failures = 0
                    await self._talk(stream)
            except KedgeError as error:
                level = logging.INFO if failures == 1 else logging.DEBUG
                log.log(level, "the autoscaler is not found: %s", error)
            except (grpc.RpcError, asyncio.InvalidStateError) as error:
                log.info("the autoscaler is away: %s", _said(error))
            await self._clock.sleep(_BACKOFF.delay(max(1, failures)))

    def _wake(self, key: str) -> None:
        self._woken[key] = None
        self._due = min(self._due, self._clock.monotonic() + AFTER_WAKE)
        self._news.set()

    async def _talk(self, stream: Stream) -> None:
        self._due = self._clock.monotonic()
        try:
            while True:
                for key in list(self._woken):
                    await self._send(stream, Wake(key))
                    self._woken.pop(key, None)
                if self._counted is not None:
                    await self._send(stream, self._counted)
                    self._counted = None
                if self._leaving:
                    await self._say_goodbye(stream)
                if self._clock.monotonic() < self._due:
                    pass
                elif self._demand.blind:
                    self._due = self._clock.monotonic() + AFTER_WAKE
                else:
                    await self._send(stream, self._take_sample())
                    self._due = self._clock.monotonic() + PERIOD
                await self._rest()
        except asyncio.CancelledError:
            stream.cancel()
            raise

    async def _say_goodbye(self, stream: Stream) -> None:
        await self._send(stream, Goodbye())
        await stream.done_writing()
        await stream.code()
        self._left.set()
        await asyncio.Event().wait()

    async def _rest(self) -> None:
        """Until the next report is due, or somebody has to be woken."""
        self._news.clear()
        if self._woken or self._leaving:
            return
        waits = [
            asyncio.ensure_future(self._clock.sleep(max(0.0, self._due - self._clock.monotonic()))),
            asyncio.ensure_future(self._news.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _take_sample(self) -> Report:
        now = self._clock.monotonic()
        seconds, self._sampled = max(now - self._sampled, 1e-3), now
        revisions: dict[str, Signal] = {
            key: (in_flight, requests / seconds, held)
            for key, (in_flight, requests, held) in self._demand.sample().items()
        }
        return Report(seconds, revisions)

    async def _send(self, stream: Stream, message: Message) -> None:
        await stream.write(encode(message))


def _at(socket: Path) -> Find:
    async def find() -> Peer:
        return Peer(f"unix:{socket}")

    return find


def _said(error: Exception) -> str:
    return str(error.details() or error.code()) if isinstance(error, grpc.aio.AioRpcError) else ""
