"""Turns the intermediate form into Envoy's resources. Pure.

Messages are built from dicts of their fields, as one would write them in YAML. Nothing is left at a
default of Envoy that would show: circuit breakers, time-outs, idle connections.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.ext_proc.v3 import ext_proc_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import any_pb2, struct_pb2

from kedge.gateway import ir
from kedge.gateway.ir import MILLION

METADATA = "kedge"
"""Filter metadata of routes: which service an error answer names."""
INNER_HEADER = "x-kedge-listener"
"""Tells routes where a request came in. No client can send it and no backend sees it."""
ACTIVATION = "activation"
"""The internal listener in which requests wait for a pod."""
AGAIN_HEADER = "x-kedge-again"
"""On an answer of the internal listener: the named pod took no connection, so ask once more."""
SHADOW = "shadow"
"""The internal listener through which compared copies of requests go."""
SHADOW_HEADER = "x-kedge-shadow"
"""The cluster that a compared copy is for."""
COMPARE = "kedge.compare"
"""The filter that tells answers to the comparer, and what says whose they are."""
COMPARE_ROLE = "kedge-role"
CONNECT_SECONDS = 2
BUFFER_BYTES = 1 << 20
"""Bytes held per connection before its sender is made to wait."""
STREAM_WINDOW = 1 << 24
CONNECTION_WINDOW = 1 << 25
"""HTTP/2 windows: a large tensor in one stream must not wait for a round trip."""

_UNLIMITED = {"value": 4294967295}
_THRESHOLD = {
    "max_connections": _UNLIMITED,
    "max_pending_requests": _UNLIMITED,
    "max_requests": _UNLIMITED,
    "max_retries": _UNLIMITED,
}
THRESHOLDS = {
    "thresholds": [
        {"priority": "DEFAULT", **_THRESHOLD},
        {"priority": "HIGH", **_THRESHOLD},
    ]
}
"""Circuit breakers that never open: how much a model is asked is not for Envoy to limit."""
TO_PODS = {
    "tcp_keepalive": {
        "keepalive_time": {"value": 10},
        "keepalive_interval": {"value": 5},
        "keepalive_probes": {"value": 3},
    }
}
"""A pod whose node is gone says nothing any more. A request in it ends after 25 seconds, however
long a model that lives may take to answer."""
_GRPC_REFUSAL = (
    "Service {service} does not speak gRPC: it has no port named h2c or grpc."
    " Fix: call it over REST, or name its gRPC port 'h2c'."
)
_MISSING = "Service {service} has no backend. Fix: give a rule of its HTTPRoute a backendRef."
ADS: Mapping[str, Any] = {"ads": {}, "resource_api_version": "V3"}


def pack(message: Any) -> Any:
    """`message` as a `google.protobuf.Any`."""
    packed = any_pb2.Any()
    packed.Pack(message, deterministic=True)
    return packed


def duration(seconds: float) -> dict[str, int]:
    whole = int(seconds)
    return {"seconds": whole, "nanos": round((seconds - whole) * 1e9)}


def make_cluster(cluster: ir.Cluster) -> Any:
    """An EDS cluster. Priority 0 is ready pods; a priority below it may hold and wake."""
    return cluster_pb2.Cluster(
        name=cluster.name,
        type="EDS",
        eds_cluster_config={"eds_config": ADS},
        connect_timeout=duration(CONNECT_SECONDS),
        per_connection_buffer_limit_bytes={"value": BUFFER_BYTES},
        upstream_connection_options=TO_PODS,
        lb_policy="LEAST_REQUEST",
        common_lb_config={
            "healthy_panic_threshold": {"value": 0},
            "update_merge_window": duration(0),
        },
        circuit_breakers=THRESHOLDS,
        typed_extension_protocol_options=make_protocol_options(
            http2=cluster.http2, idle_timeout=cluster.idle_timeout
        ),
    )


def make_protocol_options(*, http2: bool, idle_timeout: float) -> dict[str, Any]:
    protocol = (
        {
            "http2_protocol_options": {
                "max_concurrent_streams": {"value": 2147483647},
                "initial_stream_window_size": {"value": STREAM_WINDOW},
                "initial_connection_window_size": {"value": CONNECTION_WINDOW},
            }
        }
        if http2
        else {"http_protocol_options": {}}
    )
    options = http_protocol_options_pb2.HttpProtocolOptions(
        common_http_protocol_options={"idle_timeout": duration(idle_timeout)},
        explicit_http_config=protocol,
    )
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": pack(options)}


def make_load_assignment(endpoints: ir.Endpoints) -> Any:
    """Priority 0 is pods that take any request, priority 1 is where requests wait for one."""
    found: list[dict[str, Any]] = []
    if endpoints.direct:
        found.append({"lb_endpoints": [_endpoint(end) for end in endpoints.direct]})
    if endpoints.hold is not None:
        waiting_room = {
            "envoy_internal_address": {
                "server_listener_name": ACTIVATION,
                "endpoint_id": endpoints.cluster,
            }
        }
        found.append({"priority": 1, "lb_endpoints": [{"endpoint": {"address": waiting_room}}]})
    return endpoint_pb2.ClusterLoadAssignment(cluster_name=endpoints.cluster, endpoints=found)


def _endpoint(end: ir.Endpoint) -> dict[str, Any]:
    address = {"socket_address": {"address": end.address, "port_value": end.port}}
    return {"endpoint": {"address": address}}


def make_route_configuration(name: str, hosts: Iterable[Any]) -> Any:
    """A route table of Envoy's virtual hosts."""
    table = route_pb2.RouteConfiguration(
        name=name,
        ignore_port_in_host_matching=True,
        # What Envoy adds for itself after the client's were taken off.
        request_headers_to_remove=["x-envoy-internal", "x-envoy-external-address", INNER_HEADER],
        response_headers_to_remove=[AGAIN_HEADER],
        max_direct_response_body_size_bytes={"value": 1 << 16},
    )
    table.virtual_hosts.extend(hosts)
    return table


