"""Reads HTTPRoutes, Services and EndpointSlices into the intermediate form. Pure.

Precedence is the Gateway API's: exact paths, regular expressions, then prefixes, each longest
first; then a method, more headers, more query parameters; then the older route, the lesser name,
the earlier rule.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from kedge.cluster.base import Object
from kedge.gateway.ir import (
    MILLION,
    Backend,
    Binding,
    Cluster,
    CompiledRoute,
    Endpoint,
    Endpoints,
    HeaderChange,
    Hold,
    Match,
    MatchKind,
    Mirror,
    PathMatch,
    Problem,
    Rewrite,
    Route,
    ValueMatch,
    VirtualHost,
)
from kedge.lib.addresses import IPV4, canonical

KEEPALIVE_ANNOTATION = "serving.kedge.dev/keepalive-seconds"
"""On a Service: how long its pods keep an idle connection open."""
ACTIVATION_LABEL = "serving.kedge.dev/activation"
"""On a Service, with value `true`: its requests may wait for a pod."""
CONCURRENCY_ANNOTATION = "serving.kedge.dev/container-concurrency"
"""On a Service: requests at once in one pod, a hard limit; 0 for none."""
CANNOT_START_ANNOTATION = "serving.kedge.dev/cannot-start"
"""On a Service: why its pods cannot start, as long as they cannot."""
NO_ROOM_ANNOTATION = "serving.kedge.dev/no-room"
"""On a Service: why no node takes its pods, as long as none does."""
PROBE_ANNOTATION = "serving.kedge.dev/ready-probe"
"""On a Service: how to ask one of its pods whether it is ready, `http://pod:PORT/PATH` or
`tcp://pod:PORT`."""
COMPARE_ANNOTATION = "serving.kedge.dev/compare-mirrors"
"""On an HTTPRoute, with value `true`: answers to mirrored requests are compared with those that
clients get."""
ISVC_LABEL = "serving.kserve.io/inferenceservice"
UNKNOWN_IDLE_TIMEOUT = 1.0
"""Seconds that an idle connection to a server of undeclared keep-alive is kept."""

ANY_HOST = "*"

Services = Callable[[str, str], Object | None]
"""Finds a Service by namespace and name."""

_DURATION = re.compile(r"(\d{1,5})(h|ms|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_HOSTNAME = re.compile(r"(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NOT_RE2 = re.compile(r"\(\?(?:[=!>(]|<[=!]|P=)|\\[1-9]|[*+?}]\+|\\Z")
"""Constructs that Python's regular expressions have and Envoy's (RE2) have not."""


class _Refused(Exception):
    """The route cannot be served at all as it is written."""

    def __init__(self, message: str, reason: str = "UnsupportedValue") -> None:
        super().__init__(message)
        self.reason = reason


def referenced_services(route: Object) -> set[tuple[str, str]]:
    """`(namespace, name)` of every Service that the HTTPRoute sends to or mirrors to."""
    namespace = route["metadata"].get("namespace", "")
    found: set[tuple[str, str]] = set()
    for rule in route.get("spec", {}).get("rules") or []:
        refs = list(rule.get("backendRefs") or [])
        refs += [f["requestMirror"]["backendRef"] for f in rule.get("filters") or []
                 if f.get("requestMirror")]  # fmt: skip
        found.update((ref.get("namespace") or namespace, ref["name"]) for ref in refs)
    return found


def compile_route(
    route: Object, services: Services, binding: Binding, *, inside: bool = False
) -> CompiledRoute:
    """One HTTPRoute in the intermediate form, with what is wrong with it.

    Args:
        binding: what the Gateway's listeners make of it.
        inside: only pods may use it.
    """
    return _Compiler(route, services, binding, inside).compile()


class _Compiler:
    """Reads one HTTPRoute; collects the clusters it uses and the problems it has."""

    def __init__(self, route: Object, services: Services, binding: Binding, inside: bool) -> None:
        metadata = route["metadata"]
        self._route = route
        self._services = services
        self._binding = binding
        self._inside = inside
        self._namespace: str = metadata.get("namespace", "")
        self._name: str = metadata["name"]
        self._service = f"{self._namespace}/{_owner_name(route) or self._name}"
        self._clusters: dict[str, Cluster] = {}
        self._problems: list[Problem] = []

    def compile(self) -> CompiledRoute:
        metadata, spec = self._route["metadata"], self._route.get("spec", {})
        binding = self._binding
        try:
            if not binding.listeners:
                _, problem = binding.refused[0]
                raise _Refused(problem.message, problem.reason)
            hostnames = tuple(_parse_hostname(host) for host in binding.hostnames)
            rules = spec.get("rules") or [{}]
            routes = tuple(
                sorted((route for rule in rules for route in self._rule(rule)), key=_precedence)
            )
        except _Refused as refused:
            problem = Problem("Accepted", refused.reason, str(refused))
            self._problems, self._clusters = [problem], {}
            hostnames, routes = (), ()
        return CompiledRoute(
            namespace=self._namespace,
            name=self._name,
            generation=metadata.get("generation", 0),
            created=metadata.get("creationTimestamp") or "",
            hostnames=hostnames,
            routes=routes,
            clusters=tuple(self._clusters.values()),
            problems=tuple(self._problems),
            binding=binding,
        )

    def _rule(self, rule: Mapping[str, Any]) -> list[Route]:
        changes = _Filters(rule.get("filters") or [])
        backends = tuple(self._backend(ref) for ref in rule.get("backendRefs") or ())
        mirrors = tuple(self._mirror(raw) for raw in changes.mirrors)
        timeout = parse_duration((rule.get("timeouts") or {}).get("request") or "0s")
        return [
            Route(
                service=self._service,
                match=replace(_parse_match(match), inside=self._inside),
                backends=backends,
                mirrors=mirrors,
                timeout=timeout,
                rewrite=changes.rewrite,
                request_headers=changes.request_headers,
                response_headers=changes.response_headers,
            )
            for match in rule.get("matches") or [{}]
        ]

    def _backend(self, ref: Mapping[str, Any]) -> Backend:
        cluster = self._cluster(ref)
        filters = _Filters(ref.get("filters") or [])
        if filters.rewrite or filters.mirrors or filters.response_headers != HeaderChange():
            raise _Refused("backendRefs[].filters takes RequestHeaderModifier only.")
        return Backend(cluster.name, ref.get("weight", 1), cluster.http2, filters.request_headers)

    def _mirror(self, raw: Mapping[str, Any]) -> Mirror:
        cluster = self._cluster(raw["backendRef"])
        annotations = self._route["metadata"].get("annotations") or {}
        compared = annotations.get(COMPARE_ANNOTATION) == "true"
        return Mirror(cluster.name, cluster.http2, _parse_share(raw), compared)

    def _cluster(self, ref: Mapping[str, Any]) -> Cluster:
        namespace, name = ref.get("namespace") or self._namespace, ref["name"]
        number = ref.get("port") or 0
        key = f"{namespace}/{name}/{number}"
        known = self._clusters.get(key)
        if known is not None:
            return known
        problem = _refused_reference(ref, namespace, self._namespace)
        service = None if problem else self._services(namespace, name)
        port = None if service is None else find_port(service, number)
        if problem is None and port is None:
            problem = _missing_backend(namespace, name, number, service)
        if problem is not None:
            self._problems.append(problem)
        if service is None or port is None:
            cluster = Cluster(key)
        else:
            cluster = Cluster(key, is_http2(port), idle_timeout(service))
        self._clusters[key] = cluster
        return cluster


class _Filters:
    """The filters of a rule or of a backend."""

    def __init__(self, filters: Iterable[Mapping[str, Any]]) -> None:
        self.request_headers = HeaderChange()
        self.response_headers = HeaderChange()
        self.rewrite: Rewrite | None = None
        self.mirrors: list[Mapping[str, Any]] = []
        for item in filters:
            match item.get("type"):
                case "RequestHeaderModifier":
                    self.request_headers = _parse_header_change(item["requestHeaderModifier"])
                case "ResponseHeaderModifier":
                    self.response_headers = _parse_header_change(item["responseHeaderModifier"])
                case "URLRewrite":
                    self.rewrite = _parse_rewrite(item["urlRewrite"])
                case "RequestMirror":
                    self.mirrors.append(item["requestMirror"])
                case other:
                    raise _Refused(f"Filter {other} is not supported by Kedge's gateway.")


def _parse_share(mirror: Mapping[str, Any]) -> int:
    """Of a million requests, how many are mirrored."""
    given = mirror.get("fraction") or {"numerator": mirror.get("percent", 100)}
    numerator, denominator = int(given["numerator"]), int(given.get("denominator") or 100)
    if not 0 <= numerator <= denominator:
        raise _Refused(
            f"A mirror's share of {numerator} in {denominator} is no share; write 0 to 100 percent."
        )
    return round(numerator * MILLION / denominator)


def _parse_header_change(raw: Mapping[str, Any]) -> HeaderChange:
    def pairs(field: str) -> tuple[tuple[str, str], ...]:
        return tuple((item["name"].lower(), item["value"]) for item in raw.get(field) or ())

    removed = tuple(name.lower() for name in raw.get("remove") or ())
    return HeaderChange(pairs("set"), pairs("add"), removed)


def _parse_rewrite(raw: Mapping[str, Any]) -> Rewrite:
    path = raw.get("path") or {}
    prefix = path.get("replacePrefixMatch") if path.get("type") == "ReplacePrefixMatch" else None
    full = path.get("replaceFullPath") if path.get("type") == "ReplaceFullPath" else None
    return Rewrite(raw.get("hostname", ""), prefix, full)


def _parse_match(raw: Mapping[str, Any]) -> Match:
    return Match(
        path=_parse_path(raw.get("path") or {}),
        method=raw.get("method", ""),
        headers=tuple(_parse_value(item, lower=True) for item in raw.get("headers") or ()),
        query=tuple(_parse_value(item, lower=False) for item in raw.get("queryParams") or ()),
    )


def _parse_path(raw: Mapping[str, Any]) -> PathMatch:
    kind, value = _parse_kind(raw.get("type", "PathPrefix")), raw.get("value", "/")
    if kind is MatchKind.REGEX:
        return PathMatch(kind, _parse_regex(value))
    if not value.startswith("/"):
        raise _Refused(f"Path {value!r} does not begin with a slash.")
    return PathMatch(kind, value if kind is MatchKind.EXACT else value.rstrip("/"))


def _parse_value(raw: Mapping[str, Any], *, lower: bool) -> ValueMatch:
    kind = _parse_kind(raw.get("type", "Exact"))
    value = _parse_regex(raw["value"]) if kind is MatchKind.REGEX else raw["value"]
    return ValueMatch(raw["name"].lower() if lower else raw["name"], value, kind)


def _parse_kind(text: str) -> MatchKind:
    try:
        return MatchKind(text)
    except ValueError:
        raise _Refused(f"Match type {text!r} is not supported by Kedge's gateway.") from None


def _parse_regex(text: str) -> str:
    """`text`, if Envoy takes it: it would refuse every route together with a bad one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(text)
    except (re.error, OverflowError) as error:
        raise _Refused(f"Regular expression {text!r} is malformed: {error}.") from None
    found = _NOT_RE2.search(text)
    if found:
        raise _Refused(
            f"Regular expression {text!r} uses {found[0]!r}, which RE2 does not have."
        )  # fmt: skip
    return text


