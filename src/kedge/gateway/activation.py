"""Envoy's side of activation: where a request waits while its service has no pod for it. Pure.

Priority 1 of an activatable service's cluster is the internal listener below. Its filter asks the
activator (`asking`) by the request's headers alone; the answer names a pod, as dynamic metadata,
which no client and no pod can send, and the request goes there. What it says in its body never
leaves Envoy.

The clusters that lead to pods are several of one kind. Each activator uses one in which nothing is
in flight, so that what an earlier activator started can still be counted (`inherited`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.filters.http.ext_proc.v3 import ext_proc_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from kedge.gateway.internal import make_internal_listener
from kedge.gateway.replies import make_activation_replies
from kedge.gateway.translate import (
    ACTIVATION,
    BUFFER_BYTES,
    CONNECT_SECONDS,
    CONNECTION_WINDOW,
    STREAM_WINDOW,
    THRESHOLDS,
    TO_PODS,
    duration,
    make_protocol_options,
    pack,
)

ACTIVATOR = "kedge/activator"
"""The cluster that is the activator's socket."""
LANES = tuple(f"kedge/pods-{number}" for number in range(8))
"""The clusters that lead to pods."""
LANE_HEADER = "x-kedge-lane"
"""How the activator says which of them: no client can send it and no pod sees it."""
ID_HEADER = "x-request-id"
"""The same when Envoy sends a request once more."""
NAMESPACE = "kedge.activation"
"""Dynamic metadata that the activator answers with: `address`, `service`, `why`."""
CLUSTER_ATTRIBUTE = "destination.address"
"""How the activator is told what cluster a request came through: the address it was sent to."""
HOLD_SECONDS = 3600
"""Longest that the filter waits for an answer; Envoy takes no more."""
IDLE_SECONDS = 1.0
"""Until an idle connection to a pod is closed: shorter than any server does it by itself."""

_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_NOBODY = (
    '{"error": "The activator, which starts services, does not answer.'
    " Fix: read logs/data.log in Kedge's data directory.\"}"
)


def make_activation_clusters(socket: Path) -> list[Any]:
    return [_make_activator_cluster(socket), *(_make_lane(name) for name in LANES)]


def _make_activator_cluster(socket: Path) -> Any:
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(socket)}}}}
    return cluster_pb2.Cluster(
        name=ACTIVATOR,
        type="STATIC",
        connect_timeout=duration(CONNECT_SECONDS),
        circuit_breakers=THRESHOLDS,
        load_assignment={"cluster_name": ACTIVATOR, "endpoints": [{"lb_endpoints": [endpoint]}]},
        typed_extension_protocol_options=make_protocol_options(http2=True, idle_timeout=0),
    )


def _make_lane(name: str) -> Any:
    """To whatever pod the metadata names, in the protocol in which the request came here."""
    options = http_protocol_options_pb2.HttpProtocolOptions(
        common_http_protocol_options={"idle_timeout": duration(IDLE_SECONDS)},
        use_downstream_protocol_config={
            "http_protocol_options": {},
            "http2_protocol_options": {
                "max_concurrent_streams": {"value": 2147483647},
                "initial_stream_window_size": {"value": STREAM_WINDOW},
                "initial_connection_window_size": {"value": CONNECTION_WINDOW},
            },
        },
    )
    return cluster_pb2.Cluster(
        name=name,
        type="ORIGINAL_DST",
        lb_policy="CLUSTER_PROVIDED",
        connect_timeout=duration(CONNECT_SECONDS),
        per_connection_buffer_limit_bytes={"value": BUFFER_BYTES},
        upstream_connection_options=TO_PODS,
        circuit_breakers=THRESHOLDS,
        original_dst_lb_config={"metadata_key": {"key": NAMESPACE, "path": [{"key": "address"}]}},
        typed_extension_protocol_options={_OPTIONS: pack(options)},
    )


def make_activation_listener() -> Any:
    return make_internal_listener(
        ACTIVATION,
        [("envoy.filters.http.ext_proc", _make_question())],
        {"routes": [*(_make_route(lane) for lane in LANES), _make_dead_end()]},
        local_reply_config=make_activation_replies(),
    )


def _make_question() -> Any:
    """Headers only, and trailers so that the stream ends when the request does."""
    return ext_proc_pb2.ExternalProcessor(
        grpc_service={
            "envoy_grpc": {"cluster_name": ACTIVATOR},
            # An activator that dies is asked again when it is back; what it held is still here.
            "retry_policy": {
                "retry_on": "connect-failure,refused-stream,reset,5xx,"
                "cancelled,unavailable,internal,resource-exhausted,deadline-exceeded",
                "num_retries": {"value": 100_000},
                "retry_back_off": {
                    "base_interval": duration(0.02),
                    "max_interval": duration(0.25),
                },
            },
        },
        # What is on its way to its client needs the activator no more. What was held is led to
        # nowhere without an answer, whatever the filter allows.
        failure_mode_allow=True,
        message_timeout=duration(HOLD_SECONDS),
        processing_mode={
            "request_header_mode": "SEND",
            "response_header_mode": "SKIP",
            "request_body_mode": "NONE",
            "response_body_mode": "NONE",
            "request_trailer_mode": "SKIP",
            "response_trailer_mode": "SEND",
        },
        request_attributes=[CLUSTER_ATTRIBUTE],
        forward_rules={
            "allowed_headers": {"patterns": [{"exact": "content-type"}, {"exact": "x-request-id"}]}
        },
        metadata_options={"receiving_namespaces": {"untyped": [NAMESPACE]}},
        # The answer names the lane, by which the route is then looked up.
        mutation_rules={
            "disallow_all": {"value": True},
            "allow_expression": {"regex": f"^({LANE_HEADER}|content-type|retry-after)$"},
        },
        route_cache_action="CLEAR",
    )


def _make_route(lane: str) -> dict[str, Any]:
    chosen = {"name": LANE_HEADER, "string_match": {"exact": lane}}
    return {
        "match": {"prefix": "/", "headers": [chosen]},
        "request_headers_to_remove": [LANE_HEADER],
        "route": {
            "cluster": lane,
            "timeout": duration(0),
            # An idle connection that the pod closes at that moment: the pod has not begun.
            "retry_policy": {
                "retry_on": "reset-before-request,refused-stream",
                "num_retries": {"value": 2},
                "retry_back_off": {"base_interval": duration(0.005)},
            },
        },
    }


def _make_dead_end() -> dict[str, Any]:
    return {
        "match": {"prefix": "/"},
        "direct_response": {"status": 503, "body": {"inline_string": _NOBODY}},
    }
