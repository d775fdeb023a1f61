"""The columns of Kubernetes' own kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kedge.api.scheme import (
    CONFIG_MAP,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    ENDPOINTS,
    EVENT,
    HORIZONTAL_POD_AUTOSCALER,
    LEASE,
    NAMESPACE,
    NODE,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    REPLICA_SET,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    Kind,
)
from kedge.cluster.base import Object
from kedge.cluster.local.scaling import format_selector
from kedge.cluster.local.tables import pods
from kedge.cluster.local.tables.ages import age

Value = Callable[[Object, datetime], Any]

NONE = "<none>"
_SHOWN_ENDPOINTS = 3
_ACCESS_MODES = {
    "ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One column of a Table.

    Attributes:
        priority: 0 is always shown, 1 only with `-o wide`.
    """

    name: str
    value: Value
    type: str = "string"
    format: str = ""
    priority: int = 0
    description: str = ""


def _spec(obj: Object) -> Object:
    return obj.get("spec") or {}


def _status(obj: Object) -> Object:
    return obj.get("status") or {}


def _since(path: tuple[str, ...]) -> Value:
    def value(obj: Object, now: datetime) -> str:
        found: Any = obj
        for part in path:
            found = found.get(part) if isinstance(found, dict) else None
        return age(found, now)

    return value


def _template_containers(field: str) -> Value:
    def value(obj: Object, _now: datetime) -> str:
        template = (_spec(obj).get("template") or {}).get("spec") or {}
        return ",".join(one.get(field, "") for one in template.get("containers") or ())

    return value


def _count(section: str, field: str) -> Value:
    return lambda obj, _now: (obj.get(section) or {}).get(field) or 0


def _wide(name: str, value: Value, type: str = "string") -> Column:
    return Column(name, value, type, priority=1)


_NAME = Column("Name", lambda obj, _now: obj["metadata"]["name"], format="name")
_AGE = Column("Age", _since(("metadata", "creationTimestamp")))
_TEMPLATE = (
    _wide("Containers", _template_containers("name")),
    _wide("Images", _template_containers("image")),
    _wide("Selector", lambda obj, _now: format_selector(_spec(obj).get("selector")) or NONE),
)


def _service_ports(obj: Object, _now: datetime) -> str:
    shown = []
    for port in _spec(obj).get("ports") or ():
        node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
        shown.append(f"{port.get('port')}{node_port}/{port.get('protocol', 'TCP')}")
    return ",".join(shown) or NONE


def _external_ip(obj: Object, _now: datetime) -> str:
    spec = _spec(obj)
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName", NONE))
    if spec.get("externalIPs"):
        return ",".join(spec["externalIPs"])
    return "<pending>" if spec.get("type") == "LoadBalancer" else NONE


def _node_status(obj: Object, _now: datetime) -> str:
    ready = [one for one in _status(obj).get("conditions") or () if one.get("type") == "Ready"]
    text = "Unknown"
    if ready:
        text = "Ready" if ready[0].get("status") == "True" else "NotReady"
    return f"{text},SchedulingDisabled" if _spec(obj).get("unschedulable") else text


def _node_roles(obj: Object, _now: datetime) -> str:
    prefix = "node-role.kubernetes.io/"
    labels = obj["metadata"].get("labels") or {}
    roles = sorted(key.removeprefix(prefix) for key in labels if key.startswith(prefix))
    return ",".join(roles) or NONE


def _node_info(field: str) -> Value:
    return lambda obj, _now: (_status(obj).get("nodeInfo") or {}).get(field) or "<unknown>"


def _node_address(type: str) -> Value:
    def value(obj: Object, _now: datetime) -> str:
        found = [a["address"] for a in _status(obj).get("addresses") or () if a.get("type") == type]
        return found[0] if found else NONE

    return value


def _endpoints(obj: Object, _now: datetime) -> str:
    shown = [
        f"{address.get('ip')}:{port.get('port')}"
        for subset in obj.get("subsets") or ()
        for address in subset.get("addresses") or ()
        for port in subset.get("ports") or [{}]
    ]
    return _some(shown)


