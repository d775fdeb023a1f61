"""The loop around it all: from watched objects to what Envoy has acknowledged, and back to status.

Endpoints and routes go separate ways. A change of endpoints is sent at once, since requests wait
for it or must be kept from a pod that ends. Clusters and routes are published one after the other,
each when Envoy has settled on the one before; what changes meanwhile goes together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from kedge.api.scheme import ENDPOINT_SLICE, HTTP_ROUTE, SERVICE
from kedge.cluster.base import Cluster, EventType, Object
from kedge.gateway import ir
from kedge.gateway.accesslog import AccessLog
from kedge.gateway.activation import make_activation_clusters
from kedge.gateway.activator import Activator
from kedge.gateway.admin import EnvoyAdmin
from kedge.gateway.asking import AskingServer
from kedge.gateway.comparing import Comparer
from kedge.gateway.demand import Demand
from kedge.gateway.inherited import Inheritance
from kedge.gateway.inventory import BY_SERVICE, Inventory, RouteKey, ServiceKey, slice_keys
from kedge.gateway.listeners import make_listeners
from kedge.gateway.proxy import make_proxy_clusters
from kedge.gateway.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource, make_resource
from kedge.gateway.routes import is_ours
from kedge.gateway.shadow import make_shadow_clusters
from kedge.gateway.status import Reach, Standing, judge, make_status
from kedge.gateway.table import TableBuilder
from kedge.gateway.traffic import TrafficReader
from kedge.gateway.translate import make_cluster, make_load_assignment
from kedge.gateway.xds import AdsServer
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.reconcile.controller import Controller, Key, Result
from kedge.reconcile.informer import Informer
from kedge.settings.gateway import GatewaySettings

log = logging.getLogger(__name__)

DEBOUNCE = 0.003
"""Seconds that a change waits for those that come with it."""
PACE = 4.0
"""A publication that took a while is followed by a pause this many times as long, so that while a
thousand services are applied Envoy and we do more than rebuild route tables."""
LONGEST_PAUSE = 2.0
CHUNK = 32
"""Routes that are read in one go: whoever shares our event loop has requests to wake pods for."""
SETTLE_TIMEOUT = 15.0
"""Longest wait, in seconds, for Envoy before the next publication goes out all the same."""


class Gateway:
    """Drives every Envoy that connects, and says on each HTTPRoute whether it is answered.

    Attributes:
        ready: set once an Envoy has taken everything in, its listeners included.
        activator: who waits for a pod.
        demand: how much is asked of each service, for the autoscaler.
        traffic: what became of it, for people.
        comparer: how the answers of candidates compare with those that clients get.
    """

    def __init__(
        self, cluster: Cluster, settings: GatewaySettings, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.ready = asyncio.Event()
        self.server = AdsServer(clock.monotonic)
        self.activator = Activator(max_held=settings.max_held, clock=clock)
        self._admin = EnvoyAdmin(settings.admin_socket)
        self.demand = Demand(self._admin, self.activator, clock)
        self.traffic = TrafficReader(self._admin)
        self.comparer = Comparer(clock)
        self._cluster = cluster
        self._settings = settings
        self._clock = clock
        self._routes = Informer(cluster, HTTP_ROUTE, clock=clock)
        self._services = Informer(cluster, SERVICE, clock=clock)
        self._slices = Informer(cluster, ENDPOINT_SLICE, clock=clock)
        self._slices.add_index(BY_SERVICE, slice_keys)
        self._informers = (self._routes, self._services, self._slices)
        self._inventory = Inventory(*self._informers, settings.gateway)
        self._builder = TableBuilder(proxied=settings.proxy_port is not None)
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
        async with self._admin, asyncio.TaskGroup() as group:
            for informer in self._informers:
                group.create_task(informer.run())
            group.create_task(self.server.serve(self._settings.xds_socket))
            for informer in self._informers:
                await informer.synced.wait()
            await self._prepare()
            group.create_task(self._serve_activation())
            group.create_task(self.demand.run())
            group.create_task(self.comparer.serve(self._settings.compare_socket))
            group.create_task(self._collect())
            group.create_task(self._publish())
            group.create_task(self._statuses.run())
            if self._settings.access_log is not None:
                access_log = AccessLog(
                    self._settings.access_log, self._settings.admin_socket, clock=self._clock
                )
                group.create_task(access_log.run())

    async def _serve_activation(self) -> None:
        """Answer Envoy's questions; not before it is known what is in pods already."""
        # An earlier activator's last answer may still be on its way to a pod.
        await self._clock.sleep(self._settings.settle_seconds)
        inheritance = Inheritance(self._admin, self.activator, self._clock)
        asking = AskingServer(self.activator, await inheritance.take())
        async with asyncio.TaskGroup() as group:
            group.create_task(inheritance.run())
            group.create_task(self.activator.check_doubts())
            group.create_task(asking.serve(self._settings.activation_socket))

    async def drained(self, address: str) -> None:
        """Wait until no Envoy sends to that pod any more; its requests in flight go on, save those
        that the activator sent there: they have ended."""
        await self.server.wait_until(lambda: not self._may_be_sent_to(address))
        await self._clock.sleep(self._settings.settle_seconds)
        await self.activator.drained(address)

    def _may_be_sent_to(self, address: str) -> bool:
        # An Envoy that has lost us goes on with what it has.
        return not self.server.ready_connections or self.server.may_send_to(address)

    # What changed

    def _on_route(self, type: EventType, obj: Object, old: Object | None) -> None:
        if old is not None and _is_same(obj, old):
            self._enqueue([_key(obj)])
            return
        self._dirty_routes.add(_key(obj))
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
        """What never changes while we run."""
        listeners = make_listeners(self._settings)
        self.server.update(LISTENER, [make_resource(one.name, one) for one in listeners])
        clusters = make_activation_clusters(self._settings.activation_socket)
        clusters += make_shadow_clusters(self._settings.compare_socket)
        if self._settings.proxy_port is not None:
            clusters += make_proxy_clusters()
        self.server.update(CLUSTER, [make_resource(one.name, one) for one in clusters])
        await self._read_changes()
        self._changed.set()

    async def _publish(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            began = self._clock.monotonic()
            await self._publish_or_blame()
            took = self._clock.monotonic() - began
            await self._clock.sleep(min(took * PACE, LONGEST_PAUSE))

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
        return next(
            (found for one in self.server.connections if (found := one.rejected.get(ROUTE))), ""
        )

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

    async def _write_status(self, key: Key) -> Result | None:
        route = self._routes.get(key.namespace, key.name)
        compiled = self._inventory.routes.get(key)
        if route is None or compiled is None or not is_ours(route, self._settings.gateway):
            self._waiting.pop(key, None)
            return None
        refusal = self._refusal(key, compiled)
        confirmed = self._confirmed.get(key) is compiled
        conditions = judge(compiled, confirmed, self._reach, refusal)
        if conditions[-1].reason == "NotAcknowledged":
            # Usually gone in milliseconds, and until then what the status said before is true; so
            # it is of an Envoy that died and is being restarted.
            since = self._waiting.setdefault(key, self._clock.monotonic())
            left = since + self._settings.away_seconds - self._clock.monotonic()
            if left > 0:
                return Result(requeue_after=left)
        else:
            self._waiting.pop(key, None)
        status = make_status(
            route, self._settings.gateway, compiled.generation, conditions, self._clock.now()
        )
        if status != route.get("status"):
            written = await self._cluster.replace_status(HTTP_ROUTE, {**route, "status": status})
            self._routes.note_write(written)
        return None

    def _reach(self, cluster: str) -> Standing:
        endpoints = self._inventory.endpoints.get(cluster)
        if endpoints is None or not endpoints.targets:
            return Standing(Reach.NONE)
        if not endpoints.ready and endpoints.hold and endpoints.hold.cannot_start:
            return Standing(Reach.FAILED, endpoints.hold.cannot_start)
        if not self.server.ready_connections:
            return Standing(Reach.SENT)
        for connection in self.server.ready_connections:
            has = connection.acknowledged(ENDPOINT, cluster)
            if has is None or not has.addresses & endpoints.targets:
                return Standing(Reach.SENT)
        return Standing(Reach.ANSWERING)


def _is_same(route: Object, old: Object) -> bool:
    """Whether nothing but its status changed, as far as we read it."""
    new, was = route["metadata"], old["metadata"]
    return all(
        new.get(field) == was.get(field)
        for field in ("uid", "generation", "labels", "annotations", "ownerReferences")
    )


def _key(obj: Object) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
