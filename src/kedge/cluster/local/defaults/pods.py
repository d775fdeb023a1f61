"""Defaults of pods and of pod templates."""

from __future__ import annotations

from typing import Any

from kedge.cluster.base import Object

_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_MODE = 0o644
_FILE_SOURCES = ("configMap", "secret", "projected", "downwardAPI")
_VOLUME_NAME_ONLY = {"name"}


def default_pod(pod: Object) -> None:
    spec = pod.get("spec")
    if not isinstance(spec, dict):
        return
    default_pod_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    if not spec.get("serviceAccountName"):
        spec["serviceAccountName"] = "default"
    spec["serviceAccount"] = spec["serviceAccountName"]
    for container in containers_of(spec):
        _default_requests(container)
    status = pod.setdefault("status", {})
    status.setdefault("phase", "Pending")
    status["qosClass"] = _quality(spec)


def default_pod_spec(spec: dict[str, Any]) -> None:
    """What pods and templates have in common."""
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    if spec.get("securityContext") is None:
        spec["securityContext"] = {}
    for container in containers_of(spec):
        _default_container(container)
    for volume in _objects(spec.get("volumes")):
        _default_volume(volume)
    for constraint in _objects(spec.get("topologySpreadConstraints")):
        constraint.setdefault("nodeAffinityPolicy", "Honor")
        constraint.setdefault("nodeTaintsPolicy", "Ignore")


def containers_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Init containers, then containers."""
    return [*_objects(spec.get("initContainers")), *_objects(spec.get("containers"))]


def _objects(items: Any) -> list[dict[str, Any]]:
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _default_container(container: dict[str, Any]) -> None:
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    if not container.get("imagePullPolicy") and isinstance(container.get("image"), str):
        container["imagePullPolicy"] = _pull_policy(container["image"])
    if container.get("resources") is None:
        container["resources"] = {}
    for port in _objects(container.get("ports")):
        port.setdefault("protocol", "TCP")
    for variable in _objects(container.get("env")):
        source = variable.get("valueFrom")
        if isinstance(source, dict) and isinstance(source.get("fieldRef"), dict):
            source["fieldRef"].setdefault("apiVersion", "v1")
    for name in _PROBES:
        if isinstance(container.get(name), dict):
            _default_probe(container[name])
    lifecycle = container.get("lifecycle")
    if isinstance(lifecycle, dict):
        for hook in _objects(list(lifecycle.values())):
            _default_http(hook.get("httpGet"))


def _default_probe(probe: dict[str, Any]) -> None:
    for field, value in (
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ):
        if not probe.get(field):
            probe[field] = value
    _default_http(probe.get("httpGet"))
    if isinstance(probe.get("grpc"), dict):
        probe["grpc"].setdefault("service", "")


def _default_http(action: Any) -> None:
    if isinstance(action, dict):
        action.setdefault("path", "/")
        action.setdefault("scheme", "HTTP")


def _pull_policy(image: str) -> str:
    """`Always` for the tag latest, given or implied."""
    if "@" in image:
        return "IfNotPresent"
    _, colon, tag = image.rpartition("/")[2].partition(":")
    return "Always" if not colon or tag == "latest" else "IfNotPresent"


def _default_volume(volume: dict[str, Any]) -> None:
    if volume.keys() == _VOLUME_NAME_ONLY:
        volume["emptyDir"] = {}
    for kind in _FILE_SOURCES:
        if isinstance(volume.get(kind), dict):
            volume[kind].setdefault("defaultMode", _MODE)
    if isinstance(volume.get("hostPath"), dict):
        volume["hostPath"].setdefault("type", "")
    projected = volume.get("projected")
    for source in _objects(projected.get("sources")) if isinstance(projected, dict) else ():
        token = source.get("serviceAccountToken")
        if isinstance(token, dict):
            token.setdefault("expirationSeconds", 3600)


def _default_requests(container: dict[str, Any]) -> None:
    """A limit without a request is the request too."""
    resources = container["resources"]
    limits = resources.get("limits") if isinstance(resources, dict) else None
    if isinstance(limits, dict) and limits:
        requests = resources.get("requests")
        resources["requests"] = {**limits, **(requests if isinstance(requests, dict) else {})}


def _quality(spec: dict[str, Any]) -> str:
    """The pod's class when memory runs short: Guaranteed, Burstable or BestEffort."""
    asked = [container.get("resources") or {} for container in containers_of(spec)]
    parts = [part for one in asked for part in (one.get("limits"), one.get("requests")) if part]
    if not any(name in part for part in parts for name in ("cpu", "memory")):
        return "BestEffort"
    for one in asked:
        limits, requests = one.get("limits") or {}, one.get("requests") or {}
        if any(limits.get(n) is None or limits[n] != requests.get(n) for n in ("cpu", "memory")):
            return "Burstable"
    return "Guaranteed"
