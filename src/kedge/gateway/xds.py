"""The delta ADS server: keeps every connected Envoy at the resources it holds.

A change goes out in an order in which no request meets a hole: clusters and their endpoints; when
those are acknowledged and warm, listeners and routes; when those are, the removal of clusters that
nothing names any more. A change of endpoints waits for nothing. The order is kept by each
connection on its own, also for what was missed while it was gone: an Envoy that comes back says
which versions it has and gets the difference only.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import grpc
from envoy.service.discovery.v3 import discovery_pb2

from kedge.gateway.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, TYPES, Resource
from kedge.lib.grpc_socket import serve_on_socket

log = logging.getLogger(__name__)
# grpcio logs a server from its destructor: a log handler that keeps records then holds a freed
# object, and the next garbage collection ends the process.
logging.getLogger("grpc._cython.cygrpc").setLevel(logging.INFO)

_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_WILDCARD = (CLUSTER, LISTENER)
PATIENCE = 10.0
"""Seconds after which routes are sent although a cluster has not become warm."""
AGAIN = 1.0
"""Seconds after which a refused listener is sent again: the port that was taken may be free."""


UNKNOWN = "?"
"""Stands for the addresses of a resource that was sent by an earlier process."""


class _Aims:
    """Where some resources send to: each address counted, so that one is found without a search."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, resource: Resource) -> None:
        for address in resource.addresses:
            self._counts[address] += 1

    def remove(self, resource: Resource) -> None:
        for address in resource.addresses:
            self._counts[address] -= 1
            if not self._counts[address]:
                del self._counts[address]

    def include(self, address: str) -> bool:
        return address in self._counts or UNKNOWN in self._counts


