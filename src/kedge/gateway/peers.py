"""The streams between the replicas of the gateway: one from each to each other.

Nothing here knows what is said. A message to a replica that cannot be reached is lost, and both
sides are told of the loss.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import grpc
import msgspec

from kedge.gateway.members import Member, Members
from kedge.gateway.peerwire import METHOD, Hello, Message, decode, encode
from kedge.lib.addresses import join
from kedge.lib.backoff import Backoff
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.lib.errors import KedgeError

log = logging.getLogger(__name__)

_BACKOFF = Backoff(initial=0.05, limit=1.0)
_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    # A replica whose machine is gone says nothing; it is noticed by that.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)
_SERVER_OPTIONS = (("grpc.http2.min_ping_interval_without_data_ms", 5_000),)


class Line:
    """One end of a stream; `name` is who is at the other."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._outbox: asyncio.Queue[Message | None] = asyncio.Queue()

    def send(self, message: Message) -> None:
        self._outbox.put_nowait(message)

    def close(self) -> None:
        self._outbox.put_nowait(None)

    async def sent(self) -> AsyncIterator[bytes]:
        """What is to go over the wire, until the line is closed."""
        while (message := await self._outbox.get()) is not None:
            yield encode(message)


class Listener(Protocol):
    """Who is told what goes on. `outward` lines are ours to a peer, the others a peer's to us."""

    def opened(self, line: Line, *, outward: bool) -> None: ...

    def heard(self, line: Line, message: Message, *, outward: bool) -> None: ...

    def lost(self, line: Line, *, outward: bool) -> None: ...


class Peers:
    """Keeps the lines.

    Args:
        token: gives the bearer token that all replicas know; None asks for none.
        place: `host:port` on which our peers reach us.
    """

    def __init__(
        self,
        members: Members,
        listener: Listener,
        place: str,
        *,
        token: Callable[[], Awaitable[str]] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._members = members
        self._listener = listener
        self._place = place
        self._token = token
        self._clock = clock
        self._dialling: dict[str, tuple[Member, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        server = grpc.aio.server(options=_SERVER_OPTIONS)
        service, _, method = METHOD.strip("/").rpartition("/")
        handler = grpc.stream_stream_rpc_method_handler(self._serve)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {method: handler}),)
        )
        server.add_insecure_port(self._place)
        await server.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                self._dial_all(tasks)
                self._members.on_change(lambda: self._dial_all(tasks))
                await server.wait_for_termination()
        finally:
            await server.stop(None)

    def _dial_all(self, tasks: asyncio.TaskGroup) -> None:
        """Have a line to each replica that there is, and to no other."""
        wanted = self._members.others
        for name, (member, task) in list(self._dialling.items()):
            there = wanted.get(name)
            if there is None or _place_of(there) != _place_of(member):
                task.cancel()
                del self._dialling[name]
        for name, member in wanted.items():
            if name not in self._dialling:
                self._dialling[name] = (member, tasks.create_task(self._dial(member)))

    async def _dial(self, member: Member) -> None:
        failures = 0
        while True:
            failures += 1
            try:
                if await self._talk(member):
                    failures = 0
            except (KedgeError, grpc.RpcError, asyncio.InvalidStateError, OSError) as error:
                log.log(
                    logging.INFO if failures == 1 else logging.DEBUG,
                    "replica %s at %s: %s", member.name, _place_of(member), _said(error),
                )  # fmt: skip
            await self._clock.sleep(_BACKOFF.delay(max(1, failures)))

    async def _talk(self, member: Member) -> bool:
        """Until the line is lost; whether it was there."""
        shown = () if self._token is None else (("authorization", f"Bearer {await self._token()}"),)
        line, there = Line(member.name), False
        async with grpc.aio.insecure_channel(_place_of(member), options=_OPTIONS) as channel:
            line.send(Hello(self._members.me))
            stream = channel.stream_stream(METHOD, None, None)(line.sent(), metadata=shown)
            try:
                # Its first answer is that it has heard us.
                async for data in stream:
                    if not there:
                        there = True
                        self._listener.opened(line, outward=True)
                    else:
                        self._listener.heard(line, decode(data), outward=True)
            finally:
                stream.cancel()
                line.close()
                if there:
                    self._listener.lost(line, outward=True)
        return there

    async def _serve(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        await self._admit(context)
        line = Line("")
        reader = asyncio.ensure_future(self._read(requests, line))
        try:
            async for data in line.sent():
                yield data
            await reader
        except msgspec.MsgspecError as error:
            log.warning("replica %s sent what is no message: %s", line.name or "?", error)
        finally:
            reader.cancel()
            if line.name:
                self._listener.lost(line, outward=False)

    async def _read(self, requests: AsyncIterator[bytes], line: Line) -> None:
        try:
            async for data in requests:
                message = decode(data)
                if line.name:
                    self._listener.heard(line, message, outward=False)
                elif isinstance(message, Hello):
                    line.name = message.name
                    line.send(Hello(self._members.me))
                    self._listener.opened(line, outward=False)
                else:
                    break
        finally:
            line.close()

    async def _admit(self, context: Any) -> None:
        if self._token is None:
            return
        shown = dict(context.invocation_metadata() or ()).get("authorization", "")
        if not hmac.compare_digest(shown.encode(), f"Bearer {await self._token()}".encode()):
            log.warning("%s showed no valid token", context.peer())
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is not ours")


def _place_of(member: Member) -> str:
    return join(member.address, member.peers_port)


def _said(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return str(error.details() or error.code())
    return str(error)