def with_guards(routes: Iterable[ir.Route]) -> list[tuple[ir.Route, bool]]:
    """The routes, and whether each is to refuse gRPC first.

    A backend without a gRPC port would make nothing of a gRPC request. A route needs no guard where
    one before it takes the gRPC requests of the same path, or where its path is below a prefix:
    gRPC has none.
    """
    taken: set[ir.PathMatch] = set()
    found = []
    for route in routes:
        if route.match.grpc_only:
            taken.add(route.match.path)
        path = route.match.path
        reachable = path.kind is ir.MatchKind.REGEX or not path.value
        spoken = route.grpc or route.match.grpc_only or path in taken
        refuse = reachable and bool(route.backends) and not spoken
        found.append((route, refuse))
    return found


def make_routes(route: ir.Route, *, refuse_grpc: bool = False) -> list[Any]:
    """Envoy's routes for one route of ours: several where a prefix loses its last slash."""
    refusals = [_make_refusal(route)] if refuse_grpc else []
    return refusals + [
        _make_route(part, {**match, **share}, rewrite)
        for match, rewrite in _matches(route)
        for part, share in _split_compared(route)
    ]


def _split_compared(route: ir.Route) -> list[tuple[ir.Route, dict[str, Any]]]:
    """The route, in two where a share of its requests is compared: answers of the others are not
    to be told."""
    compared = next((mirror for mirror in route.mirrors if mirror.compared), None)
    if compared is None:
        return [(route, {})]
    others = tuple(mirror for mirror in route.mirrors if not mirror.compared)
    share = {"runtime_fraction": {"default_value": _make_share(compared.share)}}
    always = replace(route, mirrors=(replace(compared, share=MILLION), *others))
    return [(always, share), (replace(route, mirrors=others), {})]