class Connection:
    """One Envoy: what it has, what is on its way to it, and what it may be sent next.

    Attributes:
        node: Envoy's node id.
        caught_up: it has once had everything; from then on it counts for what "every Envoy" does.
        rejected: type and names of what it refused, with its reason; cleared by the next success.
    """

    def __init__(self, server: AdsServer, now: Callable[[], float]) -> None:
        self.node = ""
        self.caught_up = False
        self.rejected: dict[str, str] = {}
        self._server = server
        self._now = now
        # Per type and name: what Envoy has, what is on its way (oldest first), what it refused.
        self._has: dict[str, dict[str, Resource]] = {type: {} for type in TYPES}
        self._sent: dict[str, dict[str, list[Resource]]] = {type: {} for type in TYPES}
        self._refused: dict[str, dict[str, str]] = {type: {} for type in TYPES}
        self._aims = _Aims()
        self._dirty: dict[str, set[str]] = {type: set() for type in TYPES}
        self._subscribed: dict[str, set[str]] = {type: set() for type in TYPES}
        self._asked: set[str] = set()
        self._unanswered: set[str] = set()
        self._pending: dict[str, tuple[str, list[Resource], list[str]]] = {}
        self._cold: dict[str, int] = {}
        self._cold_since = 0.0
        self._again: set[str] = set()
        self._retry_at: float | None = None
        self._nonces = itertools.count(1)
        self._wake = asyncio.Event()

    # What is known of this Envoy

    def acknowledged(self, type: str, name: str) -> Resource | None:
        """What Envoy has surely taken in of that name."""
        return self._has[type].get(name)

    def may_send_to(self, address: str) -> bool:
        """Whether Envoy may still choose that address for a request."""
        return self._aims.include(address)

    @property
    def settled(self) -> bool:
        """Clusters, listeners and routes are all acknowledged, or refused."""
        return (
            self._asked.issuperset((CLUSTER, LISTENER, ROUTE))
            and not self._cold
            and not any(self._dirty[type] for type in (CLUSTER, LISTENER, ROUTE))
            and not self._is_awaiting(CLUSTER, LISTENER, ROUTE)
        )

    # What Envoy says

    def take(self, request: Any) -> None:
        """A request of Envoy's: a subscription, an acknowledgement, a refusal, or all of them."""
        type = request.type_url
        if type not in TYPES:
            return
        if request.node.id:
            self.node = request.node.id
        if request.response_nonce:
            self._take_answer(request)
        if type not in self._asked:
            self._asked.add(type)
            self._take_versions(type, request.initial_resource_versions)
            self._unanswered.add(type)
        wanted = set(request.resource_names_subscribe) - {"*"}
        self._subscribed[type].update(wanted)
        self._dirty[type].update(wanted)
        for name in request.resource_names_unsubscribe:
            self._subscribed[type].discard(name)
            self._forget(type, name)
        self.wake()

    def _take_versions(self, type: str, versions: Mapping[str, str]) -> None:
        somewhere = frozenset({UNKNOWN} if type == ENDPOINT else ())
        for name, version in versions.items():
            mine = self._server.find(type, name)
            same = mine is not None and mine.version == version
            unknown = Resource(name, version, b"", somewhere)
            self._have(type, mine if same and mine else unknown)
            if type == CLUSTER:
                self._chill(name, 0)
            elif type == ENDPOINT:
                self._cold.pop(name, None)
        if type in _WILDCARD:
            self._dirty[type].update(versions, self._server.names(type))

    def _take_answer(self, request: Any) -> None:
        type, resources, removed = self._pending.pop(request.response_nonce, ("", [], []))
        if not type:
            return
        if request.HasField("error_detail"):
            self._take_refusal(type, resources, request.error_detail.message)
            return
        number = int(request.response_nonce)
        for resource in resources:
            self._have(type, resource)
            self._land(type, resource)
            if type == ENDPOINT and self._cold.get(resource.name, number) < number:
                del self._cold[resource.name]
        for name in removed:
            if name not in self._sent[type]:
                self._forget(type, name)
        if resources:
            self.rejected.pop(type, None)
        self._server.on_acknowledged(type, [resource.name for resource in resources])

    def _take_refusal(self, type: str, resources: list[Resource], message: str) -> None:
        names = ", ".join(resource.name for resource in resources[:5])
        if self.rejected.get(type) != message:
            kind = type.rpartition(".")[2]
            log.error("Envoy %s refused %s %s: %s", self.node, kind, names, message)
        self.rejected[type] = message
        if type == LISTENER:
            self._retry_at = self._now() + AGAIN
        for resource in resources:
            self._land(type, resource)
            self._refused[type][resource.name] = resource.version
            self._cold.pop(resource.name, None)
        self._server.on_acknowledged(type, [])

    def _have(self, type: str, resource: Resource) -> None:
        """Envoy has `resource`, and not what it had of that name before."""
        before = self._has[type].get(resource.name)
        self._has[type][resource.name] = resource
        self._aims.add(resource)
        if before is not None:
            self._aims.remove(before)

    def _land(self, type: str, resource: Resource) -> None:
        """`resource` and what was sent before it is no more on its way."""
        sent = self._sent[type].get(resource.name, [])
        landed = sent.index(resource) + 1 if resource in sent else 0
        for one in sent[:landed]:
            self._aims.remove(one)
        del sent[:landed]
        if not sent:
            self._sent[type].pop(resource.name, None)

    def _forget(self, type: str, name: str) -> None:
        had = self._has[type].pop(name, None)
        for resource in (*self._sent[type].pop(name, ()), *((had,) if had else ())):
            self._aims.remove(resource)
        self._refused[type].pop(name, None)

    # What Envoy is sent

    def mark(self, type: str, names: Iterable[str]) -> None:
        """The server's resources of these names changed."""
        self._dirty[type].update(names)

    def wake(self) -> None:
        self._wake.set()

    def _chill(self, name: str, number: int) -> None:
        """A cluster that was sent is of no use until its endpoints have come after it."""
        if self._server.find(ENDPOINT, name) is None:
            return
        if not self._cold:
            self._cold_since = self._now()
        self._cold[name] = number

    async def responses(self) -> AsyncIterator[bytes]:
        """All responses, as they fall due, without end."""
        while True:
            self._wake.clear()
            if self._server.opened:
                for response in self.due():
                    yield response
                if self.settled and not self.caught_up and not self.rejected:
                    self.caught_up = True
                    self._server.on_acknowledged("", [])
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._longest_rest())

    def _longest_rest(self) -> float | None:
        """Seconds until there may be something to send though nothing is heard; None for never."""
        rests = [PATIENCE] if self._cold else []
        if self._retry_at is not None:
            rests.append(max(0.0, self._retry_at - self._now()))
        return min(rests, default=None)

    def _retry(self) -> None:
        """Whether Envoy can listen depends on more than what it is sent."""
        if self._retry_at is not None and self._now() >= self._retry_at:
            self._retry_at = None
            self._dirty[LISTENER].update(self._refused[LISTENER])
            self._refused[LISTENER].clear()

    def _lose_patience(self) -> None:
        if self._cold and self._now() - self._cold_since >= PATIENCE:
            log.warning("Envoy %s: %d clusters are not warm yet (%s); going on without them",
                        self.node, len(self._cold), next(iter(self._cold)))  # fmt: skip
            self._cold.clear()

    def due(self) -> Iterable[bytes]:
        """The responses whose turn has come, packed."""
        if CLUSTER in self._asked:
            yield from self._clusters_due()
        if ENDPOINT in self._asked:
            yield from self._endpoints_due()
        self._lose_patience()
        self._retry()
        if self._cold or self._is_awaiting(CLUSTER):
            return
        for type in (LISTENER, ROUTE):
            if type in self._asked:
                yield from self._plain_due(type)
        if not self._is_awaiting(LISTENER, ROUTE) and not self._dirty[ROUTE]:
            yield from self._removals_due()

    def _is_awaiting(self, *types: str) -> bool:
        return any(type in types for type, _, _ in self._pending.values())

    def _clusters_due(self) -> Iterable[bytes]:
        changed, gone = self._differing(CLUSTER, self._dirty[CLUSTER])
        self._dirty[CLUSTER] = gone
        for name in gone:
            self._cold.pop(name, None)
        if changed or CLUSTER in self._unanswered:
            number = next(self._nonces)
            for resource in changed:
                if resource.name in self._has[CLUSTER] or resource.name in self._sent[CLUSTER]:
                    # Envoy warms a changed cluster anew, which takes its endpoints again.
                    self._again.add(resource.name)
                self._chill(resource.name, number)
            yield self._respond(CLUSTER, changed, [], number)

    def _endpoints_due(self) -> Iterable[bytes]:
        subscribed = self._subscribed[ENDPOINT]
        names = (self._dirty[ENDPOINT] | self._again) & subscribed
        self._dirty[ENDPOINT].clear()
        changed, _ = self._differing(ENDPOINT, names - self._again)
        changed += [
            found
            for name in self._again & subscribed
            if (found := self._server.find(ENDPOINT, name)) is not None
        ]
        self._again.clear()
        if changed:
            yield self._respond(ENDPOINT, changed, [], next(self._nonces))
        self._unanswered.discard(ENDPOINT)

    def _plain_due(self, type: str) -> Iterable[bytes]:
        names = self._dirty[type]
        if type not in _WILDCARD:
            names = names & self._subscribed[type]
        changed, gone = self._differing(type, names)
        self._dirty[type] = set()
        if changed or gone or type in self._unanswered:
            yield self._respond(type, changed, sorted(gone), next(self._nonces))

    def _removals_due(self) -> Iterable[bytes]:
        gone = sorted(self._dirty[CLUSTER])
        if gone:
            self._dirty[CLUSTER] = set()
            yield self._respond(CLUSTER, [], gone, next(self._nonces))

    def _differing(self, type: str, names: Iterable[str]) -> tuple[list[Resource], set[str]]:
        """Resources of these names that Envoy lacks, and names it has that are no more."""
        changed, gone = [], set()
        for name in names:
            resource, version = self._server.find(type, name), self._last_version(type, name)
            if resource is None:
                if version:
                    gone.add(name)
            elif version != resource.version:
                changed.append(resource)
        return changed, gone

    def _last_version(self, type: str, name: str) -> str:
        """What Envoy has or will have, once all that is on its way has arrived."""
        sent, has = self._sent[type].get(name), self._has[type].get(name)
        if sent:
            return sent[-1].version
        return self._refused[type].get(name) or (has.version if has else "")

    def _respond(
        self, type: str, changed: list[Resource], removed: list[str], number: int
    ) -> bytes:
        nonce = str(number)
        self._unanswered.discard(type)
        self._pending[nonce] = (type, changed, removed)
        response = discovery_pb2.DeltaDiscoveryResponse(
            type_url=type, nonce=nonce, removed_resources=removed
        )
        for resource in changed:
            self._sent[type].setdefault(resource.name, []).append(resource)
            self._aims.add(resource)
            self._refused[type].pop(resource.name, None)
            sent = response.resources.add(name=resource.name, version=resource.version)
            sent.resource.type_url, sent.resource.value = type, resource.body
        packed: bytes = response.SerializeToString()
        self._server.bytes_sent += len(packed)
        return packed


