"""The replicas of the gateway, as the endpoints of their Service tell. Pure but for the cache.

Which replica does what is nobody's to decide: all of them see the same endpoints, and the names of
those that are ready say it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from kedge.api.scheme import ENDPOINT_SLICE
from kedge.cluster.base import Cluster, EventType, Object
from kedge.lib.addresses import IPV4
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.reconcile.informer import Informer

LOCAL_PORT, PEERS_PORT = "http", "peers"
"""Names of the Service's ports: where pods ask, and where replicas talk to each other."""


@dataclass(frozen=True, slots=True)
class Member:
    """One replica.

    Attributes:
        name: its pod's.
        family: of its address, as in an EndpointSlice: `IPv4` or `IPv6`.
        local_port: where pods ask it.
        peers_port: where its peers reach it.
        ready: requests come to it.
        terminating: its pod is being deleted.
        second: its address of the other family; empty where it has none.
    """

    name: str
    address: str
    family: str
    local_port: int
    peers_port: int
    ready: bool
    terminating: bool = False
    second: str = ""

    def address_of(self, family: str) -> str:
        """Its address of a family; empty where it has none."""
        return self.address if family == self.family else self.second


def read_members(slices: Iterable[Object]) -> tuple[Member, ...]:
    """All replicas, ready or not; by name."""
    found: dict[str, Member] = {}
    for piece in slices:
        ports = {port.get("name") or "": port.get("port") or 0 for port in piece.get("ports") or ()}
        for endpoint in piece.get("endpoints") or ():
            name = (endpoint.get("targetRef") or {}).get("name") or endpoint["addresses"][0]
            conditions = endpoint.get("conditions") or {}
            member = Member(
                name,
                endpoint["addresses"][0],
                piece.get("addressType", IPV4),
                ports.get(LOCAL_PORT, 0),
                ports.get(PEERS_PORT, 0),
                conditions.get("ready") is not False and not conditions.get("terminating"),
                bool(conditions.get("terminating")),
            )
            found[name] = _join(found.get(name, member), member)
    return tuple(sorted(found.values(), key=lambda member: member.name))


def _join(one: Member, other: Member) -> Member:
    """One with two addresses is in a slice of each family."""
    if one.family == other.family:
        return replace(other, second=one.second)
    first, second = sorted((one, other), key=lambda member: member.family)
    return replace(first, second=second.address)


class Members:
    """The replicas as they are now.

    Args:
        me: our own name.

    Attributes:
        all: the replicas.
        view: names of those that are ready; of all while none is.
    """

    def __init__(self, me: str) -> None:
        self.me = me
        self.all: tuple[Member, ...] = ()
        self.view: tuple[str, ...] = (me,)
        self._owners: dict[str, str] = {}
        self._listeners: list[Callable[[], None]] = []

    def take(self, members: tuple[Member, ...]) -> None:
        """These are they now."""
        if members == self.all:
            return
        self.all = members
        ready = tuple(one.name for one in members if one.ready)
        self.view = ready or tuple(one.name for one in members) or (self.me,)
        self._owners = {}
        for handler in self._listeners:
            handler()

    def on_change(self, handler: Callable[[], None]) -> None:
        """Call `handler()` after each change."""
        self._listeners.append(handler)

    @property
    def writes(self) -> bool:
        """Whether this replica writes what only one needs to write: the first of the ready ones."""
        return self.view[0] == self.me

    @property
    def mine(self) -> Member | None:
        """We ourselves, if a pod of the Service is."""
        return next((one for one in self.all if one.name == self.me), None)

    @property
    def others(self) -> Mapping[str, Member]:
        """All but us that can be reached, by name."""
        return {one.name: one for one in self.all if one.name != self.me and one.peers_port}

    @property
    def ready_peers(self) -> list[str]:
        """Names of the others to which requests come."""
        return [one.name for one in self.all if one.ready and one.name != self.me]

    def owner(self, key: str) -> str:
        """The replica that hands out the slots of a service: each has its own, and few move when
        a replica comes or goes."""
        found = self._owners.get(key)
        if found is None:
            found = self._owners[key] = choose_owner(key, self.view)
        return found


def choose_owner(key: str, names: Iterable[str]) -> str:
    """One of the names, by rendezvous: whoever has the highest hash together with the key."""
    return max(
        names, key=lambda name: hashlib.blake2b(f"{name} {key}".encode(), digest_size=8).digest()
    )


class MemberWatch:
    """Follows the endpoints of the Service of the replicas.

    Attributes:
        members: the replicas, as these endpoints tell.
    """

    def __init__(
        self, cluster: Cluster, namespace: str, service: str, me: str, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.members = Members(me)
        self._slices = Informer(
            cluster,
            ENDPOINT_SLICE,
            namespace=namespace,
            labels=f"kubernetes.io/service-name={service}",
            clock=clock,
        )
        self.informers = (self._slices,)

    def follow(self) -> None:
        """Take in what there is, and from now on each change."""
        self._look()
        self._slices.on_change(self._on_change)

    def _on_change(self, type: EventType, obj: Object, old: Object | None) -> None:
        self._look()

    def _look(self) -> None:
        self.members.take(read_members(self._slices.list()))
