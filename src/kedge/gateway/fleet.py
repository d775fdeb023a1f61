"""This gateway as one of several replicas: what they agree on, and what only one of them does.

Each replica drives its own Envoy. Together they say when a route is answered (`verdicts`) and keep
hard limits (`sharing`). The first of those that are ready writes what is to be written once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kedge.gateway.activator import Activator
from kedge.gateway.inventory import RouteKey
from kedge.gateway.members import MemberWatch
from kedge.gateway.peers import Line, Peers
from kedge.gateway.peerwire import Message, Verdicts
from kedge.gateway.sharing import Sharing
from kedge.gateway.verdicts import VerdictBoard
from kedge.lib.clock import SYSTEM_CLOCK, Clock


class Fleet:
    """Joins the parts; also the listener of the lines between the replicas.

    Args:
        watch: follows who the replicas are.
        activator: our own.
        place: `host:port` on which our peers reach us.
        token: gives the bearer token that all replicas know; None asks for none.

    Attributes:
        members: the replicas.
        board: what is made of routes.
        sharing: where Envoy's questions go.
    """

    def __init__(
        self,
        watch: MemberWatch,
        activator: Activator,
        place: str,
        *,
        token: Callable[[], Awaitable[str]] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.watch = watch
        self.members = members = watch.members
        self.board = VerdictBoard(lambda: members.ready_peers, clock.monotonic)
        self.sharing = Sharing(activator, members)
        self._peers = Peers(members, self, place, token=token, clock=clock)
        self._listeners: list[Callable[[list[RouteKey] | None], None]] = []

    def on_verdicts(self, handler: Callable[[list[RouteKey] | None], None]) -> None:
        """Call `handler(routes)` when others say something new of routes; None for all routes."""
        self._listeners.append(handler)
        self.members.on_change(lambda: handler(None))

    async def run(self) -> None:
        """Until cancelled."""
        self.sharing.follow()
        await self._peers.run()

    def opened(self, line: Line, *, outward: bool) -> None:
        if outward:
            self.sharing.opened(line)
        else:
            self.board.follow(line)
            self.sharing.guest_came(line)

    def heard(self, line: Line, message: Message, *, outward: bool) -> None:
        if not outward:
            self.sharing.guest_said(line, message)
        elif isinstance(message, Verdicts):
            routes = self.board.hear(line.name, message.routes)
            for handler in self._listeners:
                handler(routes)
        else:
            self.sharing.heard(line, message)

    def lost(self, line: Line, *, outward: bool) -> None:
        if outward:
            self.sharing.lost(line)
            self.board.lose(line.name)
        else:
            self.board.leave(line)
            self.sharing.guest_left(line)
