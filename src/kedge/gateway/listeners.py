"""Envoy's listeners: where requests come in, and what becomes of one before its route is looked up.

- `outside` takes HTTP/1.1, HTTP/2 in clear text and gRPC on one port, `outside-tls` the same
  with TLS;
- `pods` is the `http_proxy` of pods: in-cluster names go where `outside` would send them, every
  other host is forwarded unchanged, and CONNECT to an in-cluster name ends in `pods-inner`;
- `activation` and `shadow` (modules of these names) are internal: where requests wait for a pod,
  and where copies go whose answers are compared;
- `metrics` shows metrics, and nothing else of the interfaces behind them.

Headers `x-envoy-*` and `x-kedge-*` of a client are taken off before anything looks at them: to
Envoy they are commands.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.filters.http.ext_proc.v3 import ext_proc_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm,
)
from envoy.extensions.http.early_header_mutation.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2

from kedge.gateway.activation import make_activation_listener
from kedge.gateway.bootstrap import ADMIN_CLUSTER, API_CLUSTER
from kedge.gateway.certificates import Chain
from kedge.gateway.proxy import PODS, PODS_INNER, make_proxy_filters
from kedge.gateway.replies import make_local_replies
from kedge.gateway.shadow import make_compare_filter, make_report_filter, make_shadow_listener
from kedge.gateway.table import ROUTE_TABLE
from kedge.gateway.translate import (
    ADS,
    BUFFER_BYTES,
    COMPARE,
    CONNECTION_WINDOW,
    INNER_HEADER,
    STREAM_WINDOW,
    duration,
    pack,
)
from kedge.settings.gateway import GatewaySettings

OUTSIDE, OUTSIDE_TLS, METRICS = "outside", "outside-tls", "metrics"
_MANAGER = "envoy.filters.network.http_connection_manager"
_ROUTER = "envoy.filters.http.router"

_EXT_PROC = ext_proc_pb2.ExtProcPerRoute(overrides={})

STRIPPED_PREFIXES = ("x-envoy-", "x-kedge-")
_UPGRADES = ("websocket", "CONNECT")
HEADERS_SECONDS = 30.0
"""Longest a client may take to send a request's headers."""

_LOG_LINE = (
    '%START_TIME% %DOWNSTREAM_REMOTE_ADDRESS% "%REQ(:METHOD)%'
    ' %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" host=%REQ(:AUTHORITY)%'
    " status=%RESPONSE_CODE% flags=%RESPONSE_FLAGS% details=%RESPONSE_CODE_DETAILS%"
    " in=%BYTES_RECEIVED% out=%BYTES_SENT% ms=%DURATION% route=%ROUTE_NAME%"
    " upstream=%UPSTREAM_HOST% id=%REQ(X-REQUEST-ID)%\n"
)


def make_listeners(settings: GatewaySettings, chains: Iterable[Chain] = ()) -> list[Any]:
    """All of them; the one with TLS only where there are certificates for it."""
    outside = _make_manager(OUTSIDE, settings)
    made = [_make_listener(OUTSIDE, settings, settings.port, outside)]
    if settings.https_port is not None and chains:
        made.append(_make_tls_listener(settings, settings.https_port, outside, chains))
    if settings.proxy_port is not None:
        filters = make_proxy_filters() if settings.forwards else []
        pods = _make_manager(PODS, settings, mark=PODS, connect=True, filters=filters)
        made.append(_make_listener(PODS, settings, settings.proxy_port, pods))
        made.append(_make_inner_listener(_make_manager(PODS_INNER, settings, mark=PODS_INNER)))
    made += [make_activation_listener(), make_shadow_listener()]
    if settings.metrics_port is not None:
        metrics = _make_metrics_manager(settings)
        made.append(_make_listener(METRICS, settings, settings.metrics_port, metrics))
    return made


def _make_listener(name: str, settings: GatewaySettings, port: int, manager: Any) -> Any:
    return listener_pb2.Listener(
        name=name,
        stat_prefix=name,
        address={"socket_address": _make_address(settings.host, port)},
        # One socket, so that a port in use is an error and not a share, and connections dealt out
        # evenly, since a gRPC client has only one.
        enable_reuse_port={"value": False},
        connection_balance_config={"exact_balance": {}},
        per_connection_buffer_limit_bytes={"value": BUFFER_BYTES},
        filter_chains=[{"filters": [_filter(_MANAGER, manager)]}],
    )