class AdsServer:
    """Holds the resources and serves them to every Envoy that connects.

    Attributes:
        opened: nothing is sent before this is true, so that an Envoy with traffic never loses what
            a gateway that has just started does not know yet.
        bytes_sent: of all responses together.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.opened = False
        self.bytes_sent = 0
        self.connections: set[Connection] = set()
        self._resources: dict[str, dict[str, Resource]] = {type: {} for type in TYPES}
        self._aims = _Aims()
        self._now = now
        self._changed = asyncio.Event()
        self._listeners: list[Callable[[str, list[str]], None]] = []

    def open(self) -> None:
        self.opened = True
        self._wake_all()

    def find(self, type: str, name: str) -> Resource | None:
        return self._resources[type].get(name)

    def names(self, type: str) -> Iterable[str]:
        return self._resources[type].keys()

    def update(self, type: str, changed: Iterable[Resource], removed: Iterable[str] = ()) -> bool:
        """Take in changes of one type; whether there were any. `flush` sends them."""
        mine, names = self._resources[type], []
        for resource in changed:
            found = mine.get(resource.name)
            if found is None or found.version != resource.version:
                mine[resource.name] = resource
                names.append(resource.name)
                self._aims.add(resource)
                if found is not None:
                    self._aims.remove(found)
        for name in removed:
            gone = mine.pop(name, None)
            if gone is not None:
                names.append(name)
                self._aims.remove(gone)
        for connection in self.connections:
            connection.mark(type, names)
        return bool(names)

    def flush(self) -> None:
        """Send what was taken in, as far as its turn has come."""
        self._wake_all()

    def on_change(self, handler: Callable[[str, list[str]], None]) -> None:
        """Call `handler(type, names)` on acknowledgements; with nothing when an Envoy comes or
        goes."""
        self._listeners.append(handler)

    def on_acknowledged(self, type: str, names: list[str]) -> None:
        for handler in self._listeners:
            handler(type, names)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    @property
    def ready_connections(self) -> list[Connection]:
        return [connection for connection in self.connections if connection.caught_up]

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds; it is asked after each acknowledgement."""
        while not condition():
            await self._changed.wait()

    def is_settled(self) -> bool:
        """Every connected Envoy has taken in, or refused, all clusters, listeners and routes."""
        return all(connection.settled for connection in self.connections)

    def may_send_to(self, address: str) -> bool:
        """Whether an Envoy may choose that address, now or after what is on its way to it."""
        return self._aims.include(address) or any(
            connection.may_send_to(address) for connection in self.connections
        )

    def _wake_all(self) -> None:
        for connection in self.connections:
            connection.wake()

    async def serve(self, socket: Path) -> None:
        """Serve on a unix socket until cancelled."""
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
            ]
        )
        handler = grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=discovery_pb2.DeltaDiscoveryRequest.FromString,
            response_serializer=None,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, {"DeltaAggregatedResources": handler}),)
        )
        await serve_on_socket(server, socket)

    async def _stream(self, requests: Any, context: Any) -> Any:
        connection = Connection(self, self._now)
        self.connections.add(connection)

        async def read() -> None:
            async for request in requests:
                connection.take(request)
            context.cancel()

        reader = asyncio.ensure_future(read())
        try:
            async for response in connection.responses():
                yield response
        finally:
            reader.cancel()
            self.connections.discard(connection)
            self.on_acknowledged("", [])
            log.info("Envoy %s is gone", connection.node)
