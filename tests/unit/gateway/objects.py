"""Kubernetes objects in short, for the gateway's tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kedge.cluster.base import Object
from kedge.gateway.binding import bind
from kedge.gateway.ir import Binding, CompiledRoute
from kedge.gateway.routes import compile_route

Services = dict[tuple[str, str], Object]


def make_http_route(
    name: str, *rules: Object, hostnames: Iterable[str] = (), **metadata: Any
) -> Object:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"namespace": "default", "name": name, "generation": 1, **metadata},
        "spec": {
            "parentRefs": [{"name": "kedge-gateway", "namespace": "kedge"}],
            "hostnames": list(hostnames),
            "rules": list(rules),
        },
    }


def make_rule(service: str, port: int = 80, **more: Any) -> Object:
    return {"backendRefs": [{"name": service, "port": port}], **more}


def make_service(name: str, *ports: Object, **metadata: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "default", "name": name, **metadata},
        "spec": {"ports": list(ports or [{"name": "http", "port": 80}])},
    }


def make_slice(service: str, *addresses: str, port: int = 8080, name: str = "http") -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "default",
            "name": f"{service}-{name}-{port}",
            "labels": {"kubernetes.io/service-name": service},
        },
        "ports": [{"name": name, "port": port}],
        "endpoints": [
            {"addresses": [address], "conditions": {"ready": True}} for address in addresses
        ],
    }


def index_objects(objects: Iterable[Object]) -> tuple[Services, dict[str, list[Object]]]:
    """Services by namespace and name, EndpointSlices by `namespace/service`."""
    services: Services = {}
    slices: dict[str, list[Object]] = {}
    for obj in objects:
        metadata = obj["metadata"]
        if obj["kind"] == "Service":
            services[metadata["namespace"], metadata["name"]] = obj
        elif obj["kind"] == "EndpointSlice":
            service = metadata["labels"]["kubernetes.io/service-name"]
            slices.setdefault(f"{metadata['namespace']}/{service}", []).append(obj)
    return services, slices


def unbound(route: Object) -> Binding:
    """What is made of a route where there is no Gateway."""
    return bind(route, "kedge/kedge-gateway", None, lambda _: {})


def compile_all(objects: Iterable[Object]) -> list[CompiledRoute]:
    objects = list(objects)
    services, _ = index_objects(objects)
    return [
        compile_route(obj, lambda namespace, name: services.get((namespace, name)), unbound(obj))
        for obj in objects
        if obj["kind"] == "HTTPRoute"
    ]
