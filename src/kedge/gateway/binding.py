"""Which listeners of the Gateway take an HTTPRoute, and for which hosts. Pure.

Listeners are not kept apart, but for the one that only pods reach: what one of the others takes is
answered on all of them, for every host for which one took it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kedge.api.scheme import GATEWAY_GROUP, HTTP_ROUTE
from kedge.cluster.base import Object
from kedge.cluster.labels import matches
from kedge.gateway.ir import Binding, Problem, Reference

SERVED_PROTOCOLS = ("HTTP", "HTTPS")

Labels = Callable[[str], Mapping[str, str]]
"""The labels of a namespace, by its name."""
_Listener = Mapping[str, Any]


def is_ours(route: Object, gateway: str) -> bool:
    """Whether the HTTPRoute names the Gateway `namespace/name` as a parent."""
    return any(names_gateway(ref, route, gateway) for ref in parent_refs(route))


def is_bound_to(route: Object, gateway: str, section: str) -> bool:
    """Whether the HTTPRoute is for that one listener of the Gateway, and for none besides."""
    refs = [ref for ref in parent_refs(route) if names_gateway(ref, route, gateway)]
    return bool(section and refs) and all(ref.get("sectionName") == section for ref in refs)


def parent_refs(route: Object) -> list[dict[str, Any]]:
    return route.get("spec", {}).get("parentRefs") or []


def names_gateway(ref: Mapping[str, Any], route: Object, gateway: str) -> bool:
    namespace = ref.get("namespace") or route["metadata"].get("namespace", "")
    return ref.get("kind", "Gateway") == "Gateway" and f"{namespace}/{ref.get('name')}" == gateway


def read_reference(ref: Mapping[str, Any]) -> Reference:
    return Reference(str(ref.get("sectionName") or ""), int(ref.get("port") or 0))


def bind(route: Object, name: str, gateway: Object | None, labels: Labels) -> Binding:
    """What the listeners of the Gateway `namespace/name` make of a route.

    Where there is no such Gateway the route is taken as it says: somebody who deletes the Gateway
    by mistake does not take every service away.
    """
    refs = {
        read_reference(ref): None for ref in parent_refs(route) if names_gateway(ref, route, name)
    }
    hosts = tuple(route.get("spec", {}).get("hostnames") or ())
    if gateway is None:
        return Binding(tuple(sorted({ref.section for ref in refs})), hosts)
    taken: dict[str, tuple[str, ...]] = {}
    refused = []
    for ref in refs:
        found = _take(ref, route, name, gateway, labels)
        if isinstance(found, Problem):
            refused.append((ref, found))
        else:
            taken |= found
    return Binding(tuple(sorted(taken)), _join(hosts, taken.values()), tuple(refused))


def _take(
    ref: Reference, route: Object, name: str, gateway: Object, labels: Labels
) -> dict[str, tuple[str, ...]] | Problem:
    """The listeners that take a route by this reference, each with its hosts; else why none."""
    listeners = gateway["spec"].get("listeners") or ()
    named = [one for one in listeners if _is_meant(one, ref)]
    if not named:
        wanted = " and ".join(
            (f"name {ref.section}",) * bool(ref.section) + (f"port {ref.port}",) * bool(ref.port)
        )
        message = (
            f"Gateway {name} has no listener{f' of {wanted}' if wanted else ''}; it has"
            f" {_list_listeners(listeners) or 'none'}."
        )
        return Problem("Accepted", "NoMatchingParent", message)
    namespace = route["metadata"].get("namespace", "")
    home = gateway["metadata"].get("namespace", "")
    open_to_it = [one for one in named if _allows(one, home, namespace, labels)]
    if not open_to_it:
        message = (
            f"Of Gateway {name} no listener takes HTTPRoutes of namespace {namespace}"
            f" (allowedRoutes): {_list_listeners(named)}."
        )
        return Problem("Accepted", "NotAllowedByListeners", message)
    hosts = tuple(route.get("spec", {}).get("hostnames") or ())
    found = {
        one["name"]: both
        for one in open_to_it
        if (both := _intersect(str(one.get("hostname") or ""), hosts)) is not None
    }
    if not found:
        message = (
            f"No listener of Gateway {name} is for one of the hosts {', '.join(hosts)}:"
            f" {_list_listeners(open_to_it)}."
        )
        return Problem("Accepted", "NoMatchingListenerHostname", message)
    return found


def _is_meant(listener: _Listener, ref: Reference) -> bool:
    return ref.section in ("", listener["name"]) and ref.port in (0, listener.get("port"))


def _list_listeners(listeners: Iterable[_Listener]) -> str:
    return ", ".join(
        f"{one['name']} ({one.get('hostname') or 'any host'}, port {one.get('port')})"
        for one in listeners
    )


def _allows(listener: _Listener, home: str, namespace: str, labels: Labels) -> bool:
    """Whether a listener takes HTTPRoutes of that namespace."""
    if listener.get("protocol") not in SERVED_PROTOCOLS:
        return False
    if not takes_http_routes(listener):
        return False
    namespaces = (listener.get("allowedRoutes") or {}).get("namespaces") or {}
    match namespaces.get("from") or "Same":
        case "All":
            return True
        case "Same":
            return namespace == home
        case "Selector":
            return matches(namespaces.get("selector"), labels(namespace))
    return False


def takes_http_routes(listener: _Listener) -> bool:
    """Whether a listener's `allowedRoutes` name this kind; they name every kind by naming none."""
    kinds = (listener.get("allowedRoutes") or {}).get("kinds") or ()
    return not kinds or any(is_http_route(kind) for kind in kinds)


def is_http_route(kind: Mapping[str, Any]) -> bool:
    """Whether an entry of `allowedRoutes.kinds` is this kind."""
    group = kind.get("group", GATEWAY_GROUP)
    return bool(kind.get("kind") == HTTP_ROUTE.kind and group == GATEWAY_GROUP)


def _intersect(listener: str, hosts: tuple[str, ...]) -> tuple[str, ...] | None:
    """The hosts for which a listener takes a route, empty for any; None where there is none."""
    if not listener:
        return hosts
    if not hosts:
        return (listener,)
    return tuple(both for host in hosts if (both := _narrower(listener, host))) or None


def _narrower(one: str, other: str) -> str:
    """What two hosts, either perhaps `*.example.com`, have in common; empty for nothing."""
    if one == other or _covers(one, other):
        return other
    return one if _covers(other, one) else ""


def _covers(wide: str, host: str) -> bool:
    return wide.startswith("*.") and host.removeprefix("*").endswith(wide[1:])


def _join(hosts: tuple[str, ...], taken: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """All hosts for which some listener takes the route, those that it names in its order."""
    taken = list(taken)
    if () in taken:
        return ()
    found = dict.fromkeys(host for hosts in taken for host in hosts)
    return tuple(sorted(found, key=lambda host: hosts.index(host) if host in hosts else len(hosts)))
