"""Defaults of Services and of the endpoints behind them. Addresses are given by `addresses`."""

from __future__ import annotations

from typing import Any

from kedge.cluster.base import Object


def default_service(service: Object) -> None:
    spec = service.get("spec")
    if not isinstance(spec, dict):
        return
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    for port in _ports(spec):
        port.setdefault("protocol", "TCP")
        if port.get("targetPort") in (None, "", 0) and "port" in port:
            port["targetPort"] = port["port"]
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
    if spec["type"] in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    service.setdefault("status", {"loadBalancer": {}})


def default_endpoints(endpoints: Object) -> None:
    for subset in endpoints.get("subsets") or ():
        if isinstance(subset, dict):
            for port in _ports(subset):
                port.setdefault("protocol", "TCP")


def default_endpoint_slice(endpoint_slice: Object) -> None:
    for port in _ports(endpoint_slice):
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")


def _ports(holder: dict[str, Any]) -> list[dict[str, Any]]:
    return [port for port in holder.get("ports") or () if isinstance(port, dict)]
