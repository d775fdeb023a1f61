"""Golden files: Kubernetes objects in, Envoy's resources out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from google.protobuf import json_format
from tests.unit.gateway.objects import compile_all, index_objects

from kedge.gateway import activation, listeners, proxy, table, translate
from kedge.gateway.bootstrap import make_bootstrap
from kedge.gateway.routes import compile_endpoints
from kedge.settings.gateway import GatewaySettings

CASES = Path("tests/golden/gateway")
SETTINGS = GatewaySettings(
    xds_socket=Path("/run/kedge/xds.sock"),
    admin_socket=Path("/run/kedge/admin.sock"),
    access_log=Path("/data/logs/access.log"),
    port=8080,
    proxy_port=18080,
    metrics_port=18081,
)

Compare = Callable[[Path, str], None]


def dump(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=True, width=100, default_flow_style=False)


def plain(message: Any, type: Any = None) -> Any:
    """The message as YAML has it; packed bytes are read back first."""
    if type is not None:
        message = type.FromString(message.body)
    return json.loads(json_format.MessageToJson(message, preserving_proto_field_name=True))


@pytest.mark.parametrize("name", sorted(path.name for path in CASES.glob("*.in.yaml")))
def test_golden_routes(name: str, golden: Compare) -> None:
    objects = list(yaml.safe_load_all((CASES / name).read_text()))
    services, slices = index_objects(objects)
    compiled = compile_all(objects)
    clusters = {cluster.name: cluster for one in compiled for cluster in one.clusters}
    made = {
        "problems": [
            f"{one.namespace}/{one.name}: {problem.reason}: {problem.message}"
            for one in compiled
            for problem in one.problems
        ],
        "clusters": [plain(translate.make_cluster(clusters[name])) for name in sorted(clusters)],
        "endpoints": [
            plain(translate.make_load_assignment(compile_endpoints(
                name,
                services.get((name.split("/")[0], name.split("/")[1])),
                slices.get(name.rpartition("/")[0], []),
            )))
            for name in sorted(clusters)
        ],
        "routes": plain(
            table.TableBuilder(proxied=False).build(compiled), route_pb2.RouteConfiguration
        ),
    }  # fmt: skip
    golden(CASES / name.replace(".in.", ".out."), dump(made))


def test_golden_listeners(golden: Compare) -> None:
    made = {
        "listeners": [plain(one) for one in listeners.make_listeners(SETTINGS)],
        "clusters": [
            plain(one)
            for one in (
                *proxy.make_proxy_clusters(forwards=True),
                *activation.make_activation_clusters(SETTINGS.activation_socket)[:2],
            )
        ],
        "forwarding": [plain(one) for one in proxy.make_forwarding_routes()],
        "tunnel": plain(proxy.make_tunnel_route()),
    }
    golden(CASES / "listeners.out.yaml", dump(made))


def test_golden_bootstrap(golden: Compare) -> None:
    made = make_bootstrap(
        node="local", xds_socket=SETTINGS.xds_socket, admin_socket=SETTINGS.admin_socket
    )
    golden(CASES / "bootstrap.out.yaml", dump(made))


def test_types_of_resources() -> None:
    """The type URLs that are written by hand are those of the messages."""
    from kedge.gateway import resource

    for url, message in (
        (resource.CLUSTER, cluster_pb2.Cluster),
        (resource.ENDPOINT, endpoint_pb2.ClusterLoadAssignment),
        (resource.LISTENER, listener_pb2.Listener),
        (resource.ROUTE, route_pb2.RouteConfiguration),
    ):
        assert url == f"type.googleapis.com/{message.DESCRIPTOR.full_name}"
