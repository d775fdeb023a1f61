"""What a Service's EndpointSlices and Endpoints say, made from the Service and its pods. Pure.

Pods that offer the same ports are in one slice. An endpoint is `ready` when its pod is and is not
about to go; `serving` and `terminating` tell the two apart, so that a gateway can drain.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from kedge.cluster.base import Object
from kedge.cluster.labels import labels_of
from kedge.cluster.local.workloads.pods import has_ended, is_ready, is_terminating
from kedge.reconcile import controller_reference

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
_HEADLESS = "service.kubernetes.io/headless"
_SLICE_LIMIT = 100

Ports = tuple[tuple[str, str, int, str], ...]
"""Name, protocol, number and application protocol of each port."""


def is_endpoint(pod: Object) -> bool:
    """Whether a pod can be an endpoint at all: it has an address and has not ended."""
    return bool(_address(pod)) and not has_ended(pod)


def endpoint_facts(pod: Object) -> tuple[object, ...]:
    """All of a pod that its Services' endpoints depend on."""
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    return (
        labels_of(pod),
        _address(pod),
        is_ready(pod),
        is_terminating(pod),
        has_ended(pod),
        spec.get("nodeName"),
        metadata["uid"],
    )


def make_slices(service: Object, pods: Iterable[Object]) -> list[Object]:
    """The EndpointSlices of a Service with a selector; one without endpoints if there are none."""
    groups: dict[Ports, list[Object]] = {}
    for pod in sorted(filter(is_endpoint, pods), key=lambda pod: str(pod["metadata"]["name"])):
        groups.setdefault(_ports_of(service, pod), []).append(_make_endpoint(service, pod))
    if not groups:
        groups[_ports_of(service, None)] = []
    return [
        _make_slice(service, ports, endpoints[start : start + _SLICE_LIMIT], start // _SLICE_LIMIT)
        for ports, endpoints in sorted(groups.items())
        for start in range(0, max(1, len(endpoints)), _SLICE_LIMIT)
    ]


def make_endpoints(service: Object, pods: Iterable[Object]) -> Object:
    """The older form of the same, which some clients still read."""
    groups: dict[Ports, tuple[list[Object], list[Object]]] = {}
    for pod in sorted(filter(is_endpoint, pods), key=lambda pod: str(pod["metadata"]["name"])):
        ready, not_ready = groups.setdefault(_ports_of(service, pod), ([], []))
        if is_terminating(pod) and not _publishes_all(service):
            continue
        (ready if _is_published_ready(service, pod) else not_ready).append(_make_address(pod))
    subsets = []
    for ports, (ready, not_ready) in sorted(groups.items()):
        lists = {"addresses": ready, "notReadyAddresses": not_ready}
        found = {name: addresses for name, addresses in lists.items() if addresses}
        if found:
            subsets.append({**found, "ports": _format_ports(ports)})
    metadata = service["metadata"]
    made: Object = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": {**labels_of(service), "endpoints.kubernetes.io/managed-by": "kedge"},
            "ownerReferences": [controller_reference(service)],
        },
    }
    return {**made, "subsets": subsets} if subsets else made


def _make_slice(service: Object, ports: Ports, endpoints: list[Object], number: int) -> Object:
    metadata = service["metadata"]
    labels = {**labels_of(service), SERVICE_NAME: metadata["name"], MANAGED_BY: MANAGER}
    if service["spec"].get("clusterIP") == "None":
        labels[_HEADLESS] = ""
    digest = hashlib.sha256(json.dumps([ports, number]).encode()).hexdigest()[:5]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{metadata['name']}-{digest}",
            "namespace": metadata["namespace"],
            "labels": labels,
            "ownerReferences": [controller_reference(service)],
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": _format_ports(ports),
    }


def _make_endpoint(service: Object, pod: Object) -> Object:
    endpoint = {
        "addresses": [_address(pod)],
        "conditions": {
            "ready": _is_published_ready(service, pod),
            "serving": is_ready(pod),
            "terminating": is_terminating(pod),
        },
        "targetRef": _target(pod),
    }
    node = (pod.get("spec") or {}).get("nodeName")
    return {**endpoint, "nodeName": node} if node else endpoint


def _make_address(pod: Object) -> Object:
    address = {"ip": _address(pod), "targetRef": _target(pod)}
    node = (pod.get("spec") or {}).get("nodeName")
    return {**address, "nodeName": node} if node else address


def _target(pod: Object) -> Object:
    metadata = pod["metadata"]
    return {
        "kind": "Pod",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }


def _is_published_ready(service: Object, pod: Object) -> bool:
    return _publishes_all(service) or (is_ready(pod) and not is_terminating(pod))


def _publishes_all(service: Object) -> bool:
    return bool(service["spec"].get("publishNotReadyAddresses"))


def _address(pod: Object) -> str:
    return str((pod.get("status") or {}).get("podIP") or "")


def _ports_of(service: Object, pod: Object | None) -> Ports:
    """A Service's ports on one pod; ports that the pod does not name are left out."""
    found = []
    for port in service["spec"].get("ports") or ():
        protocol = port.get("protocol", "TCP")
        number = _resolve(port.get("targetPort", port.get("port")), protocol, pod)
        if number:
            name, application = port.get("name", ""), port.get("appProtocol", "")
            found.append((name, protocol, number, application))
    return tuple(found)


def _resolve(target: int | str, protocol: str, pod: Object | None) -> int | None:
    if isinstance(target, int):
        return target
    if target.isdigit():
        return int(target)
    for container in _containers(pod):
        for port in container.get("ports") or ():
            if port.get("name") == target and port.get("protocol", "TCP") == protocol:
                return int(port["containerPort"])
    return None


def _containers(pod: Object | None) -> list[dict[str, Any]]:
    spec = (pod or {}).get("spec") or {}
    sidecars = [
        one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"
    ]
    return [*(spec.get("containers") or ()), *sidecars]


def _format_ports(ports: Ports) -> list[Object]:
    return [
        {"name": name, "protocol": protocol, "port": number}
        | ({"appProtocol": application} if application else {})
        for name, protocol, number, application in ports
    ]
