"""Envoy's side of a compared mirror: both answers are told to the comparer. Pure.

A copied request takes a way of its own: an internal listener, and from there the candidate's
cluster, held and retried as any request. A filter tells the comparer (`comparing`) what was
answered: here always, on the listener where the request came in for the compared share only. It
tells copies and waits for nothing, so neither answer is late for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.filters.http.ext_proc.v3 import ext_proc_pb2

from kedge.gateway.internal import make_internal_listener
from kedge.gateway.translate import (
    BUFFER_BYTES,
    COMPARE,
    COMPARE_ROLE,
    CONNECT_SECONDS,
    RETRIES,
    SHADOW,
    SHADOW_HEADER,
    THRESHOLDS,
    duration,
    make_protocol_options,
    shadow_cluster,
)

COMPARER = "kedge/comparer"
"""The cluster that is the comparer's socket."""
CANDIDATE, REPORT = "candidate", "report"
"""Values of `COMPARE_ROLE`: the answer is a candidate's; the comparer's figures are asked for. Any
other is the service whose answer is told."""


def make_shadow_clusters(socket: Path) -> list[Any]:
    return [
        _make_static(COMPARER, {"pipe": {"path": str(socket)}}, http2=True),
        *(
            _make_static(
                shadow_cluster(http2=http2),
                {"envoy_internal_address": {"server_listener_name": SHADOW}},
                http2=http2,
            )
            for http2 in (False, True)
        ),
    ]


def _make_static(name: str, address: dict[str, Any], *, http2: bool) -> Any:
    endpoint = {"endpoint": {"address": address}}
    return cluster_pb2.Cluster(
        name=name,
        type="STATIC",
        connect_timeout=duration(CONNECT_SECONDS),
        per_connection_buffer_limit_bytes={"value": BUFFER_BYTES},
        circuit_breakers=THRESHOLDS,
        load_assignment={"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        typed_extension_protocol_options=make_protocol_options(http2=http2, idle_timeout=0),
    )


def make_compare_filter(role: str) -> Any:
    """Tells the comparer of headers and answers; `role` says whose."""
    return ext_proc_pb2.ExternalProcessor(
        grpc_service={
            "envoy_grpc": {"cluster_name": COMPARER},
            "initial_metadata": [{"key": COMPARE_ROLE, "value": role}],
        },
        observability_mode=True,
        failure_mode_allow=True,
        deferred_close_timeout=duration(1),
        processing_mode={
            "request_header_mode": "SEND",
            "response_header_mode": "SEND",
            "request_body_mode": "NONE",
            "response_body_mode": "STREAMED",
            "request_trailer_mode": "SKIP",
            "response_trailer_mode": "SEND",
        },
        forward_rules={
            "allowed_headers": {
                "patterns": [
                    {"exact": name}
                    for name in (
                        ":status", "x-request-id", "content-type", "content-encoding",
                        "grpc-status", "inference-header-content-length", SHADOW_HEADER,
                    )
                ]
            }
        },
    )  # fmt: skip


def make_report_filter() -> Any:
    """Has the comparer answer a request with its figures."""
    return ext_proc_pb2.ExternalProcessor(
        grpc_service={
            "envoy_grpc": {"cluster_name": COMPARER},
            "initial_metadata": [{"key": COMPARE_ROLE, "value": REPORT}],
        },
        message_timeout=duration(2),
        processing_mode={"response_header_mode": "SKIP"},
        mutation_rules={"disallow_all": {"value": True}, "allow_expression": {"regex": ".*"}},
    )


def make_shadow_listener() -> Any:
    onward = {
        "match": {"prefix": "/"},
        "route": {"cluster_header": SHADOW_HEADER, "timeout": duration(0)},
        "request_headers_to_remove": [SHADOW_HEADER],
    }
    return make_internal_listener(
        SHADOW,
        [(COMPARE, make_compare_filter(CANDIDATE))],
        {"retry_policy": RETRIES, "routes": [onward]},
    )
