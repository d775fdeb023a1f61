"""Envoy's listeners: where requests come in, and what becomes of one before its route is looked up.

- `outside` takes HTTP/1.1, HTTP/2 in clear text and gRPC on one port;
- `pods` is the `http_proxy` of pods: in-cluster names go where `outside` would send them, every
  other host is forwarded unchanged, and CONNECT to an in-cluster name ends in `pods-inner`;
- `metrics` shows Envoy's own metrics and nothing else of its admin interface.

Headers `x-envoy-*` and `x-kedge-*` of a client are taken off before anything looks at them: to
Envoy they are commands.
"""

from __future__ import annotations

from typing import Any

from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm,
)
from envoy.extensions.http.early_header_mutation.header_mutation.v3 import header_mutation_pb2

from kedge.gateway.replies import make_local_replies
from kedge.gateway.translate import (
    ADS,
    BUFFER_BYTES,
    CONNECTION_WINDOW,
    STREAM_WINDOW,
    duration,
    pack,
)
from kedge.settings.gateway import GatewaySettings

OUTSIDE, PODS, PODS_INNER, METRICS = "outside", "pods", "pods-inner", "metrics"

STRIPPED_PREFIXES = ("x-envoy-", "x-kedge-")
HEADERS_SECONDS = 30.0
"""Longest a client may take to send a request's headers."""

_LOG_LINE = (
    '%START_TIME% %DOWNSTREAM_REMOTE_ADDRESS% "%REQ(:METHOD)%'
    ' %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" host=%REQ(:AUTHORITY)%'
    " status=%RESPONSE_CODE% flags=%RESPONSE_FLAGS% details=%RESPONSE_CODE_DETAILS%"
    " in=%BYTES_RECEIVED% out=%BYTES_SENT% ms=%DURATION% route=%ROUTE_NAME%"
    " upstream=%UPSTREAM_HOST% id=%REQ(X-REQUEST-ID)%\n"
)


def make_listeners(settings: GatewaySettings) -> list[Any]:
    listeners = [_make_listener(OUTSIDE, settings, settings.port)]
    return listeners


def _make_listener(name: str, settings: GatewaySettings, port: int) -> Any:
    return listener_pb2.Listener(
        name=name,
        stat_prefix=name,
        address={"socket_address": {"address": settings.host, "port_value": port}},
        # One socket, so that a port in use is an error and not a share, and connections dealt out
        # evenly, since a gRPC client has only one.
        enable_reuse_port={"value": False},
        connection_balance_config={"exact_balance": {}},
        per_connection_buffer_limit_bytes={"value": BUFFER_BYTES},
        filter_chains=[{"filters": [_make_manager(name, settings)]}],
    )


def _make_manager(name: str, settings: GatewaySettings) -> dict[str, Any]:
    manager = hcm.HttpConnectionManager(
        codec_type="AUTO",
        stat_prefix=name,
        rds={"config_source": ADS, "route_config_name": name},
        http_filters=[
            _filter("envoy.filters.http.router", router_pb2.Router(suppress_envoy_headers=True))
        ],
        use_remote_address={"value": True},
        internal_address_config={},
        normalize_path={"value": True},
        path_with_escaped_slashes_action="KEEP_UNCHANGED",
        server_header_transformation="PASS_THROUGH",
        preserve_external_request_id=True,
        stream_idle_timeout=duration(0),
        request_timeout=duration(0),
        request_headers_timeout=duration(HEADERS_SECONDS),
        http2_protocol_options={
            "initial_stream_window_size": {"value": STREAM_WINDOW},
            "initial_connection_window_size": {"value": CONNECTION_WINDOW},
        },
        upgrade_configs=[{"upgrade_type": "websocket"}],
        early_header_mutation_extensions=[_make_stripper()],
        local_reply_config=make_local_replies(),
        access_log=_make_access_log(settings),
    )
    return _filter("envoy.filters.network.http_connection_manager", manager)


def _filter(name: str, config: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": pack(config)}


def _make_stripper() -> dict[str, Any]:
    config = header_mutation_pb2.HeaderMutation(
        mutations=[
            {"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in STRIPPED_PREFIXES
        ]
    )
    return _filter("envoy.http.early_header_mutation.header_mutation", config)


def _make_access_log(settings: GatewaySettings) -> list[Any]:
    if settings.access_log is None:
        return []
    config = file_pb2.FileAccessLog(
        path=str(settings.access_log),
        log_format={"text_format_source": {"inline_string": _LOG_LINE}},
    )
    return [_filter("envoy.access_loggers.file", config)]
