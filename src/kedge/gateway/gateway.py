"""The loop around it all: from watched objects to what Envoy has acknowledged, and back to status.

Endpoints and routes go separate ways. A change of endpoints is sent at once, since requests wait
for it or must be kept from a pod that ends. Clusters and routes are published one after the other,
each when Envoy has settled on the one before; what changes meanwhile goes together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from kedge.api.scheme import ENDPOINT_SLICE, HTTP_ROUTE, SERVICE
from kedge.cluster.base import Cluster, EventType, Object
from kedge.gateway import ir
from kedge.gateway.accesslog import AccessLog
from kedge.gateway.activation import make_activation_clusters
from kedge.gateway.activator import Activator
from kedge.gateway.admin import EnvoyAdmin
from kedge.gateway.asking import AskingServer
from kedge.gateway.binding import is_ours
from kedge.gateway.comparing import Comparer
from kedge.gateway.conditions import Condition
from kedge.gateway.demand import Demand
from kedge.gateway.fleet import Fleet
from kedge.gateway.fronts import Fronts
from kedge.gateway.inherited import Inheritance
from kedge.gateway.inventory import BY_SERVICE, Inventory, RouteKey, ServiceKey, slice_keys
from kedge.gateway.listeners import OUTSIDE_TLS, make_listeners
from kedge.gateway.localendpoints import LocalEndpoints
from kedge.gateway.members import Members
from kedge.gateway.proxy import make_proxy_clusters
from kedge.gateway.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource, make_resource
from kedge.gateway.scout import Scout
from kedge.gateway.served import ServedGateway
from kedge.gateway.shadow import make_shadow_clusters
from kedge.gateway.status import (
    ANSWERING,
    RESOLVED_REFS,
    Reach,
    Standing,
    current_condition,
    judge,
    make_status,
)
from kedge.gateway.statuses import keep_statuses
from kedge.gateway.table import TableBuilder
from kedge.gateway.traffic import TrafficReader
from kedge.gateway.translate import make_cluster, make_load_assignment
from kedge.gateway.verdicts import NOT_YET
from kedge.gateway.xds import AdsServer
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.reconcile.controller import Controller, Key, Result
from kedge.reconcile.informer import Informer
from kedge.settings.gateway import GatewaySettings

log = logging.getLogger(__name__)

DEBOUNCE = 0.003
"""Seconds that a change waits for those that come with it."""
PACE = 4.0
"""A publication that took a while is followed by a pause this many times as long; by one twice and
three times as long when the pauses before were no calm ones. So while a thousand services are
applied Envoy and we do more than rebuild route tables."""
LONGEST_PAUSE = 4.0
GATHER = 0.25
"""As many times as long as the last publication took the next one waits for what comes with it: the
routes of one service should not need two."""
LONGEST_GATHERING = 0.1
CHUNK = 32
"""Routes that are read in one go: whoever shares our event loop has requests to wake pods for."""
LOOK_AGAIN = 10.0
"""Seconds until a route is judged again that waits for another replica, if nothing is heard."""
ARRIVAL_SECONDS = 0.5
"""How long a new route's Services may be on their way."""
SETTLE_TIMEOUT = 15.0
"""Longest wait, in seconds, for Envoy before the next publication goes out all the same."""