def _slice_endpoints(obj: Object, _now: datetime) -> str:
    return _some([a for one in obj.get("endpoints") or () for a in one.get("addresses") or ()])


def _slice_ports(obj: Object, _now: datetime) -> str:
    return ",".join(str(port.get("port", "")) for port in obj.get("ports") or ()) or "<unset>"


def _some(items: list[str]) -> str:
    if not items:
        return NONE
    more = len(items) - _SHOWN_ENDPOINTS
    shown = ",".join(items[:_SHOWN_ENDPOINTS])
    return f"{shown} + {more} more..." if more > 0 else shown


def _data_size(obj: Object, _now: datetime) -> int:
    return len(obj.get("data") or {}) + len(obj.get("binaryData") or {})


def _event_seen(obj: Object, now: datetime) -> str:
    series = obj.get("series") or {}
    last = series.get("lastObservedTime") or obj.get("lastTimestamp") or obj.get("eventTime")
    return age(last or obj["metadata"].get("creationTimestamp"), now)


def _event_first(obj: Object, now: datetime) -> str:
    first = obj.get("firstTimestamp") or obj.get("eventTime")
    return age(first or obj["metadata"].get("creationTimestamp"), now)


def _event_object(obj: Object, _now: datetime) -> str:
    about = obj.get("involvedObject") or {}
    return f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}"


def _event_source(obj: Object, _now: datetime) -> str:
    source = obj.get("source") or {}
    parts = [source.get("component") or obj.get("reportingComponent"), source.get("host")]
    return ", ".join(part for part in parts if part)


def _event_count(obj: Object, _now: datetime) -> int:
    return int((obj.get("series") or {}).get("count") or obj.get("count") or 1)


def _claim_modes(obj: Object, _now: datetime) -> str:
    modes = _status(obj).get("accessModes") or ()
    return ",".join(_ACCESS_MODES.get(mode, mode) for mode in modes)


def _scaler_reference(obj: Object, _now: datetime) -> str:
    target = _spec(obj).get("scaleTargetRef") or {}
    return f"{target.get('kind')}/{target.get('name')}"


def _scaler_targets(obj: Object, _now: datetime) -> str:
    current = {
        (one.get("resource") or {}).get("name"): (one["resource"].get("current") or {})
        for one in _status(obj).get("currentMetrics") or ()
        if one.get("resource")
    }
    shown = []
    for metric in _spec(obj).get("metrics") or ():
        resource = metric.get("resource") or {}
        name, target = resource.get("name", metric.get("type", "")), resource.get("target") or {}
        now = current.get(name, {})
        if "averageUtilization" in target:
            used = now.get("averageUtilization")
            seen = "<unknown>" if used is None else f"{used}%"
            shown.append(f"{name}: {seen}/{target['averageUtilization']}%")
        else:
            seen = now.get("averageValue", "<unknown>")
            shown.append(f"{name}: {seen}/{target.get('averageValue', '<auto>')}")
    return ", ".join(shown) or NONE


