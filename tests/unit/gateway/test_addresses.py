"""Where a Service says that the gateway is reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kedge.gateway.addresses import Addresses, Whereabouts, read_service
from kedge.settings.gateway import GatewaySettings


def make_service(type: str, *ingress: dict[str, str], **spec: Any) -> dict[str, Any]:
    ips = {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"]}
    made: dict[str, Any] = {
        "metadata": {"name": "kedge-gateway", "namespace": "kedge"},
        "spec": {"type": type, **ips, **spec},
    }
    return {**made, "status": {"loadBalancer": {"ingress": list(ingress)}}} if ingress else made


def ip(value: str) -> dict[str, str]:
    return {"type": "IPAddress", "value": value}


@pytest.mark.parametrize(
    ("service", "addresses"),
    [
        (None, []),
        (make_service("ClusterIP"), [ip("10.96.0.7")]),
        (make_service("NodePort"), [ip("10.96.0.7")]),
        (make_service("ClusterIP", clusterIPs=["10.96.0.7", "fd00::7"]),
         [ip("10.96.0.7"), ip("fd00::7")]),
        (make_service("ClusterIP", clusterIP="None", clusterIPs=["None"]), []),
        (make_service("LoadBalancer", {"ip": "203.0.113.9"}), [ip("203.0.113.9")]),
        (make_service("LoadBalancer", {"hostname": "LB.example.com"}),
         [{"type": "Hostname", "value": "lb.example.com"}]),
        (make_service("LoadBalancer", {"ip": "203.0.113.9"}, {"ip": "203.0.113.9"}),
         [ip("203.0.113.9")]),
        (make_service("LoadBalancer", externalIPs=["203.0.113.9"]), [ip("203.0.113.9")]),
    ],
)  # fmt: skip
def test_addresses(service: dict[str, Any] | None, addresses: list[dict[str, str]]) -> None:
    assert read_service(service) == Whereabouts(tuple(addresses))


def test_a_load_balancer_that_has_not_come() -> None:
    found = read_service(make_service("LoadBalancer"))
    assert found.addresses == ()
    assert "kedge/kedge-gateway" in found.missing
    assert "10.96.0.7 is answered" in found.missing
    assert "Fix: " in found.missing


def test_on_one_machine_it_is_where_it_listens() -> None:
    settings = GatewaySettings(xds_socket=Path("/x"), admin_socket=Path("/a"))
    local = Addresses(None, settings)  # type: ignore[arg-type] # never asked
    assert local.find() == Whereabouts((ip("127.0.0.1"),))
    assert local.informers == ()
