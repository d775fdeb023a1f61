"""Where another way into the cluster is in front of the gateway: what leads from there to here.

For each route with hosts outside the cluster, an HTTPRoute of another implementation's Gateway, or
an Ingress, sends these hosts to the gateway's Service, as they are; never to pods. They are beside
that Service, in the namespace of Kedge's own objects, so that no right is needed elsewhere.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

from kedge.api.scheme import CONFIG_MAP, GATEWAY_GROUP, HTTP_ROUTE, INGRESS, Kind
from kedge.cluster.base import Cluster, EventType, Object
from kedge.cluster.errors import NotFound
from kedge.gateway.binding import is_bound_to, is_ours
from kedge.gateway.members import Members
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.reconcile.controller import Controller, Key, Result
from kedge.reconcile.informer import Informer
from kedge.settings.gateway import GatewaySettings
from kedge.settings.installation import GATEWAY
from kedge.settings.serving import CONFIG_MAP_NAME, ConfigError, ServingConfig

log = logging.getLogger(__name__)

FRONT_LABEL = "serving.kedge.dev/front"
"""Of what is written here, with value `true`."""
ROUTE_ANNOTATION = "serving.kedge.dev/front-of"
"""On what is written here: the HTTPRoute that it is for, `namespace/name`."""
_PORT = 80
_MOST_HOSTS = 16
"""An HTTPRoute takes no more."""
_LABELS = {"app.kubernetes.io/managed-by": "kedge", FRONT_LABEL: "true"}


def outside_hosts(route: Object, cluster_domain: str) -> list[str]:
    """The hosts of a route that are no names of Services."""
    namespace = route["metadata"]["namespace"]
    return [
        host
        for host in route["spec"].get("hostnames") or ()
        if not host.endswith((".svc", f".svc.{cluster_domain}"))
        and not (host.count(".") == 1 and host.endswith(f".{namespace}"))
    ]


def paths_of(route: Object) -> list[str]:
    """The path prefixes of a route; `/` alone where one is for any path."""
    found: dict[str, None] = {}
    for rule in route["spec"].get("rules") or ():
        for match in rule.get("matches") or [{}]:
            path = match.get("path") or {}
            plain = path.get("type", "PathPrefix") != "RegularExpression"
            found[path.get("value") or "/" if plain else "/"] = None
    return ["/"] if "/" in found or not found else list(found)


def front_name(namespace: str, route: str) -> str:
    mark = hashlib.blake2b(f"{namespace}/{route}".encode(), digest_size=3).hexdigest()
    return f"{namespace}-{route}-{mark}"


def make_front(
    route: Object, config: ServingConfig, cluster_domain: str
) -> tuple[Kind, Object] | None:
    """What leads to the gateway for a route; None where nothing is to."""
    hosts = outside_hosts(route, cluster_domain)
    if not hosts:
        return None
    if config.outer_gateway:
        return HTTP_ROUTE, _make_http_route(route, hosts, config)
    if config.outer_ingress_class:
        return INGRESS, _make_ingress(route, hosts, config)
    return None


def _make_http_route(route: Object, hosts: list[str], config: ServingConfig) -> Object:
    namespace, _, name = config.outer_gateway.partition("/")
    parent = {"group": GATEWAY_GROUP, "kind": "Gateway", "namespace": namespace, "name": name}
    matches = [{"path": {"type": "PathPrefix", "value": path}} for path in paths_of(route)]
    backend = {"group": "", "kind": "Service", "name": GATEWAY, "port": _PORT, "weight": 1}
    spec = {
        "parentRefs": [parent],
        "hostnames": hosts[:_MOST_HOSTS],
        "rules": [{"matches": matches, "backendRefs": [backend]}],
    }
    return _make(HTTP_ROUTE, route, config, spec)


def _make_ingress(route: Object, hosts: list[str], config: ServingConfig) -> Object:
    backend = {"service": {"name": GATEWAY, "port": {"number": _PORT}}}
    paths = [{"path": path, "pathType": "Prefix", "backend": backend} for path in paths_of(route)]
    spec = {
        "ingressClassName": config.outer_ingress_class,
        "rules": [{"host": host, "http": {"paths": paths}} for host in hosts],
    }
    return _make(INGRESS, route, config, spec)


def _make(kind: Kind, route: Object, config: ServingConfig, spec: Mapping[str, Any]) -> Object:
    namespace, name = route["metadata"]["namespace"], route["metadata"]["name"]
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {
            "name": front_name(namespace, name),
            "namespace": config.home,
            "labels": dict(_LABELS),
            "annotations": {ROUTE_ANNOTATION: f"{namespace}/{name}"},
        },
        "spec": dict(spec),
    }


class Fronts:
    """Keeps these objects, if we are the replica that writes.

    Args:
        home: the namespace of Kedge's own objects.
        routes: the cache of all HTTPRoutes.
    """

    def __init__(
        self,
        cluster: Cluster,
        members: Members,
        settings: GatewaySettings,
        routes: Informer,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._cluster = cluster
        self._members = members
        self._settings = settings
        self._routes = routes
        home = settings.gateway.partition("/")[0]
        self._home = home
        self._config = ServingConfig.default()
        label = f"{FRONT_LABEL}=true"
        self._there = {
            kind: Informer(cluster, kind, namespace=home, labels=label, clock=clock)
            for kind in (HTTP_ROUTE, INGRESS)
        }
        self._configs = Informer(
            cluster, CONFIG_MAP, namespace=home, fields=f"metadata.name={CONFIG_MAP_NAME}",
            clock=clock,
        )  # fmt: skip
        self.informers = (*self._there.values(), self._configs)
        self._writes = Controller("fronts", self._write, clock=clock)

    async def run(self) -> None:
        """Until cancelled; `informers` are run by whoever made us."""
        for informer in self.informers:
            await informer.synced.wait()
        self._configs.on_change(self._on_config)
        self._routes.on_change(self._on_route)
        for informer in self._there.values():
            informer.on_change(self._on_front)
        self._members.on_change(self._look_at_all)
        await self._writes.run()

    def _on_config(self, type: EventType, obj: Object, old: Object | None) -> None:
        try:
            self._config = (
                ServingConfig.default()
                if type is EventType.DELETED
                else ServingConfig.from_config_map(obj)
            )
        except ConfigError as error:
            log.error("%s; what held before holds on", error)
            return
        self._look_at_all()

    def _on_route(self, type: EventType, obj: Object, old: Object | None) -> None:
        same = old is not None and _generation(old) == _generation(obj)
        if not same or type is EventType.DELETED:
            self._writes.enqueue(Key(obj["metadata"]["namespace"], obj["metadata"]["name"]))

    def _on_front(self, type: EventType, obj: Object, old: Object | None) -> None:
        """Somebody has changed or removed what is ours."""
        of = (obj["metadata"].get("annotations") or {}).get(ROUTE_ANNOTATION, "")
        namespace, _, name = of.partition("/")
        if name:
            self._writes.enqueue(Key(namespace, name))

    def _look_at_all(self) -> None:
        for route in self._routes.list():
            self._writes.enqueue(Key(route["metadata"]["namespace"], route["metadata"]["name"]))
        for informer in self._there.values():
            for front in informer.list():
                self._on_front(EventType.ADDED, front, None)

    async def _write(self, key: Key) -> Result | None:
        if not self._members.writes:
            return None
        wanted = self._wanted(key)
        name = front_name(*key)
        for kind, informer in self._there.items():
            there = informer.get(self._home, name)
            if wanted is None or wanted[0] is not kind:
                if there is not None:
                    await self._remove(kind, there)
            elif there is None or not _says(there, wanted[1]):
                informer.note_write(await self._cluster.apply(kind, wanted[1]))
        return None

    def _wanted(self, key: Key) -> tuple[Kind, Object] | None:
        route = self._routes.get(*key)
        gateway = self._settings.gateway
        if (
            route is None
            or route["metadata"].get("deletionTimestamp")
            or not is_ours(route, gateway)
            or is_bound_to(route, gateway, self._settings.inside)
        ):
            return None
        return make_front(route, self._config, self._settings.cluster_domain)

    async def _remove(self, kind: Kind, there: Object) -> None:
        metadata = there["metadata"]
        try:
            await self._cluster.delete(kind, metadata["name"], self._home, uid=metadata["uid"])
        except NotFound:
            return


def _generation(route: Object) -> tuple[Any, Any]:
    return route["metadata"].get("uid"), route["metadata"].get("generation")


def _says(there: Object, wanted: Object) -> bool:
    """Whether an object says what is wanted; what the API server adds is no difference."""
    return _covers(there["spec"], wanted["spec"]) and _covers(
        there["metadata"].get("labels") or {}, wanted["metadata"]["labels"]
    )


def _covers(there: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(there, dict) and all(
            key in there and _covers(there[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(there, list)
            and len(there) == len(wanted)
            and all(_covers(one, other) for one, other in zip(there, wanted, strict=True))
        )
    return bool(there == wanted)