CORE_COLUMNS: dict[Kind, tuple[Column, ...]] = {
    POD: (
        _NAME,
        Column("Ready", pods.ready),
        Column("Status", pods.reason),
        Column("Restarts", pods.restarts),
        _AGE,
        _wide("IP", lambda obj, _now: _status(obj).get("podIP") or NONE),
        _wide("Node", lambda obj, _now: _spec(obj).get("nodeName") or NONE),
        _wide("Nominated Node", lambda obj, _now: _status(obj).get("nominatedNodeName") or NONE),
        _wide("Readiness Gates", pods.readiness_gates),
    ),
    DEPLOYMENT: (
        _NAME,
        Column(
            "Ready",
            lambda obj, _now: (
                f"{_status(obj).get('readyReplicas', 0)}/{_spec(obj).get('replicas', 0)}"
            ),
        ),
        Column("Up-to-date", _count("status", "updatedReplicas"), "integer"),
        Column("Available", _count("status", "availableReplicas"), "integer"),
        _AGE,
        *_TEMPLATE,
    ),
    REPLICA_SET: (
        _NAME,
        Column("Desired", _count("spec", "replicas"), "integer"),
        Column("Current", _count("status", "replicas"), "integer"),
        Column("Ready", _count("status", "readyReplicas"), "integer"),
        _AGE,
        *_TEMPLATE,
    ),
    SERVICE: (
        _NAME,
        Column("Type", lambda obj, _now: _spec(obj).get("type")),
        Column("Cluster-IP", lambda obj, _now: _spec(obj).get("clusterIP") or NONE),
        Column("External-IP", _external_ip),
        Column("Port(s)", _service_ports),
        _AGE,
        _wide(
            "Selector",
            lambda obj, _now: format_selector({"matchLabels": _spec(obj).get("selector")}) or NONE,
        ),
    ),
    NAMESPACE: (_NAME, Column("Status", lambda obj, _now: _status(obj).get("phase")), _AGE),
    NODE: (
        _NAME,
        Column("Status", _node_status),
        Column("Roles", _node_roles),
        _AGE,
        Column("Version", _node_info("kubeletVersion")),
        _wide("Internal-IP", _node_address("InternalIP")),
        _wide("External-IP", _node_address("ExternalIP")),
        _wide("OS-Image", _node_info("osImage")),
        _wide("Kernel-Version", _node_info("kernelVersion")),
        _wide("Container-Runtime", _node_info("containerRuntimeVersion")),
    ),
    CONFIG_MAP: (_NAME, Column("Data", _data_size, "integer"), _AGE),
    SECRET: (
        _NAME,
        Column("Type", lambda obj, _now: obj.get("type")),
        Column("Data", _data_size, "integer"),
        _AGE,
    ),
    SERVICE_ACCOUNT: (
        _NAME,
        Column("Secrets", lambda obj, _now: len(obj.get("secrets") or ()), "integer"),
        _AGE,
    ),
    EVENT: (
        Column("Last Seen", _event_seen),
        Column("Type", lambda obj, _now: obj.get("type", "")),
        Column("Reason", lambda obj, _now: obj.get("reason", "")),
        Column("Object", _event_object),
        _wide(
            "Subobject", lambda obj, _now: (obj.get("involvedObject") or {}).get("fieldPath", "")
        ),
        _wide("Source", _event_source),
        Column("Message", lambda obj, _now: str(obj.get("message", "")).strip()),
        _wide("First Seen", _event_first),
        _wide("Count", _event_count, "integer"),
        Column("Name", lambda obj, _now: obj["metadata"]["name"], format="name", priority=1),
    ),
    PERSISTENT_VOLUME_CLAIM: (
        _NAME,
        Column("Status", lambda obj, _now: _status(obj).get("phase")),
        Column("Volume", lambda obj, _now: _spec(obj).get("volumeName", "")),
        Column(
            "Capacity", lambda obj, _now: (_status(obj).get("capacity") or {}).get("storage", "")
        ),
        Column("Access Modes", _claim_modes),
        Column("StorageClass", lambda obj, _now: _spec(obj).get("storageClassName", "")),
        _AGE,
        _wide("VolumeMode", lambda obj, _now: _spec(obj).get("volumeMode", "")),
    ),
    ENDPOINTS: (_NAME, Column("Endpoints", _endpoints), _AGE),
    ENDPOINT_SLICE: (
        _NAME,
        Column("AddressType", lambda obj, _now: obj.get("addressType")),
        Column("Ports", _slice_ports),
        Column("Endpoints", _slice_endpoints),
        _AGE,
    ),
    HORIZONTAL_POD_AUTOSCALER: (
        _NAME,
        Column("Reference", _scaler_reference),
        Column("Targets", _scaler_targets),
        Column("MinPods", lambda obj, _now: str(_spec(obj).get("minReplicas", "<unset>"))),
        Column("MaxPods", _count("spec", "maxReplicas"), "integer"),
        Column("Replicas", _count("status", "currentReplicas"), "integer"),
        _AGE,
    ),
    LEASE: (_NAME, Column("Holder", lambda obj, _now: _spec(obj).get("holderIdentity", "")), _AGE),
}
