"""The pods' way to in-cluster names, where no cluster DNS knows them: an HTTP proxy.

A pod whose `http_proxy` is this listener asks it for `http://{svc}.{ns}/...` and is answered by the
same routes as everyone. gRPC clients say CONNECT instead; such a tunnel ends in an internal
listener, which reads the HTTP/2 inside it and looks up the same routes. Any other host is forwarded
unchanged, CONNECT as bytes.

Forwarding gives a pod nothing that it could not dial by itself, except under one name: Envoy's
own. So addresses of this machine are refused, whatever name led to them; what is meant to be
reached there is reached directly (`no_proxy`). Where pods have a DNS that knows in-cluster names
nothing is forwarded at all.
"""

from __future__ import annotations

from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.rbac.v3 import rbac_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.clusters.dynamic_forward_proxy.v3 import cluster_pb2 as forward_cluster_pb2
from envoy.extensions.filters.http.dynamic_forward_proxy.v3 import dynamic_forward_proxy_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as rbac_filter_pb2
from envoy.extensions.rbac.matchers.upstream_ip_port.v3 import upstream_ip_port_matcher_pb2

from kedge.gateway.translate import (
    CONNECT_SECONDS,
    INNER_HEADER,
    THRESHOLDS,
    duration,
    make_protocol_options,
    pack,
)

PODS, PODS_INNER = "pods", "pods-inner"
"""The pod-facing listener, and the internal one in which its tunnels end."""
FORWARD, TUNNEL = "kedge/forward", "kedge/tunnel"
"""Clusters: the hosts of the world, and the way to the internal listener."""

_DNS_CACHE = {"name": "pods", "dns_lookup_family": "ALL"}
_OWN_RANGES = (
    ("127.0.0.0", 8), ("0.0.0.0", 8), ("::", 127),
    ("::ffff:127.0.0.0", 104), ("::ffff:0.0.0.0", 104),
)  # fmt: skip
"""This machine; the last two are the first two as IPv6 writes them."""
_FROM_PODS = {"name": INNER_HEADER, "string_match": {"exact": PODS}}
_TUNNEL_ENDS_HERE = {"upgrade_type": "CONNECT", "connect_config": {}}


def make_tunnel_route() -> Any:
    """CONNECT to a host that has routes: the tunnel ends in the internal listener."""
    return route_components_pb2.Route(
        name="tunnel",
        match={"connect_matcher": {}, "headers": [_FROM_PODS]},
        route={
            "cluster": TUNNEL,
            "timeout": duration(0),
            "upgrade_configs": [_TUNNEL_ENDS_HERE],
        },
    )


def make_forwarding_routes() -> list[Any]:
    """Any other host that a pod asks for: forwarded."""
    return [
        route_components_pb2.Route(
            name="forward-tunnel",
            match={"connect_matcher": {}, "headers": [_FROM_PODS]},
            route={
                "cluster": FORWARD,
                "timeout": duration(0),
                "upgrade_configs": [_TUNNEL_ENDS_HERE],
            },
        ),
        route_components_pb2.Route(
            name="forward",
            match={"prefix": "/", "headers": [_FROM_PODS]},
            route={"cluster": FORWARD, "timeout": duration(0)},
        ),
    ]


def make_proxy_clusters(*, forwards: bool) -> list[Any]:
    return [*([_make_forward()] if forwards else []), _make_tunnel()]


def _make_forward() -> Any:
    # Bytes are forwarded as they come: TLS is between the pod and the other end.
    forward = forward_cluster_pb2.ClusterConfig(
        dns_cache_config=_DNS_CACHE, allow_insecure_cluster_options=True
    )
    return cluster_pb2.Cluster(
        name=FORWARD,
        lb_policy="CLUSTER_PROVIDED",
        connect_timeout=duration(CONNECT_SECONDS * 5),
        circuit_breakers=THRESHOLDS,
        cluster_type={
            "name": "envoy.clusters.dynamic_forward_proxy",
            "typed_config": pack(forward),
        },
        typed_extension_protocol_options=make_protocol_options(http2=False, idle_timeout=4),
    )


def _make_tunnel() -> Any:
    to_inner = {"envoy_internal_address": {"server_listener_name": PODS_INNER}}
    return cluster_pb2.Cluster(
        name=TUNNEL,
        type="STATIC",
        connect_timeout=duration(CONNECT_SECONDS),
        circuit_breakers=THRESHOLDS,
        load_assignment={
            "cluster_name": TUNNEL,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": to_inner}}]}],
        },
    )


def make_proxy_filters() -> list[tuple[str, Any]]:
    """HTTP filters of the pod-facing listener: resolve the host, refuse this machine's own."""
    resolve = dynamic_forward_proxy_pb2.FilterConfig(
        dns_cache_config=_DNS_CACHE, save_upstream_address=True
    )
    own = rbac_pb2.Policy(
        permissions=[_upstream_in(prefix, bits) for prefix, bits in _OWN_RANGES],
        principals=[{"any": True}],
    )
    refuse = rbac_filter_pb2.RBAC(rules=rbac_pb2.RBAC(action="DENY", policies={"own": own}))
    return [
        ("envoy.filters.http.dynamic_forward_proxy", resolve),
        ("envoy.filters.http.rbac", refuse),
    ]


def _upstream_in(prefix: str, bits: int) -> dict[str, Any]:
    matcher = upstream_ip_port_matcher_pb2.UpstreamIpPortMatcher(
        upstream_ip={"address_prefix": prefix, "prefix_len": {"value": bits}}
    )
    return {
        "matcher": {"name": "envoy.rbac.matchers.upstream_ip_port", "typed_config": pack(matcher)}
    }