def _parse_hostname(host: str) -> str:
    if len(host) > 253 or not _HOSTNAME.fullmatch(host):
        raise _Refused(f"Hostname {host!r} is not a DNS name.")
    return host


def parse_duration(text: str) -> float:
    """Seconds of a Gateway API duration (`1m30s`)."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise _Refused(f"Duration {text!r} is malformed; write it as 60s or 1m30s.")
    return float(sum(int(number) * _SECONDS[unit] for number, unit in parts))


def _owner_name(obj: Object) -> str:
    for owner in obj["metadata"].get("ownerReferences") or ():
        if owner.get("kind") == "InferenceService":
            return str(owner["name"])
    return str((obj["metadata"].get("labels") or {}).get(ISVC_LABEL, ""))


def _refused_reference(ref: Mapping[str, Any], namespace: str, own: str) -> Problem | None:
    if ref.get("kind", "Service") != "Service" or ref.get("group", ""):
        message = f"Backend {ref['name']} is a {ref.get('kind')}; only Services are supported."
        return Problem("ResolvedRefs", "InvalidKind", message)
    if namespace != own:
        message = f"Service {namespace}/{ref['name']} is in another namespace."
        return Problem("ResolvedRefs", "RefNotPermitted", message)
    return None


def _missing_backend(namespace: str, name: str, number: int, service: Object | None) -> Problem:
    if service is None:
        message = f"Service {namespace}/{name} does not exist."
    else:
        ports = ", ".join(str(p["port"]) for p in service.get("spec", {}).get("ports") or ())
        message = f"Service {namespace}/{name} has no port {number}; it has {ports or 'none'}."
    return Problem("ResolvedRefs", "BackendNotFound", message)


def find_port(service: Object, number: int) -> dict[str, Any] | None:
    """The Service's port of that number."""
    for port in service.get("spec", {}).get("ports") or ():
        if port["port"] == number:
            return dict(port)
    return None


