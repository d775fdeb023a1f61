"""What all replicas together make of a route: it is answered when every one of them says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kedge.gateway.conditions import Condition
from kedge.gateway.inventory import RouteKey
from kedge.gateway.peers import Line
from kedge.gateway.peerwire import Verdict, Verdicts
from kedge.gateway.status import ANSWERING

PATIENCE_SECONDS = 30.0
"""A replica that is ready but was not reached for so long is not waited for any more: its status
must not keep every service from being Ready."""
NOT_YET = "NotAcknowledged"


class VerdictBoard:
    """Our own verdicts, and those of the other replicas.

    Args:
        ready_peers: names of the others to which requests come.
        now: a monotonic clock.
    """

    def __init__(self, ready_peers: Callable[[], Iterable[str]], now: Callable[[], float]) -> None:
        self._ready_peers = ready_peers
        self._now = now
        self._own: dict[str, Verdict] = {}
        self._theirs: dict[str, dict[str, Verdict]] = {}
        self._missed: dict[str, float] = {}
        self._followers: set[Line] = set()

    def publish(self, key: RouteKey, generation: int, condition: Condition) -> None:
        """Tell everybody what we make of a route."""
        verdict = (generation, condition.status, condition.reason, condition.message)
        name = "/".join(key)
        if self._own.get(name) != verdict:
            self._own[name] = verdict
            self._tell({name: verdict})

    def forget(self, key: RouteKey) -> None:
        """The route is no more."""
        if self._own.pop("/".join(key), None) is not None:
            self._tell({"/".join(key): None})

    def _tell(self, routes: dict[str, Verdict | None]) -> None:
        for line in self._followers:
            line.send(Verdicts(routes))

    def follow(self, line: Line) -> None:
        """Somebody wants to know, from now on."""
        self._followers.add(line)
        line.send(Verdicts(dict(self._own)))

    def leave(self, line: Line) -> None:
        self._followers.discard(line)

    def hear(self, peer: str, routes: dict[str, Verdict | None]) -> list[RouteKey]:
        """Take in what another replica makes of routes; which ones."""
        known = self._theirs.setdefault(peer, {})
        for name, verdict in routes.items():
            if verdict is None:
                known.pop(name, None)
            else:
                known[name] = verdict
        self._missed.pop(peer, None)
        return [_key(name) for name in routes]

    def lose(self, peer: str) -> None:
        """It cannot be reached."""
        self._theirs.pop(peer, None)

    def join(self, key: RouteKey, generation: int, own: Condition) -> Condition:
        """Our verdict on a route, and if it is good that of the replica that is least content."""
        if not own.status:
            return own
        name = "/".join(key)
        for peer in self._ready_peers():
            known = self._theirs.get(peer)
            if known is None:
                if self._is_waited_for(peer):
                    return _pending(f"Replica {peer} of the gateway has not been heard of.")
                continue
            verdict = known.get(name)
            if verdict is None or verdict[0] < generation:
                return _pending(f"Replica {peer} of the gateway has not yet taken in the route.")
            if not verdict[1]:
                return Condition(
                    ANSWERING, False, verdict[2], f"Replica {peer} of the gateway: {verdict[3]}"
                )
        return own

    def _is_waited_for(self, peer: str) -> bool:
        return self._now() - self._missed.setdefault(peer, self._now()) < PATIENCE_SECONDS


def _pending(message: str) -> Condition:
    return Condition(ANSWERING, False, NOT_YET, message)


def _key(name: str) -> RouteKey:
    namespace, _, route = name.partition("/")
    return namespace, route
