"""What the caches hold, compiled: only what a change touches is read again."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kedge.cluster.base import Object
from kedge.gateway.binding import is_ours
from kedge.gateway.ir import Binding, Cluster, CompiledRoute, Endpoints
from kedge.gateway.routes import (
    Services,
    compile_endpoints,
    compile_route,
    referenced_services,
)
from kedge.reconcile.informer import Informer

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
BY_SERVICE = "service"
"""Index of EndpointSlices by `namespace/service`."""

RouteKey = tuple[str, str]
ServiceKey = tuple[str, str]


def slice_keys(piece: Object) -> list[str]:
    metadata = piece["metadata"]
    name = (metadata.get("labels") or {}).get(SERVICE_NAME_LABEL)
    return [f"{metadata.get('namespace', '')}/{name}"] if name else []


class Inventory:
    """Compiled routes, their clusters, and the endpoints of those.

    Attributes:
        routes: by namespace and name of the HTTPRoute.
        clusters: those that some route uses.
        endpoints: of each cluster.

    Args:
        gateway: `namespace/name` of the Gateway whose routes are read.
        bind: says what its listeners make of a route.
        inside: its listener that only pods reach, if there is one.
        scouted: pods that are not ready yet are asked for it, so they have to be known.
    """

    def __init__(
        self,
        routes: Informer,
        services: Informer,
        slices: Informer,
        gateway: str,
        bind: Callable[[Object], Binding],
        inside: str = "",
        *,
        scouted: bool = False,
    ) -> None:
        self.routes: dict[RouteKey, CompiledRoute] = {}
        self.clusters: dict[str, Cluster] = {}
        self.endpoints: dict[str, Endpoints] = {}
        self._moved: set[str] = set()
        self._users: dict[str, set[RouteKey]] = {}
        self._by_service: dict[ServiceKey, set[RouteKey]] = {}
        self._references: dict[RouteKey, set[ServiceKey]] = {}
        self._informers = (routes, services, slices)
        self._gateway = gateway
        self._bind = bind
        self._inside = inside
        self._scouted = scouted

    def users(self, cluster: str) -> Iterable[RouteKey]:
        """The routes that send to this cluster."""
        return self._users.get(cluster, ())

    def routes_to(self, service: ServiceKey) -> Iterable[RouteKey]:
        return self._by_service.get(service, ())

    def clusters_of(self, service: ServiceKey) -> list[str]:
        names = {
            cluster.name for key in self.routes_to(service) for cluster in self.routes[key].clusters
        }
        prefix = "/".join(service) + "/"
        return [name for name in names if name.startswith(prefix)]

    def read_route(self, key: RouteKey) -> bool:
        """Read one HTTPRoute again; whether anything but its status changed."""
        obj = self._informers[0].get(*key)
        old = self.routes.get(key)
        if obj is None or not is_ours(obj, self._gateway):
            if old is None:
                return False
            self._drop(old)
            del self.routes[key]
            return True
        binding = self._bind(obj)
        inside = bool(self._inside) and binding.listeners == (self._inside,)
        compiled = compile_route(obj, self._find_service, binding, inside=inside)
        if compiled == old:
            return False
        self.routes[key] = compiled
        if old is not None:
            self._drop(old)
        self._references[key] = referenced_services(obj)
        for service in self._references[key]:
            self._by_service.setdefault(service, set()).add(key)
        for cluster in compiled.clusters:
            self.clusters[cluster.name] = cluster
            self._users.setdefault(cluster.name, set()).add(key)
            if cluster.name not in self.endpoints:
                self.read_endpoints(cluster.name)
        return True

    def read_endpoints(self, cluster: str) -> None:
        """Read the endpoints of a cluster again."""
        namespace, name, _ = cluster.split("/")
        service = self._find_service(namespace, name)
        slices = self._informers[2].by_index(BY_SERVICE, f"{namespace}/{name}")
        found = compile_endpoints(cluster, service, slices, scouted=self._scouted)
        if self.endpoints.get(cluster) != found:
            self.endpoints[cluster] = found
            self._moved.add(cluster)

    def take_moved(self) -> set[str]:
        """The clusters whose endpoints changed since this was last asked."""
        moved, self._moved = self._moved, set()
        return moved

    @property
    def _find_service(self) -> Services:
        return self._informers[1].get

    def _drop(self, compiled: CompiledRoute) -> None:
        """Forget what only this route needed."""
        for service in self._references.pop(compiled.key, ()):
            self._by_service[service].discard(compiled.key)
            if not self._by_service[service]:
                del self._by_service[service]
        kept = self.routes.get(compiled.key)
        still = {c.name for c in kept.clusters} if kept is not compiled and kept else set()
        for cluster in compiled.clusters:
            users = self._users[cluster.name]
            users.discard(compiled.key)
            if not users and cluster.name not in still:
                del self._users[cluster.name]
                self.clusters.pop(cluster.name, None)
                self.endpoints.pop(cluster.name, None)
