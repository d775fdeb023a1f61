"""Envoy's internal listeners: a second pass of a request through the same Envoy. Pure.

They hand on what the outer listener made of a request, and change nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm,
)

from kedge.gateway.translate import (
    BUFFER_BYTES,
    CONNECTION_WINDOW,
    STREAM_WINDOW,
    duration,
    pack,
)

MAX_HEADERS = 1000
MAX_HEADER_KB = 192
"""More than what the outer listeners take: they may have added some."""


def make_internal_listener(
    name: str, filters: Iterable[tuple[str, Any]], virtual_host: dict[str, Any], **more: Any
) -> Any:
    """A listener with HTTP filters before the router, and one virtual host for all requests."""
    routing = ("envoy.filters.http.router", router_pb2.Router(suppress_envoy_headers=True))
    manager = hcm.HttpConnectionManager(
        codec_type="AUTO",
        stat_prefix=name,
        route_config={
            "name": name,
            "virtual_hosts": [{"name": name, "domains": ["*"], **virtual_host}],
        },
        http_filters=[
            {"name": kind, "typed_config": pack(one)} for kind, one in (*filters, routing)
        ],
        skip_xff_append=True,
        generate_request_id={"value": False},
        preserve_external_request_id=True,
        internal_address_config={},
        server_header_transformation="PASS_THROUGH",
        stream_idle_timeout=duration(0),
        request_timeout=duration(0),
        request_headers_timeout=duration(0),
        max_request_headers_kb={"value": MAX_HEADER_KB},
        common_http_protocol_options={
            "idle_timeout": duration(0),
            "max_headers_count": {"value": MAX_HEADERS},
        },
        http2_protocol_options={
            "max_concurrent_streams": {"value": 2147483647},
            "initial_stream_window_size": {"value": STREAM_WINDOW},
            "initial_connection_window_size": {"value": CONNECTION_WINDOW},
        },
        upgrade_configs=[{"upgrade_type": "websocket"}],
        **more,
    )
    typed = {"name": "envoy.filters.network.http_connection_manager", "typed_config": pack(manager)}
    return listener_pb2.Listener(
        name=name,
        stat_prefix=name,
        internal_listener={},
        per_connection_buffer_limit_bytes={"value": BUFFER_BYTES},
        filter_chains=[{"filters": [typed]}],
    )