def is_http2(port: Mapping[str, Any]) -> bool:
    """Whether the port speaks HTTP/2 in clear text, which gRPC needs."""
    if port.get("appProtocol"):
        return port["appProtocol"] in ("kubernetes.io/h2c", "h2c", "grpc")
    return any(word in (port.get("name") or "") for word in ("grpc", "h2c"))


def idle_timeout(service: Object) -> float:
    """Seconds to keep idle connections: a fifth, at least one second, less than the server does."""
    declared = (service["metadata"].get("annotations") or {}).get(KEEPALIVE_ANNOTATION, "")
    try:
        keepalive = float(declared)
    except ValueError:
        return UNKNOWN_IDLE_TIMEOUT
    return max(min(keepalive * 0.8, keepalive - 1), UNKNOWN_IDLE_TIMEOUT)


def compile_hold(service: Object) -> Hold | None:
    """Whether and how requests wait for a pod of this Service."""
    metadata = service["metadata"]
    if (metadata.get("labels") or {}).get(ACTIVATION_LABEL) != "true":
        return None
    annotations = metadata.get("annotations") or {}
    declared = annotations.get(CONCURRENCY_ANNOTATION, "0")
    name = _owner_name(service) or metadata["name"]
    return Hold(
        concurrency=int(declared) if declared.isdecimal() else 0,
        cannot_start=annotations.get(CANNOT_START_ANNOTATION, ""),
        no_room=annotations.get(NO_ROOM_ANNOTATION, ""),
        probe=annotations.get(PROBE_ANNOTATION, ""),
        title=f"{metadata.get('namespace', '')}/{name}",
    )


