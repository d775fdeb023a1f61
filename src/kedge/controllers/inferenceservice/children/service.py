"""Services: those that select pods, and those whose endpoints are the gateway's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kedge.api.scheme import SERVICE
from kedge.cluster.base import Object
from kedge.controllers.inferenceservice import names
from kedge.controllers.inferenceservice.children import scaling
from kedge.controllers.inferenceservice.children.meta import make_object
from kedge.controllers.inferenceservice.components import Component, ServicePlan
from kedge.controllers.inferenceservice.images import is_kedge_server
from kedge.controllers.inferenceservice.merge import Tree
from kedge.controllers.inferenceservice.pod import DEFAULT_PORT, GRPC_PORT, serving_container

H2C = "kubernetes.io/h2c"
HTTP_PORT = 80
_KEDGE_KEEPALIVE = "75"
"""Seconds for which Kedge's own server keeps an idle connection."""


@dataclass(frozen=True)
class Ports:
    """Which Service ports answer REST and which gRPC; None for neither."""

    rest: int | None
    grpc: int | None


def service_ports(pod: Tree, name: str) -> list[dict[str, Any]]:
    """The ports of a Service in front of `pod`; the first is always port 80.

    Kedge's own server listens for gRPC on 8081 without saying so in its container's ports.
    """
    container = serving_container(pod)
    declared = list(container.get("ports") or ())
    if not declared:
        ports = [_port(name, HTTP_PORT, DEFAULT_PORT)]
    else:
        ports = [
            _port(
                str(entry.get("name") or (name if len(declared) == 1 else f"port-{target}")),
                HTTP_PORT if place == 0 else target,
                target,
                protocol=str(entry.get("protocol") or "TCP"),
            )
            for place, entry in enumerate(declared)
            if (target := int(entry["containerPort"]))
        ]
    taken = {entry["targetPort"] for entry in ports}
    grpc = _grpc_port(container)
    if (
        is_kedge_server(str(container.get("image") or ""))
        and not any("appProtocol" in entry for entry in ports)
        and grpc not in taken
    ):
        ports.append(_port("grpc", grpc, grpc))
    return ports


def _port(name: str, port: int, target: int, *, protocol: str = "TCP") -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": name, "port": port, "protocol": protocol, "targetPort": target,
    }  # fmt: skip
    if "grpc" in name or "h2c" in name:
        entry["appProtocol"] = H2C
    return entry


def _grpc_port(container: Tree) -> int:
    """Where Kedge's server listens for gRPC."""
    args = [str(arg) for arg in container.get("args") or ()]
    for place, arg in enumerate(args):
        flag, _, value = arg.partition("=")
        if flag == "--grpc_port":
            value = value or next(iter(args[place + 1 : place + 2]), "")
            if value.isdigit():
                return int(value)
    return GRPC_PORT


def ports_of(service: Object) -> Ports:
    """Which of a Service's ports answer what."""
    entries = service["spec"].get("ports") or ()
    rest = next((entry["port"] for entry in entries if "appProtocol" not in entry), None)
    grpc = next((entry["port"] for entry in entries if entry.get("appProtocol") == H2C), None)
    return Ports(rest, grpc)


def make_service(plan: ServicePlan, component: Component, name: str | None = None) -> Object:
    """The Service of a component's pods in Standard mode, named like it unless told otherwise."""
    app = names.app_label(component.name)
    service = make_object(
        SERVICE,
        plan.isvc,
        name or component.name,
        labels={
            **component.labels,
            names.APP_LABEL: app,
            **scaling.service_labels(plan, component),
        },
        annotations={
            **_connection(component),
            **component.annotations,
            **scaling.service_annotations(plan, component),
        },
    )
    service["spec"] = {
        "type": "ClusterIP",
        "ports": service_ports(component.pod, component.name),
        "selector": {names.APP_LABEL: app},
    }
    if plan.config.service.service_cluster_ip_none:
        service["spec"]["clusterIP"] = "None"
    return service


def make_revision_service(plan: ServicePlan, component: Component, revision: str) -> Object:
    """The Service of one revision's pods."""
    service = make_object(
        SERVICE,
        plan.isvc,
        names.private_service(revision),
        labels={
            **component.labels,
            names.CONFIGURATION_LABEL: component.name,
            names.REVISION_LABEL: revision,
            **scaling.service_labels(plan, component),
        },
        annotations={**_connection(component), **scaling.service_annotations(plan, component)},
    )
    service["spec"] = {
        "type": "ClusterIP",
        "ports": service_ports(component.pod, component.name),
        "selector": {names.REVISION_LABEL: revision},
    }
    return service


def _connection(component: Component) -> dict[str, str]:
    """What the gateway has to know to reuse connections, where it is known."""
    declared = component.annotations.get(names.KEEPALIVE)
    image = str(serving_container(component.pod).get("image") or "")
    if declared is None and is_kedge_server(image):
        declared = _KEDGE_KEEPALIVE
    return {} if declared is None else {names.KEEPALIVE: declared}


def make_gateway_service(plan: ServicePlan, name: str, labels: Mapping[str, str]) -> Object:
    """A Service without selector: whoever calls it comes through the gateway, which splits, counts
    and wakes."""
    service = make_object(
        SERVICE, plan.isvc, name, labels={**labels, names.ENDPOINTS_LABEL: "gateway"}
    )
    service["spec"] = {
        "type": "ClusterIP",
        "ports": [_port("http", HTTP_PORT, DEFAULT_PORT)],
    }
    return service


def make_node_services(plan: ServicePlan, component: Component) -> list[Object]:
    """The headless Services by which the nodes of one predictor find each other."""
    generation = int(plan.isvc["metadata"].get("generation") or 1)
    made = []
    for role, name, app in (
        ("head", names.head_service(plan.name, component.variant, generation), component.name),
        (
            "worker",
            names.workers_service(plan.name, component.variant, generation),
            names.worker(component.name),
        ),
    ):
        service = make_object(
            SERVICE,
            plan.isvc,
            name,
            labels={**component.labels, names.NODE_ROLE_LABEL: role},
        )
        service["spec"] = {
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {
                names.APP_LABEL: names.app_label(app),
                names.GENERATION_LABEL: str(generation),
            },
        }
        made.append(service)
    return made
