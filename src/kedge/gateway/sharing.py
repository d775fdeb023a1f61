"""A hard limit on requests in a pod, kept by several replicas of the gateway.

For each service one replica hands out the slots; the others ask it, for each request, which pod it
may go to. Only that question travels: the request itself stays in the Envoy that it came to. Which
replica it is follows from the names of those that are ready. When these change, slots move: each
replica tells the new owner which of its requests are in pods, then what it sees; and the owner
gives no slot away until every other replica sees what it sees, and knows that it does.

Services without such a limit are no matter of several replicas: their requests ask here.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from kedge.gateway import peerwire as wire
from kedge.gateway.activator import Activator
from kedge.gateway.ir import Endpoint
from kedge.gateway.members import Members
from kedge.gateway.peers import Line
from kedge.gateway.revision import Ask, Refused, Revision, key_of

log = logging.getLogger(__name__)

REACH_SECONDS = 30.0
"""How long a replica that hands out slots may be out of reach before its requests are refused."""
AGREE_SECONDS = 10.0
"""How long a replica may see something else, or not be heard, before slots are handed out all the
same: one that hangs must not stop the others for good."""


class _Lost(Exception):
    """The replica that was asked cannot be reached any more."""


class SharedAsk:
    """A request that asks for a slot.

    Attributes:
        placed: the endpoint to send it to, or `Refused`.
        address: the pod whose slot it holds; empty while it waits.
        at: the replica that gave it the slot, or is asked for one.
        number: by which that replica knows it; another one each time that it asks.
        local: our own activator's ask, where that is us.
    """

    __slots__ = ("address", "at", "cluster", "id", "key", "local", "number", "placed", "task")

    def __init__(self, cluster: str, id: bytes) -> None:
        self.number = 0
        self.cluster = cluster
        self.key = key_of(cluster)
        self.id = id
        self.placed: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
        self.address = ""
        self.at = ""
        self.local: Ask | None = None
        self.task: asyncio.Task[None] | None = None


@dataclass
class _Guest:
    """What another replica has here.

    Attributes:
        asks: its requests, by its numbers for them.
        left: those that its last line told of, until a new one has told anew.
        inherited: its requests in pods that an earlier process of it sent there.
        view: which replicas it sees ready.
        was_ready: requests came to it once; until then it can have given nothing away.
        differs_since: when it was last known to see what we see, if it does not now.
    """

    line: Line | None = None
    asks: dict[int, Ask] = field(default_factory=dict)
    left: list[Ask] = field(default_factory=list)
    inherited: Mapping[str, int] = field(default_factory=dict)
    view: tuple[str, ...] | None = None
    was_ready: bool = False
    differs_since: float | None = None


class Sharing:
    """What Envoy's questions go to where there may be several replicas.

    Args:
        activator: our own.
        members: the replicas.
    """

    def __init__(self, activator: Activator, members: Members) -> None:
        self._activator = activator
        self._members = members
        self._asks: set[SharedAsk] = set()
        self._numbers = itertools.count(1)
        self._answers: dict[int, tuple[Line, asyncio.Future[Endpoint]]] = {}
        self._lines: dict[str, Line] = {}
        self._linked = asyncio.Event()
        self._guests: dict[str, _Guest] = {}
        self._view = 0
        self._seen: dict[str, int] = {}
        self._agreed = True
        self._timer: asyncio.TimerHandle | None = None
        activator.may_give = self._may_give

    # What Envoy asks

    def find(self, cluster: str) -> Revision | None:
        return self._activator.find(cluster)

    def ask(self, cluster: str, id: bytes = b"") -> Ask | SharedAsk:
        """A request came through that cluster; `release` it when it has ended or gone away."""
        revision = self._activator.find(cluster)
        if revision is None or not revision.hold.concurrency:
            return self._activator.ask(cluster, id)
        one = SharedAsk(cluster, id)
        self._asks.add(one)
        one.task = asyncio.ensure_future(self._place(one))
        return one

    def release(self, ask: Ask | SharedAsk) -> None:
        """The request has ended: answered, failed, or gone while it waited."""
        if isinstance(ask, Ask):
            self._activator.release(ask)
            return
        self._asks.discard(ask)
        if ask.task is not None and not ask.task.done():
            # It gives back whatever it is about to get.
            ask.task.cancel()
        elif ask.address:
            self._give_back(ask.at, ask.number, ask.local)
        ask.placed.cancel()

    async def _place(self, one: SharedAsk) -> None:
        while True:
            one.at = self._members.owner(one.key)
            try:
                if one.at == self._members.me:
                    endpoint = await self._ask_here(one)
                else:
                    endpoint = await self._ask_there(one)
            except Refused as refused:
                if not one.placed.done():
                    one.placed.set_exception(refused)
                    one.placed.exception()
                return
            except _Lost:
                continue
            if one.placed.done():
                # Whoever asked goes away at this moment.
                self._give_back(one.at, one.number, one.local)
            else:
                one.address = endpoint.address
                one.placed.set_result(endpoint)
            return

    async def _ask_here(self, one: SharedAsk) -> Endpoint:
        asked = self._activator.ask(one.cluster, one.id)
        try:
            endpoint = await asked.placed
        except BaseException:
            self._activator.release(asked)
            raise
        one.local = asked
        return endpoint

    async def _ask_there(self, one: SharedAsk) -> Endpoint:
        line = await self._reach(one.at)
        number = next(self._numbers)
        answer: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
        self._answers[number] = (line, answer)
        line.send(wire.Ask(number, one.cluster, one.id))
        try:
            found = await answer
        except Refused:
            raise
        except BaseException:
            line.send(wire.Drop(number))
            raise
        finally:
            del self._answers[number]
        one.number = number
        return found

    async def _reach(self, name: str) -> Line:
        """The line to that replica, as soon as there is one."""
        try:
            async with asyncio.timeout(REACH_SECONDS):
                while name not in self._lines:
                    await self._linked.wait()
        except TimeoutError:
            raise Refused(
                f"Replica {name} of the gateway, which hands out the slots of this service, cannot"
                " be reached. Fix: let the gateway's pods reach each other (port 9445).",
                retry_after=1,
            ) from None
        return self._lines[name]

    def _give_back(self, at: str, number: int, local: Ask | None) -> None:
        if local is not None:
            self._activator.release(local)
        elif (line := self._lines.get(at)) is not None:
            line.send(wire.Drop(number))

    # Who is there

    def follow(self) -> None:
        """From now on, take part."""
        self._members.on_change(self._on_members)
        self._on_members()

    def _on_members(self) -> None:
        ready = set(self._members.ready_peers)
        for name in ready:
            self._guests.setdefault(name, _Guest()).was_ready = True
        for name in self._guests.keys() - self._members.others.keys():
            if self._guests[name].line is None:
                self._dismiss(self._guests.pop(name))
        moved = [one for one in self._asks if one.at != self._members.owner(one.key)]
        kept = [(one, one.at, one.number, one.local) for one in moved if one.address]
        for one in moved:
            self._move(one)
        self._view += 1
        for line in self._lines.values():
            line.send(wire.View(self._view, self._members.view))
        # Only who knows that somebody else counts them now may forget them.
        for _, at, number, local in kept:
            self._give_back(at, number, local)
        self._agree()

    def _move(self, one: SharedAsk) -> None:
        """Somebody else hands out the slots of this request's service now."""
        if not one.address:
            if one.task is not None and not one.placed.done():
                one.task.cancel()
                one.task = asyncio.ensure_future(self._place(one))
            return
        one.at, one.local = self._members.owner(one.key), None
        if one.at == self._members.me:
            one.local = self._activator.adopt(one.cluster, one.address)
        elif (line := self._lines.get(one.at)) is not None:
            self._tell_running(line, one)

    def _tell_running(self, line: Line, one: SharedAsk) -> None:
        one.number = next(self._numbers)
        line.send(wire.Running(one.number, one.cluster, one.address))

    # Our lines to others

    def opened(self, line: Line) -> None:
        """A replica can be asked."""
        self._lines[line.name] = line
        for one in self._asks:
            if one.address and one.at == line.name:
                self._tell_running(line, one)
        line.send(wire.Inherited(dict(self._activator.inherited)))
        line.send(wire.View(self._view, self._members.view))
        linked, self._linked = self._linked, asyncio.Event()
        linked.set()

    def lost(self, line: Line) -> None:
        if self._lines.get(line.name) is not line:
            return
        del self._lines[line.name]
        self._seen.pop(line.name, None)
        self._agree()
        for asked, answer in self._answers.values():
            if asked is line and not answer.done():
                answer.set_exception(_Lost())

    def heard(self, line: Line, message: wire.Message) -> None:
        """What a replica that was asked, or told, says."""
        if isinstance(message, wire.Seen):
            self._seen[line.name] = message.number
            self._agree()
            return
        _, answer = self._answers.get(getattr(message, "number", 0), (None, None))
        if answer is None or answer.done():
            return
        if isinstance(message, wire.Placed):
            answer.set_result(Endpoint(message.address, message.port))
        elif isinstance(message, wire.Refused):
            answer.set_exception(Refused(message.message, retry_after=message.retry_after))

    def inherited_changed(self) -> None:
        """Fewer requests of an earlier process of ours are in pods."""
        for line in self._lines.values():
            line.send(wire.Inherited(dict(self._activator.inherited)))

    # Others' lines to us

    def guest_came(self, line: Line) -> None:
        guest = self._guests.setdefault(line.name, _Guest())
        self._set_aside(guest)
        guest.line = line

    def _set_aside(self, guest: _Guest) -> None:
        """What it has in pods is still there; what waits will be asked anew."""
        guest.line, guest.view = None, None
        asks, guest.asks = guest.asks, {}
        for ask in asks.values():
            if ask.address:
                guest.left.append(ask)
            else:
                self._activator.release(ask)

    def guest_left(self, line: Line) -> None:
        guest = self._guests.get(line.name)
        if guest is None or guest.line is not line:
            return
        self._set_aside(guest)
        if line.name not in self._members.others:
            self._dismiss(self._guests.pop(line.name))
        self._agree()

    def guest_said(self, line: Line, message: wire.Message) -> None:
        guest = self._guests.get(line.name)
        if guest is None or guest.line is not line:
            return
        match message:
            case wire.Ask():
                self._take_ask(guest, line, message)
            case wire.Running():
                adopted = self._activator.adopt(message.cluster, message.address)
                guest.asks[message.number] = adopted
            case wire.Drop():
                ask = guest.asks.pop(message.number, None)
                if ask is not None:
                    self._activator.release(ask)
            case wire.Inherited():
                guest.inherited = message.counts
                self._sum_inherited()
            case wire.View():
                guest.view = message.names
                for ask in guest.left:
                    self._activator.release(ask)
                guest.left = []
                line.send(wire.Seen(message.number))
                self._agree()

    def _take_ask(self, guest: _Guest, line: Line, message: wire.Ask) -> None:
        ask = self._activator.ask(message.cluster, message.id)
        guest.asks[message.number] = ask

        def answer(placed: asyncio.Future[Endpoint]) -> None:
            if placed.cancelled():
                return
            refused = placed.exception()
            if refused is None:
                end = placed.result()
                line.send(wire.Placed(message.number, end.address, end.port))
            elif isinstance(refused, Refused):
                if guest.asks.get(message.number) is ask:
                    del guest.asks[message.number]
                line.send(wire.Refused(message.number, refused.message, refused.retry_after))

        ask.placed.add_done_callback(answer)

    def _dismiss(self, guest: _Guest) -> None:
        for ask in (*guest.left, *guest.asks.values()):
            self._activator.release(ask)
        self._sum_inherited()

    def _sum_inherited(self) -> None:
        total: Counter[str] = Counter()
        for guest in self._guests.values():
            total.update(guest.inherited)
        changed = {*self._activator.elsewhere, *total}
        self._activator.elsewhere = total
        self._activator.pods_changed(changed)

    # Whether we may hand out slots

    def _may_give(self, key: str) -> bool:
        return self._agreed and self._members.owner(key) == self._members.me

    def _agree(self) -> None:
        """See whether all replicas see what we see."""
        now = asyncio.get_running_loop().time()
        waits: list[float] = []
        for name, guest in self._guests.items():
            there = guest.was_ready and name in self._members.others
            same = guest.view == self._members.view and self._seen.get(name) == self._view
            if not there or same:
                guest.differs_since = None
                continue
            if guest.differs_since is None:
                guest.differs_since = now
            left = guest.differs_since + AGREE_SECONDS - now
            if left > 0:
                waits.append(left)
            else:
                log.warning("replica %s of the gateway does not say what it sees; slots are"
                            " handed out all the same", name)  # fmt: skip
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._agreed = not waits
        if waits:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(min(waits) + 0.01, self._agree)
        else:
            self._activator.look_again()
