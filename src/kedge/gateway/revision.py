"""One revision: its pods as far as they are known, and the requests that wait for them."""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Collection, Mapping

from kedge.gateway.ir import Endpoint, Endpoints, Hold


class Refused(Exception):
    """The request is not to wait; `retry_after` seconds are told to the client where given."""

    def __init__(self, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class Ask:
    """One request that asked for a pod.

    Attributes:
        placed: the endpoint to send it to, or `Refused`.
        address: the pod whose slot it holds; empty while it waits.
    """

    __slots__ = ("address", "cluster", "id", "number", "placed")
    _numbers = itertools.count()

    def __init__(self, cluster: str, id: bytes, placed: asyncio.Future[Endpoint]) -> None:
        self.number = next(self._numbers)
        self.cluster = cluster
        self.id = id
        self.placed = placed
        self.address = ""


class Revision:
    """One Service's pods and the requests that wait for them, by the port they came for.

    Attributes:
        endpoints: those that requests may go to.
        coming: those that the kubelet has not seen ready yet.
        early: addresses of those among them that said they are; when to ask them again.
    """

    def __init__(self, key: str, now: float) -> None:
        self.key = key
        self.changed = now
        self.hold = Hold()
        self.endpoints: dict[str, tuple[Endpoint, ...]] = {}
        self.coming: dict[str, tuple[Endpoint, ...]] = {}
        self.early: dict[str, float] = {}
        self.waiting: dict[str, OrderedDict[Ask, None]] = {}
        self.woken: float | None = None

    @property
    def held(self) -> int:
        return sum(map(len, self.waiting.values()))

    def first(self, passed_over: Collection[str]) -> Ask | None:
        """The one that has waited longest, of all ports but these."""
        heads = (
            next(iter(asks))
            for cluster, asks in self.waiting.items()
            if asks and cluster not in passed_over
        )
        return min(heads, key=lambda ask: ask.number, default=None)

    def addresses(self) -> set[str]:
        return _addresses(self.endpoints)

    def expected(self) -> set[str]:
        """Addresses of the pods that are coming."""
        return _addresses(self.coming)

    def take(self, endpoints: Endpoints) -> bool:
        """These are the endpoints of one of its ports; whether pods that came early are ready now.

        Those that are still early stay where requests may go.
        """
        self.coming[endpoints.cluster] = endpoints.coming
        self.endpoints[endpoints.cluster] = endpoints.ready + tuple(
            end for end in endpoints.coming if end.address in self.early
        )
        confirmed = self.early.keys() - self.expected()
        for address in confirmed:
            del self.early[address]
        return bool(confirmed)

    def drop(self, cluster: str) -> None:
        """It has that port no more."""
        self.endpoints.pop(cluster, None)
        self.coming.pop(cluster, None)

    def hear(self, address: str, *, ready: bool, again: float) -> bool:
        """A coming pod said whether it is ready; whether that is news.

        Args:
            again: when to ask it again.
        """
        was = address in self.early
        if ready:
            self.early[address] = again
        else:
            self.early.pop(address, None)
        if was == ready:
            return False
        for cluster, coming in self.coming.items():
            kept = tuple(end for end in self.endpoints[cluster] if end.address != address)
            found = tuple(end for end in coming if end.address == address) if ready else ()
            self.endpoints[cluster] = kept + found
        return True


def key_of(cluster: str) -> str:
    """`namespace/service` of a cluster's name."""
    return cluster.rpartition("/")[0]


def _addresses(endpoints: Mapping[str, tuple[Endpoint, ...]]) -> set[str]:
    return {end.address for ends in endpoints.values() for end in ends}