def _make_refusal(route: ir.Route) -> Any:
    match = {**_matches(route)[0][0], "grpc": {}}
    body = {"inline_string": _GRPC_REFUSAL.format(service=route.service)}
    return route_components_pb2.Route(
        name=route.service, match=match, direct_response={"status": 404, "body": body}
    )


def _make_route(route: ir.Route, match: dict[str, Any], prefix_rewrite: str | None) -> Any:
    live = [backend for backend in route.backends if backend.weight > 0]
    message = route_components_pb2.Route(
        name=route.service, match=match, metadata=_metadata(route.service)
    )
    if any(mirror.compared for mirror in route.mirrors):
        message.typed_per_filter_config[COMPARE].CopyFrom(_make_telling(route.service))
    _change_headers(message, route.request_headers, "request")
    _change_headers(message, route.response_headers, "response")
    if not live:
        body = _MISSING.format(service=route.service)
        message.direct_response.status = 500
        message.direct_response.body.inline_string = f'{{"error": "{body}"}}'
        message.response_headers_to_add.add(
            header={"key": "content-type", "value": "application/json"},
            append_action="OVERWRITE_IF_EXISTS_OR_ADD",
        )
        return message
    message.route.MergeFrom(route_components_pb2.RouteAction(**_action(route, prefix_rewrite)))
    if len(live) == 1 and live[0].request_headers == ir.HeaderChange():
        message.route.cluster = live[0].cluster
        return message
    for backend in live:
        share = message.route.weighted_clusters.clusters.add(
            name=backend.cluster, weight={"value": backend.weight}
        )
        _change_headers(share, backend.request_headers, "request")
    return message


def _action(route: ir.Route, prefix_rewrite: str | None) -> dict[str, Any]:
    action: dict[str, Any] = {
        "timeout": duration(route.timeout),
        "request_mirror_policies": [_make_mirror(mirror) for mirror in route.mirrors],
    }
    rewrite = route.rewrite
    if rewrite is not None and rewrite.host:
        action["host_rewrite_literal"] = rewrite.host
    if prefix_rewrite is not None:
        action["prefix_rewrite"] = prefix_rewrite
    elif rewrite is not None and rewrite.full_path is not None:
        substitution = rewrite.full_path.replace("\\", "\\\\")
        action["regex_rewrite"] = {"pattern": {"regex": r"^[^?]*"}, "substitution": substitution}
    return action


def _make_share(share: int) -> dict[str, Any]:
    return {"numerator": share, "denominator": "MILLION"}


def _make_mirror(mirror: ir.Mirror) -> dict[str, Any]:
    """Copies go straight to the cluster, or by way of the listener that has them compared."""
    policy: dict[str, Any] = {
        "disable_shadow_host_suffix_append": True,
        "runtime_fraction": {"default_value": _make_share(mirror.share)},
    }
    if not mirror.compared:
        return {**policy, "cluster": mirror.cluster}
    named = {"header": {"key": SHADOW_HEADER, "value": mirror.cluster}}
    return {
        **policy,
        "cluster": shadow_cluster(http2=mirror.http2),
        "request_headers_mutations": [{"append": named}],
    }


def shadow_cluster(*, http2: bool) -> str:
    return f"kedge/{SHADOW}-{'http2' if http2 else 'http1'}"


def _make_telling(service: str) -> Any:
    """Has the answers of a route told to the comparer."""
    whose = {"key": COMPARE_ROLE, "value": service}
    told = ext_proc_pb2.ExtProcPerRoute(overrides={"grpc_initial_metadata": [whose]})
    return pack(route_components_pb2.FilterConfig(config=pack(told)))