def _make_tls_listener(
    settings: GatewaySettings, port: int, manager: Any, chains: Iterable[Chain]
) -> Any:
    """Certificates are chosen by the name that the client asks for."""
    listener = _make_listener(OUTSIDE_TLS, settings, port, manager)
    del listener.filter_chains[:]
    listener.listener_filters.add(
        name="envoy.filters.listener.tls_inspector",
        typed_config=pack(tls_inspector_pb2.TlsInspector()),
    )
    for chain in chains:
        context = tls_pb2.DownstreamTlsContext(
            common_tls_context={
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificate_sds_secret_configs": [_make_watch(*one) for one in chain.files],
            }
        )
        listener.filter_chains.add(
            name=chain.host or "any",
            filter_chain_match={"server_names": [chain.host]} if chain.host else {},
            filters=[_filter(_MANAGER, manager)],
            transport_socket=_filter("envoy.transport_sockets.tls", context),
        )
    return listener


def _make_watch(secret: str, file: Path) -> dict[str, Any]:
    """Envoy reads the certificate from its file, and again when the file is replaced."""
    source = {"path_config_source": {"path": str(file)}, "resource_api_version": "V3"}
    return {"name": secret, "sds_config": source}


def _make_address(host: str, port: int) -> dict[str, Any]:
    address = {"address": host, "port_value": port}
    return {**address, "ipv4_compat": True} if host == "::" else address


def _make_inner_listener(manager: Any) -> Any:
    return listener_pb2.Listener(
        name=PODS_INNER,
        stat_prefix=PODS_INNER,
        internal_listener={},
        per_connection_buffer_limit_bytes={"value": BUFFER_BYTES},
        filter_chains=[{"filters": [_filter(_MANAGER, manager)]}],
    )


def _make_manager(
    name: str,
    settings: GatewaySettings,
    *,
    mark: str = "",
    connect: bool = False,
    filters: list[tuple[str, Any]] | None = None,
) -> Any:
    """The HTTP side of a listener; `mark` tells routes that a request came in here. It takes
    tunnels if `connect`."""
    router = (_ROUTER, router_pb2.Router(suppress_envoy_headers=True))
    # Routes whose answers are compared switch it on.
    compare = {**_filter(COMPARE, make_compare_filter("")), "disabled": True}
    return hcm.HttpConnectionManager(
        codec_type="AUTO",
        stat_prefix=name,
        rds={"config_source": ADS, "route_config_name": ROUTE_TABLE},
        http_filters=[*(_filter(*one) for one in filters or []), compare, _filter(*router)],
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
            "allow_connect": connect,
            "initial_stream_window_size": {"value": STREAM_WINDOW},
            "initial_connection_window_size": {"value": CONNECTION_WINDOW},
        },
        upgrade_configs=[{"upgrade_type": one} for one in _UPGRADES[: 2 if connect else 1]],
        early_header_mutation_extensions=[_make_stripper(mark)],
        local_reply_config=make_local_replies(),
        access_log=_make_access_log(settings),
    )


def _make_metrics_manager(settings: GatewaySettings) -> Any:
    """Metrics and nothing else of what the clusters behind could do."""
    envoy = _make_metrics_route("/metrics", ADMIN_CLUSTER, "/stats/prometheus")
    routes = [envoy]
    if settings.service_metrics:
        envoy["match"]["path"] = "/metrics/envoy"
        routes.append(_make_metrics_route("/metrics", API_CLUSTER, settings.service_metrics))
    report = {
        "match": {"path": "/metrics/comparisons"},
        "direct_response": {"status": 503},
        "typed_per_filter_config": {
            COMPARE: pack(route_components_pb2.FilterConfig(config=pack(_EXT_PROC)))
        },
    }
    hosts = [{"name": METRICS, "domains": ["*"], "routes": [*routes, report]}]
    return hcm.HttpConnectionManager(
        stat_prefix=METRICS,
        route_config={"name": METRICS, "virtual_hosts": hosts},
        http_filters=[
            {**_filter(COMPARE, make_report_filter()), "disabled": True},
            _filter(_ROUTER, router_pb2.Router()),
        ],
    )


def _make_metrics_route(path: str, cluster: str, rewrite: str) -> dict[str, Any]:
    get = {"name": ":method", "string_match": {"exact": "GET"}}
    return {
        "match": {"path": path, "headers": [get]},
        "route": {"cluster": cluster, "prefix_rewrite": rewrite},
    }


def _filter(name: str, config: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": pack(config)}


def _make_stripper(mark: str) -> dict[str, Any]:
    """Takes the client's commands to Envoy off and, after that, adds our own mark."""
    config = header_mutation_pb2.HeaderMutation(
        mutations=[
            {"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in STRIPPED_PREFIXES
        ]
    )
    if mark:
        config.mutations.add(append={"header": {"key": INNER_HEADER, "value": mark}})
    return _filter("envoy.http.early_header_mutation.header_mutation", config)


def _make_access_log(settings: GatewaySettings) -> list[Any]:
    if settings.access_log is None:
        return []
    config = file_pb2.FileAccessLog(
        path=str(settings.access_log),
        log_format={"text_format_source": {"inline_string": _LOG_LINE}},
    )
    return [_filter("envoy.access_loggers.file", config)]
