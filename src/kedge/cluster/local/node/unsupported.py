"""What a pod asks for that processes on this machine do not get: named, never silently ignored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from kedge.cluster.base import Object

_POD_HONOURED = frozenset({
    "activeDeadlineSeconds", "containers", "initContainers", "nodeName", "readinessGates",
    "restartPolicy", "terminationGracePeriodSeconds", "volumes",
})  # fmt: skip
_POD_MEANINGLESS = frozenset({
    # Of no effect on what the pod sees here, whatever their value: scheduling (done before the
    # agent), image pulls, service accounts' tokens and name resolution of a cluster.
    "affinity", "automountServiceAccountToken", "dnsPolicy", "enableServiceLinks",
    "imagePullSecrets", "nodeSelector", "overhead", "preemptionPolicy", "priority",
    "priorityClassName", "schedulerName", "schedulingGates", "serviceAccount",
    "serviceAccountName", "tolerations", "topologySpreadConstraints",
    # The machine's own network and processes are what a pod has here anyway.
    "hostNetwork", "shareProcessNamespace", "setHostnameAsFQDN",
})  # fmt: skip
_CONTAINER_HONOURED = frozenset({
    "name", "image", "command", "args", "workingDir", "ports", "env", "envFrom", "resources",
    "volumeMounts", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle",
    "terminationMessagePath", "terminationMessagePolicy", "imagePullPolicy", "restartPolicy",
})  # fmt: skip
_MOUNT_HONOURED = frozenset({"name", "mountPath", "readOnly", "subPath", "subPathExpr"})
_PROJECTED = frozenset({"configMap", "secret", "downwardAPI"})
_RESOURCES_HONOURED = frozenset({"cpu", "memory", "nvidia.com/gpu"})


def unsupported_fields(pod: Object, *, tokens: bool = False) -> list[str]:
    """The paths of set fields that this node does not honour, in the order of the spec.

    Args:
        tokens: pods can be given service accounts' tokens.
    """
    spec = pod["spec"]
    found = [name for name, value in spec.items() if value and _is_unknown_pod_field(name, value)]
    found += [f"securityContext.{name}" for name in _security(spec.get("securityContext") or {})]
    for volume in spec.get("volumes") or []:
        found += _of_volume(volume, _PROJECTED | {"serviceAccountToken"} if tokens else _PROJECTED)
    for list_name in ("initContainers", "containers"):
        for container in spec.get(list_name) or []:
            prefix = f"{list_name}[{container['name']}]"
            found += [f"{prefix}.{field}" for field in _of_container(container)]
    return list(dict.fromkeys(found))


def is_hardening(path: str) -> bool:
    """Whether a field only takes rights away: without it the container does the same work."""
    return path.endswith((
        "securityContext.capabilities", "securityContext.runAsNonRoot",
        "securityContext.seccompProfile", "securityContext.readOnlyRootFilesystem",
    ))  # fmt: skip


def _is_unknown_pod_field(name: str, value: Any) -> bool:
    if name in _POD_HONOURED or name in _POD_MEANINGLESS:
        return False
    if name == "os":
        return bool(value.get("name") != "linux")
    return name != "securityContext"


def _of_container(container: Object) -> Iterator[str]:
    for name, value in container.items():
        if value and name not in _CONTAINER_HONOURED and name != "securityContext":
            yield name
    yield from (f"securityContext.{n}" for n in _security(container.get("securityContext") or {}))
    for mount in container.get("volumeMounts") or []:
        yield from (
            f"volumeMounts[{mount['name']}].{name}"
            for name, value in mount.items()
            if value and value != "None" and name not in _MOUNT_HONOURED
        )
    for kind, amounts in (container.get("resources") or {}).items():
        if kind == "claims" and amounts:
            yield "resources.claims"
        elif kind in ("limits", "requests"):
            yield from (f"resources.{kind}.{n}" for n in amounts if n not in _RESOURCES_HONOURED)
    for hook in ("postStart", "preStop"):
        if "tcpSocket" in ((container.get("lifecycle") or {}).get(hook) or {}):
            yield f"lifecycle.{hook}.tcpSocket"


def _of_volume(volume: Object, projected: frozenset[str]) -> Iterator[str]:
    empty = volume.get("emptyDir") or {}
    if empty.get("sizeLimit") and empty.get("medium") != "Memory":
        yield f"volumes[{volume['name']}].emptyDir.sizeLimit"
    for source in (volume.get("projected") or {}).get("sources") or []:
        for kind in source:
            if kind not in projected:
                yield f"volumes[{volume['name']}].projected.sources.{kind}"


def _security(context: Object) -> Iterator[str]:
    """Pods run as the user that runs Kedge; to an ordinary user most restrictions come anyway."""
    root = os.geteuid() == 0
    for name, value in context.items():
        if name == "allowPrivilegeEscalation" and value is False:
            continue
        if name == "privileged" and not value:
            continue
        if name == "runAsNonRoot" and (not value or not root):
            continue
        if name == "runAsUser" and value == os.geteuid():
            continue
        if name == "runAsGroup" and value == os.getegid():
            continue
        if name == "capabilities" and not root and not (value or {}).get("add"):
            continue
        if name == "fsGroup" and (root or value == os.getegid()):
            continue
        if name == "capabilities" and (value or {}).get("add"):
            yield "capabilities.add"
        elif value not in (None, False, {}, []):
            yield name