RETRIES = {
    # Only what no server has begun to work on: a model's call is not ours to repeat.
    "retry_on": "connect-failure,refused-stream,reset-before-request,retriable-headers",
    "retriable_headers": [{"name": AGAIN_HEADER, "present_match": True}],
    "num_retries": {"value": 3},
    # When the last pod has just gone, the request waits for the next one.
    "retry_priority": {
        "name": "envoy.retry_priorities.previous_priorities",
        "typed_config": pack(
            previous_priorities_config_pb2.PreviousPrioritiesConfig(update_frequency=1)
        ),
    },
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": pack(previous_hosts_pb2.PreviousHostsPredicate()),
        }
    ],
    # A dead pod has the fewest requests and is drawn again and again.
    "host_selection_retry_max_attempts": 30,
    "retry_back_off": {"base_interval": duration(0.01), "max_interval": duration(0.1)},
}


def _metadata(service: str) -> dict[str, Any]:
    facts = struct_pb2.Struct()
    facts.update({"service": service, "why": why_name(service)})
    return {"filter_metadata": {METADATA: facts}}


def why_name(service: str) -> str:
    """What to call `namespace/name` behind `kedge why`."""
    namespace, _, name = service.partition("/")
    return name if namespace == "default" else f"{name} -n {namespace}"


def _change_headers(message: Any, change: ir.HeaderChange, side: str) -> None:
    added = getattr(message, f"{side}_headers_to_add")
    for pairs, action in (
        (change.set, "OVERWRITE_IF_EXISTS_OR_ADD"),
        (change.add, "APPEND_IF_EXISTS_OR_ADD"),
    ):
        for key, value in pairs:
            # A per cent sign would begin one of Envoy's own substitutions.
            added.add(header={"key": key, "value": value.replace("%", "%%")}, append_action=action)
    getattr(message, f"{side}_headers_to_remove").extend(change.remove)


def _matches(route: ir.Route) -> list[tuple[dict[str, Any], str | None]]:
    """Envoy's match and prefix rewrite, or two of them.

    Envoy replaces exactly the matched characters: `/a` by `/` would make `//b` of `/a/b`. So what
    is below the prefix and the prefix itself are two routes where the replacement ends in a slash.
    """
    match = route.match
    common: dict[str, Any] = {
        "headers": [_header(header) for header in match.headers],
        "query_parameters": [_query(query) for query in match.query],
    }
    if match.inside:
        common["headers"].append({"name": INNER_HEADER, "present_match": True})
    if match.method:
        common["headers"].append(_header(ir.ValueMatch(":method", match.method)))
    path, prefix = match.path, route.rewrite.prefix if route.rewrite else None
    if path.kind is ir.MatchKind.EXACT:
        return [({**common, "path": path.value}, None)]
    if path.kind is ir.MatchKind.REGEX:
        return [({**common, "safe_regex": {"regex": path.value}}, None)]
    if not path.value:
        rewrite = None if prefix is None or prefix.rstrip("/") == "" else prefix.rstrip("/") + "/"
        return [({**common, "prefix": "/"}, rewrite)]
    if prefix is None:
        return [({**common, "path_separated_prefix": path.value}, None)]
    bare = prefix.rstrip("/")
    if bare:
        return [({**common, "path_separated_prefix": path.value}, bare)]
    return [
        ({**common, "prefix": path.value + "/"}, "/"),
        ({**common, "path": path.value}, "/"),
    ]


def _header(header: ir.ValueMatch) -> dict[str, Any]:
    return {"name": header.name, "string_match": _string(header)}


def _query(query: ir.ValueMatch) -> dict[str, Any]:
    return {"name": query.name, "string_match": _string(query)}


def _string(value: ir.ValueMatch) -> dict[str, Any]:
    if value.kind is not ir.MatchKind.REGEX:
        return {"exact": value.value}
    prefix = _PREFIX_REGEX.fullmatch(value.value)
    # `^application/grpc.*` is a prefix, which is cheaper to look for than a regular expression.
    return {"prefix": prefix[1]} if prefix else {"safe_regex": {"regex": value.value}}


_PREFIX_REGEX = re.compile(r"\^?([-\w/ ]+)\.\*\$?")
