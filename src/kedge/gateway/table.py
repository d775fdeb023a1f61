"""The route table, built again and again from what hardly changes.

One table serves all listeners: two would cost Envoy twice the memory and twice the time at every
change. What came in through the pods' proxy carries a header that no client can send.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from envoy.config.route.v3 import route_components_pb2

from kedge.gateway import ir, proxy
from kedge.gateway.matching import (
    INDEX_FROM,
    Leaf,
    look_up,
    make_action,
    make_route_list,
    make_tree,
)
from kedge.gateway.resource import Resource, make_resource
from kedge.gateway.routes import ANY_HOST, make_hosts
from kedge.gateway.translate import (
    INNER_HEADER,
    RETRIES,
    make_route_configuration,
    make_routes,
    pack,
    with_guards,
)

ROUTE_TABLE = "kedge"


class TableBuilder:
    """Builds the route table, and keeps the parts it made as long as they are the same.

    Args:
        proxied: there is a pod-facing listener, whose requests need routes of their own.
        forwards: that listener forwards what is for no service.
    """

    def __init__(self, *, proxied: bool, forwards: bool = True) -> None:
        self._proxied = proxied
        self._forwards = forwards
        self._hosts: dict[str, tuple[ir.VirtualHost, Any]] = {}
        self._leaves: dict[Leaf, Any] = {}

    def build(self, compiled: Iterable[ir.CompiledRoute]) -> Resource:
        self._hosts = {host.name: (host, self._host(host)) for host in make_hosts(compiled)}
        table = make_route_configuration(ROUTE_TABLE, (made for _, made in self._hosts.values()))
        return make_resource(ROUTE_TABLE, table)

    def _host(self, host: ir.VirtualHost) -> Any:
        known = self._hosts.get(host.name)
        if known is not None and known[0] == host:
            return known[1]
        made = route_components_pb2.VirtualHost(
            name=host.name, domains=host.domains, retry_policy=RETRIES
        )
        first = self._proxy_routes(host)
        if len(host.routes) < INDEX_FROM:
            made.routes.extend(first)
            made.routes.extend(_envoy_routes(host.routes))
        elif host.name == ANY_HOST and first:
            through_proxy = {proxy.PODS: make_action(pack(make_route_list(first)))}
            tree = self._tree(host, [])
            made.matcher.CopyFrom(look_up(INNER_HEADER, "exact_match_map", through_proxy, tree))
        else:
            made.matcher.CopyFrom(self._tree(host, first))
        return made

    def _proxy_routes(self, host: ir.VirtualHost) -> list[Any]:
        if not self._proxied:
            return []
        if host.name == ANY_HOST:
            return proxy.make_forwarding_routes() if self._forwards else []
        speaks_grpc = any(route.grpc for route in host.routes)
        return [proxy.make_tunnel_route()] if speaks_grpc else []

    def _tree(self, host: ir.VirtualHost, first: list[Any]) -> Any:
        known, self._leaves = self._leaves, {}

        def make_leaf(leaf: Leaf) -> Any:
            made = known.get(leaf)
            if made is None:
                made = pack(make_route_list([*first, *_envoy_routes(leaf)]))
            self._leaves[leaf] = made
            return made

        return make_tree(host.routes, make_leaf)


def _envoy_routes(routes: Iterable[ir.Route]) -> list[Any]:
    return [
        made
        for route, refuse in with_guards(routes)
        for made in make_routes(route, refuse_grpc=refuse)
    ]