def compile_endpoints(
    cluster: str, service: Object | None, slices: Iterable[Object], *, scouted: bool = False
) -> Endpoints:
    """The endpoints of a cluster (`namespace/service/port`), from its Service's slices.

    Args:
        scouted: those that are not ready yet are told too, where they can be asked.
    """
    port = None if service is None else find_port(service, int(cluster.rpartition("/")[2]))
    if service is None or port is None:
        return Endpoints(cluster)
    hold = compile_hold(service)
    ready, coming = set[Endpoint](), set[Endpoint]()
    for piece, endpoint in _one_family_each(service, slices):
        if (conditions := endpoint.get("conditions") or {}).get("terminating"):
            continue
        found = ready if conditions.get("ready") is not False else coming
        for address in endpoint["addresses"][:1]:  # All are the same one's; nobody reads others.
            for number in _port_numbers(piece, port.get("name") or ""):
                found.add(Endpoint(canonical(address), number))
    awaited = sorted(coming - ready) if scouted and hold and hold.probe else ()
    return Endpoints(cluster, tuple(sorted(ready)), hold, tuple(awaited))


def _one_family_each(
    service: Object, slices: Iterable[Object]
) -> Iterator[tuple[Object, Mapping[str, Any]]]:
    """All endpoints and their slices, but each pod's of one family only.

    A pod with two addresses is in a slice of each family, and is still one pod, with one number of
    requests at once. It is asked by the address of the family that the Service has first.
    """
    first = ((service.get("spec") or {}).get("ipFamilies") or [IPV4])[0]
    families: dict[str, str] = {}
    pieces = [piece for piece in slices if piece.get("addressType") != "FQDN"]
    for piece in sorted(pieces, key=lambda one: one.get("addressType", IPV4) != first):
        family = piece.get("addressType", IPV4)
        for endpoint in piece.get("endpoints") or ():
            pod = (endpoint.get("targetRef") or {}).get("name")
            if pod is None or families.setdefault(pod, family) == family:
                yield piece, endpoint


def _port_numbers(piece: Object, name: str) -> list[int]:
    return [
        port["port"]
        for port in piece.get("ports") or ()
        if (port.get("name") or "") == name and port.get("port")
    ]


def make_hosts(compiled: Iterable[CompiledRoute]) -> tuple[VirtualHost, ...]:
    """Virtual hosts of all routes.

    Hosts of which the same is to be done share one: those of an HTTPRoute, and those of a service
    and of its only component. Envoy's time for a new table goes by their number.
    """
    claims: dict[str, list[CompiledRoute]] = {}
    for route in sorted(compiled, key=lambda route: (route.created, route.namespace, route.name)):
        if route.routes:
            for host in route.hostnames or (ANY_HOST,):
                claims.setdefault(host, []).append(route)
    any_host = claims.pop(ANY_HOST, [])
    groups: dict[tuple[int, ...], tuple[list[CompiledRoute], list[str]]] = {}
    for host, claimants in claims.items():
        group = groups.setdefault(tuple(one.signature for one in claimants), (claimants, []))
        group[1].append(host)
    hosts = [
        VirtualHost(min(domains), tuple(sorted(set(domains))), _join_routes(claimants))
        for claimants, domains in groups.values()
    ]
    hosts.append(VirtualHost(ANY_HOST, (ANY_HOST,), _join_routes(any_host)))
    return tuple(sorted(hosts, key=lambda host: host.name))


def _join_routes(claimants: list[CompiledRoute]) -> tuple[Route, ...]:
    if len(claimants) == 1:
        return claimants[0].routes
    return tuple(sorted((r for one in claimants for r in one.routes), key=_precedence))


_KIND_RANK = {MatchKind.EXACT: 0, MatchKind.REGEX: 1, MatchKind.PREFIX: 2}


def _precedence(route: Route) -> tuple[int, int, int, int, int]:
    match = route.match
    return (
        _KIND_RANK[match.path.kind],
        -len(match.path.value),
        0 if match.method else 1,
        -len(match.headers),
        -len(match.query),
    )
