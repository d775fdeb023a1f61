"""A large virtual host as a tree to look up in, instead of a list to go through.

With a thousand services, the host `*` holds a path prefix and a `kedge-service` header value for
each. Envoy would compare a request with one after the other. Here it finds the longest known prefix
of the path, else the header's value, and then goes through the few routes that can match there,
in their usual order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from envoy.config.route.v3 import route_components_pb2
from envoy.type.matcher.v3 import http_inputs_pb2
from xds.type.matcher.v3 import matcher_pb2

from kedge.gateway import ir

INDEX_FROM = 24
"""Routes from which on a tree is used; below, a list is as fast and easier to read."""
SERVICE_HEADER = "kedge-service"
"""Selects a service by `namespace/name` where there is neither host nor path to do it, in gRPC."""

Leaf = tuple[ir.Route, ...]


def make_tree(routes: Iterable[ir.Route], make_leaf: Callable[[Leaf], Any]) -> Any:
    """A matcher for routes in order of precedence; `make_leaf` packs a RouteList."""
    order = {id(route): number for number, route in enumerate(routes)}
    by_path: dict[str, list[ir.Route]] = {}
    by_header: dict[str, list[ir.Route]] = {}
    others: list[ir.Route] = []
    for route in routes:
        path, service = _path_key(route), _service_key(route)
        if path:
            by_path.setdefault(path, []).append(route)
        elif service:
            by_header.setdefault(service, []).append(route)
        else:
            others.append(route)

    def action(*groups: Iterable[ir.Route]) -> dict[str, Any]:
        found = sorted((route for group in groups for route in group), key=lambda r: order[id(r)])
        return make_action(make_leaf(tuple(found)))

    lengths = sorted({len(path) for path in by_path})
    paths = {
        path: action(others, *(by_path.get(path[:n], ()) for n in lengths if n <= len(path)))
        for path in by_path
    }
    services = {service: action(found, others) for service, found in by_header.items()}
    matcher = matcher_pb2.Matcher(on_no_match=action(others)) if others else matcher_pb2.Matcher()
    matcher = look_up(SERVICE_HEADER, "exact_match_map", services, matcher)
    return look_up(":path", "prefix_match_map", paths, matcher)


def make_action(leaf: Any) -> dict[str, Any]:
    """What is done on a match: go through the packed RouteList `leaf`."""
    return {"action": {"name": "routes", "typed_config": leaf}}


def look_up(header: str, how: str, entries: Mapping[str, Any], otherwise: Any) -> Any:
    """A matcher of one header's value, and what to do when there is no such entry."""
    if not entries:
        return otherwise
    tree = matcher_pb2.Matcher.MatcherTree()
    tree.input.name = header
    tree.input.typed_config.Pack(http_inputs_pb2.HttpRequestHeaderMatchInput(header_name=header))
    table = getattr(tree, how).map
    for key, entry in entries.items():
        table[key].MergeFrom(matcher_pb2.Matcher.OnMatch(**entry))
    matcher = matcher_pb2.Matcher(matcher_tree=tree)
    if otherwise.WhichOneof("matcher_type"):
        matcher.on_no_match.matcher.CopyFrom(otherwise)
    elif otherwise.HasField("on_no_match"):
        matcher.on_no_match.CopyFrom(otherwise.on_no_match)
    return matcher


def _path_key(route: ir.Route) -> str:
    path = route.match.path
    return "" if path.kind is ir.MatchKind.REGEX else path.value


def _service_key(route: ir.Route) -> str:
    for header in route.match.headers:
        if header.name == SERVICE_HEADER and header.kind is ir.MatchKind.EXACT:
            return header.value
    return ""


def make_route_list(routes: Iterable[Any]) -> Any:
    """Envoy's routes as the leaf of a tree."""
    found = route_components_pb2.RouteList()
    found.routes.extend(routes)
    return found