class Gateway:
    """Drives every Envoy that connects, and says on each HTTPRoute whether it is answered.

    Args:
        join: makes this one of several replicas; None where it is the only one.

    Attributes:
        ready: set once an Envoy has taken everything in, its listeners included.
        admin: Envoy's admin interface.
        activator: who waits for a pod.
        demand: how much is asked of each service, for the autoscaler.
        traffic: what became of it, for people.
        comparer: how the answers of candidates compare with those that clients get.
    """

    def __init__(
        self,
        cluster: Cluster,
        settings: GatewaySettings,
        clock: Clock = SYSTEM_CLOCK,
        *,
        join: Callable[[Activator], Fleet] | None = None,
    ) -> None:
        self.ready = asyncio.Event()
        self.server = AdsServer(clock.monotonic)
        self.activator = Activator(max_held=settings.max_held, clock=clock)
        self.admin = EnvoyAdmin(settings.admin_socket)
        self.demand = Demand(self.admin, self.activator, clock)
        self.traffic = TrafficReader(self.admin)
        self.comparer = Comparer(clock)
        self._served = ServedGateway(cluster, settings, clock)
        self.fleet = join(self.activator) if join is not None else None
        self._cluster = cluster
        self._settings = settings
        self._clock = clock
        self._routes = Informer(cluster, HTTP_ROUTE, clock=clock)
        self._services = Informer(cluster, SERVICE, clock=clock)
        self._slices = Informer(cluster, ENDPOINT_SLICE, clock=clock)
        self._slices.add_index(BY_SERVICE, slice_keys)
        self._informers = [self._routes, self._services, self._slices]
        self._informers += self._served.informers
        self._inventory = Inventory(
            self._routes, self._services, self._slices,
            settings.gateway, self._served.bind, settings.inside,
            scouted=self.fleet is not None,
        )  # fmt: skip
        if self.fleet is not None:
            self._informers += self.fleet.watch.informers
        self._builder = TableBuilder(
            proxied=settings.proxy_port is not None, forwards=settings.forwards
        )
        self._statuses = Controller("route-status", self._write_status, clock=clock)
        self._dirty_routes: set[RouteKey] = set()
        self._dirty_services: set[ServiceKey] = set()
        self._dirty_slices: set[ServiceKey] = set()
        self._kick = asyncio.Event()
        self._changed = asyncio.Event()
        self._published: dict[RouteKey, ir.CompiledRoute] = {}
        self._confirmed: dict[RouteKey, ir.CompiledRoute] = {}
        self._held: set[RouteKey] = set()
        self._refused: dict[RouteKey, tuple[ir.CompiledRoute, str]] = {}
        self._clusters: dict[str, tuple[ir.Cluster, Resource]] = {}
        self._waiting: dict[RouteKey, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        self._routes.on_change(self._on_route)
        self._services.on_change(self._on_service)
        self._slices.on_change(self._on_slice)
        self.server.on_change(self._on_acknowledged)
        async with self.admin, asyncio.TaskGroup() as group:
            for informer in self._informers:
                group.create_task(informer.run())
            group.create_task(self.server.serve(self._settings.xds_socket))
            for informer in self._informers:
                await informer.synced.wait()
            if self.fleet is not None:
                self.fleet.watch.follow()
                self.fleet.on_verdicts(self._on_verdicts)
            await self._prepare()
            group.create_task(self._serve_activation())
            group.create_task(self.demand.run())
            group.create_task(self.comparer.serve(self._settings.compare_socket))
            group.create_task(self._collect())
            group.create_task(self._publish())
            group.create_task(self._statuses.run())
            statuses = keep_statuses(
                self._cluster, self._settings, self._served,
                self._inventory.routes.values, self._writes, self._clock,
            )  # fmt: skip
            group.create_task(statuses)
            if self.fleet is not None:
                self._start_writers(group, self.fleet.members)
            if self._settings.access_log is not None:
                access_log = AccessLog(
                    self._settings.access_log, self._settings.admin_socket, clock=self._clock
                )
                group.create_task(access_log.run())

    def _start_writers(self, group: asyncio.TaskGroup, members: Members) -> None:
        """What writes what only one of several replicas needs to write, besides statuses."""
        cluster, clock = self._cluster, self._clock
        fronts = Fronts(cluster, members, self._settings, self._routes, clock)
        for informer in fronts.informers:
            group.create_task(informer.run())
        group.create_task(fronts.run())
        endpoints = LocalEndpoints(cluster, members, self._services, self._slices, clock)
        group.create_task(endpoints.run())

    def _writes(self) -> bool:
        return self.fleet is None or self.fleet.members.writes

    async def _serve_activation(self) -> None:
        """Answer Envoy's questions; not before it is known what is in pods already."""
        socket = self._settings.activation_socket
        # An earlier activator's last answer may still be on its way to a pod.
        await self._clock.sleep(self._settings.settle_seconds)
        fleet = self.fleet
        told = fleet.sharing.inherited_changed if fleet is not None else _nothing
        inheritance = Inheritance(self.admin, self.activator, self._clock, changed=told)
        lane = await inheritance.take()
        async with asyncio.TaskGroup() as group:
            if fleet is not None:
                group.create_task(fleet.run())
                group.create_task(Scout(self.activator, clock=self._clock).run())
                group.create_task(AskingServer(fleet.sharing, lane).serve(socket))
            else:
                group.create_task(AskingServer(self.activator, lane).serve(socket))
            group.create_task(inheritance.run())
            group.create_task(self.activator.check_doubts())

    async def drained(self, address: str) -> None:
        """Wait until no Envoy sends to that pod any more; its requests in flight go on, save those
        that the activator sent there: they have ended."""
        await self.server.wait_until(lambda: not self._may_be_sent_to(address))
        await self._clock.sleep(self._settings.settle_seconds)
        await self.activator.drained(address)

    def _may_be_sent_to(self, address: str) -> bool:
        # An Envoy that has lost us goes on with what it has.
        return not self.server.ready_connections or self.server.may_send_to(address)

    @property
    def missing(self) -> str:
        """What is missing before a request could be answered; empty for nothing."""
        unread = [one.kind.plural for one in self._informers if not one.synced.is_set()]
        if unread:
            return f"not read yet: {', '.join(unread)}"
        if not self.server.ready_connections:
            return self.obstacle or "no Envoy has taken its configuration"
        return ""

    @property
    def refusal(self) -> str:
        """Why an Envoy does not listen as it is to, in its own words; empty when all do."""
        return self._find_refusal(LISTENER)

    @property
    def obstacle(self) -> str:
        """What Envoy has against more than a single route; empty for nothing."""
        found = [(one, self._find_refusal(one)) for one in (LISTENER, CLUSTER)]
        return "; ".join(
            f"Envoy refuses a {type.rpartition('.')[2].lower()}: {text.strip()}"
            for type, text in found
            if text
        )

    def _find_refusal(self, type: str) -> str:
        return next(
            (found for one in self.server.connections if (found := one.rejected.get(type))), ""
        )

    @property
    def figures(self) -> list[tuple[str, int]]:
        """By name, for monitoring."""
        inventory = self._inventory
        return [
            ("routes", len(inventory.routes)),
            ("routes_acknowledged", len(self._confirmed)),
            ("routes_refused", len(self._refused)),
            ("clusters", len(inventory.clusters)),
            ("envoys", len(self.server.ready_connections)),
            ("held_requests", sum(self.activator.held().values())),
        ]

    # What changed

    def _on_route(self, type: EventType, obj: Object, old: Object | None) -> None:
        if old is not None and _is_same(obj, old):
            self._enqueue([_key(obj)])
            return
        self._dirty_routes.add(_key(obj))
        self._kick.set()

    def _on_binding(self, namespace: str) -> None:
        self._dirty_routes.update(_key(one) for one in self._routes.list(namespace or None))
        self._kick.set()

    def _on_service(self, type: EventType, obj: Object, old: Object | None) -> None:
        self._dirty_services.add(_key(obj))
        self._kick.set()

    def _on_slice(self, type: EventType, obj: Object, old: Object | None) -> None:
        for piece in (obj, old):
            for key in slice_keys(piece) if piece else ():
                namespace, _, name = key.partition("/")
                self._dirty_slices.add((namespace, name))
        self._kick.set()

    async def _collect(self) -> None:
        """Read what changed; send endpoints at once and have the rest published."""
        while True:
            await self._kick.wait()
            if not self.activator.held():
                await self._clock.sleep(DEBOUNCE)
            self._kick.clear()
            await self._read_changes()
            self.server.flush()

    async def _read_changes(self) -> None:
        services, self._dirty_services = self._dirty_services, set()
        slices, self._dirty_slices = self._dirty_slices, set()
        routes, self._dirty_routes = self._dirty_routes, set()
        for service in services:
            routes.update(self._inventory.routes_to(service))
        changed = False
        for number, key in enumerate(routes, 1):
            changed |= self._inventory.read_route(key)
            if number % CHUNK == 0:
                await asyncio.sleep(0)
        for service in services | slices:
            for name in self._inventory.clusters_of(service):
                self._inventory.read_endpoints(name)
        moved = self._inventory.take_moved()
        self._tell_activator(moved)
        self._send_endpoints(moved)
        if changed:
            self._changed.set()
        self._enqueue({*routes, *(user for name in moved for user in self._inventory.users(name))})

    def _tell_activator(self, clusters: Iterable[str]) -> None:
        for name in clusters:
            endpoints = self._inventory.endpoints.get(name)
            if endpoints is None:
                self.activator.forget(name)
            else:
                self.activator.update(endpoints)

    def _send_endpoints(self, clusters: Iterable[str]) -> None:
        self.server.update(
            ENDPOINT,
            [
                make_resource(
                    name,
                    make_load_assignment(endpoints),
                    endpoints.targets,
                )
                for name in clusters
                if (endpoints := self._inventory.endpoints.get(name)) is not None
            ],
        )

    # What is published

    async def _prepare(self) -> None:
        """What hardly changes while we run."""
        self._served.on_change(self._on_binding)
        self._served.follow()
        if self._served.certificates is not None:
            self._served.certificates.on_change(self._update_listeners)
        self._update_listeners()
        clusters = make_activation_clusters(self._settings.activation_socket)
        clusters += make_shadow_clusters(self._settings.compare_socket)
        if self._settings.proxy_port is not None:
            clusters += make_proxy_clusters(forwards=self._settings.forwards)
        self.server.update(CLUSTER, [make_resource(one.name, one) for one in clusters])
        await self._read_changes()
        self._changed.set()

    def _update_listeners(self) -> None:
        certificates = self._served.certificates
        chains = certificates.chains if certificates is not None else ()
        made = make_listeners(self._settings, chains)
        gone = {OUTSIDE_TLS} - {one.name for one in made}
        self.server.update(LISTENER, [make_resource(one.name, one) for one in made], gone)
        self.server.flush()

    async def _publish(self) -> None:
        took, streak = 0.0, 0
        while True:
            streak = streak + 1 if self._changed.is_set() else 1
            await self._changed.wait()
            await self._clock.sleep(min(took * GATHER, LONGEST_GATHERING))
            self._changed.clear()
            began = self._clock.monotonic()
            await self._publish_or_blame()
            took = self._clock.monotonic() - began
            await self._clock.sleep(min(took * PACE * streak, LONGEST_PAUSE))

    async def _publish_or_blame(self) -> None:
        """Publish; when Envoy refuses the table, find the routes that it refuses, and leave those
        out: one bad route must not keep all others from changing."""
        if not await self._publish_once():
            return
        suspects = [
            key for key, route in self._published.items() if self._confirmed.get(key) is not route
        ]
        self._held.update(suspects)
        await self._publish_once()
        for key in suspects:
            self._held.discard(key)
            refusal = await self._publish_once()
            route = self._published.get(key)
            if refusal and route is not None:
                self._refused[key] = (route, refusal)
                self._enqueue([key])
        await self._publish_once()

    async def _publish_once(self) -> str:
        """Send all clusters and routes, wait until Envoy has settled; its refusal, or nothing."""
        routes = {
            key: route
            for key, route in self._inventory.routes.items()
            if key not in self._held and not self._refusal(key, route)
        }
        clusters = dict(self._inventory.clusters)
        table = await asyncio.to_thread(self._builder.build, list(routes.values()))
        self._send_endpoints(name for name in clusters if self.server.find(ENDPOINT, name) is None)
        self._update_clusters(clusters)
        self.server.update(ROUTE, [table])
        self._published = routes
        if self.server.opened:
            self.server.flush()
        else:
            self.server.open()
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT):
                await self.server.wait_until(self.server.is_settled)
        except TimeoutError:
            log.warning("Envoy has not settled within %.0f s", SETTLE_TIMEOUT)
        self._confirm()
        return self._find_refusal(ROUTE)

    def _update_clusters(self, clusters: dict[str, ir.Cluster]) -> None:
        known, self._clusters = self._clusters, {}
        for name, cluster in clusters.items():
            old = known.get(name)
            resource = (
                old[1] if old and old[0] == cluster else make_resource(name, make_cluster(cluster))
            )
            self._clusters[name] = (cluster, resource)
        gone = known.keys() - clusters.keys()
        self.server.update(CLUSTER, [resource for _, resource in self._clusters.values()], gone)
        self.server.update(ENDPOINT, [], gone)

    def _refusal(self, key: RouteKey, route: ir.CompiledRoute) -> str:
        refused = self._refused.get(key)
        if refused is None:
            return ""
        if refused[0] is route:
            return refused[1]
        del self._refused[key]
        return ""

    # What Envoy has, and what the routes' status says of it

    def _on_acknowledged(self, type: str, names: list[str]) -> None:
        if self.server.ready_connections:
            self.ready.set()
        if type == ENDPOINT:
            self._enqueue({user for name in names for user in self._inventory.users(name)})
        elif not type:
            self._enqueue(self._inventory.routes)
        self._confirm()

    def _confirm(self) -> None:
        """Take note that all of what is published has arrived."""
        server = self.server
        if self._confirmed is self._published or not server.ready_connections:
            return
        if not server.is_settled() or any(one.rejected for one in server.connections):
            return
        before, self._confirmed = self._confirmed, self._published
        self._enqueue(key for key, route in self._confirmed.items() if before.get(key) is not route)

    def _enqueue(self, keys: Iterable[RouteKey]) -> None:
        for key in keys:
            self._statuses.enqueue(Key(*key))

    def _on_verdicts(self, routes: list[RouteKey] | None) -> None:
        """Other replicas have come or gone, or have something new to say of these routes."""
        if self.fleet is not None and self.fleet.members.writes:
            self._enqueue(self._inventory.routes if routes is None else routes)

    async def _write_status(self, key: Key) -> Result | None:
        route = self._routes.get(key.namespace, key.name)
        compiled = self._inventory.routes.get(key)
        if route is None or compiled is None or not is_ours(route, self._settings.gateway):
            self._waiting.pop(key, None)
            if self.fleet is not None:
                self.fleet.board.forget(key)
            return None
        refusal = self._refusal(key, compiled)
        confirmed = self._confirmed.get(key) is compiled
        conditions = judge(compiled, confirmed, self._reach, refusal, self.obstacle)
        if self.fleet is not None:
            own = conditions[-1]
            self.fleet.board.publish(key, compiled.generation, own)
            if not self.fleet.members.writes:
                self._waiting.pop(key, None)
                return None
            conditions[-1] = self.fleet.board.join(key, compiled.generation, own)
            if own.status and conditions[-1].reason == NOT_YET and _answers(route):
                # It did, and still does as far as is known.
                self._waiting.pop(key, None)
                return Result(requeue_after=LOOK_AGAIN)
        patience = self._patience(route, conditions)
        if patience:
            since = self._waiting.setdefault(key, self._clock.monotonic())
            left = since + patience - self._clock.monotonic()
            if left > 0:
                return Result(requeue_after=left)
        else:
            self._waiting.pop(key, None)
        status = make_status(route, self._settings.gateway, compiled, conditions, self._clock.now())
        if status != route.get("status"):
            written = await self._cluster.replace_status(HTTP_ROUTE, {**route, "status": status})
            self._routes.note_write(written)
        if self.fleet is not None and conditions[-1].reason == NOT_YET:
            return Result(requeue_after=LOOK_AGAIN)
        return None

    def _patience(self, route: Object, conditions: list[Condition]) -> float:
        """Seconds for which it is worth to wait before the conditions are told."""
        if conditions[-1].reason == NOT_YET:
            # Usually gone in milliseconds, and until then what the status said before is true; so
            # it is of an Envoy that died and is being restarted.
            return self._settings.away_seconds
        resolved = next(one for one in conditions if one.type == RESOLVED_REFS)
        if not resolved.status and current_condition(route, RESOLVED_REFS) is None:
            # A new route and its Services are seen by two watches, in whatever order.
            return ARRIVAL_SECONDS
        return 0.0

    def _reach(self, cluster: str) -> Standing:
        endpoints = self._inventory.endpoints.get(cluster)
        if endpoints is None or not endpoints.targets:
            return Standing(Reach.NONE)
        hold = endpoints.hold
        if hold and not endpoints.ready and (why := hold.cannot_start or hold.no_room):
            return Standing(Reach.FAILED, why)
        if not self.server.ready_connections:
            return Standing(Reach.SENT)
        for connection in self.server.ready_connections:
            has = connection.acknowledged(ENDPOINT, cluster)
            if has is None or not has.addresses & endpoints.targets:
                return Standing(Reach.SENT)
        return Standing(Reach.ANSWERING)


def _nothing() -> None:
    return None


def _answers(route: Object) -> bool:
    """Whether the route's status says that it is answered as it is now."""
    condition = current_condition(route, ANSWERING) or {}
    generation = route["metadata"].get("generation", 0)
    return condition.get("status") == "True" and condition.get("observedGeneration") == generation


def _is_same(route: Object, old: Object) -> bool:
    """Whether nothing but its status changed, as far as we read it."""
    new, was = route["metadata"], old["metadata"]
    return all(
        new.get(field) == was.get(field)
        for field in ("uid", "generation", "labels", "annotations", "ownerReferences")
    )


def _key(obj: Object) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
