"""The columns of a pod that need more than a glance: READY, STATUS, RESTARTS."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kedge.cluster.base import Object
from kedge.cluster.local.tables.ages import age


def ready(pod: Object, _now: datetime) -> str:
    statuses = _statuses(pod, "containerStatuses")
    count = sum(1 for one in statuses if one.get("ready"))
    return f"{count}/{len((pod.get('spec') or {}).get('containers') or ())}"


def reason(pod: Object, _now: datetime) -> str:
    """One word for what the pod is at: the init container that runs or failed, else the worst."""
    status = pod.get("status") or {}
    text = str(status.get("reason") or status.get("phase") or "Unknown")
    text = _init_reason(pod) or _container_reason(pod, text)
    if pod["metadata"].get("deletionTimestamp") and status.get("reason") != "NodeLost":
        return "Terminating" if status.get("phase") not in ("Succeeded", "Failed") else text
    return text


def restarts(pod: Object, now: datetime) -> str:
    statuses = _statuses(pod, "containerStatuses")
    if _init_reason(pod):
        statuses = _statuses(pod, "initContainerStatuses")
    count = sum(int(one.get("restartCount", 0)) for one in statuses)
    ends = [
        ended["finishedAt"]
        for one in statuses
        if (ended := (one.get("lastState") or {}).get("terminated")) and ended.get("finishedAt")
    ]
    return f"{count} ({age(max(ends), now)} ago)" if count and ends else str(count)


def readiness_gates(pod: Object, _now: datetime) -> str:
    gates = (pod.get("spec") or {}).get("readinessGates") or ()
    if not gates:
        return "<none>"
    conditions = (pod.get("status") or {}).get("conditions") or ()
    true = {one.get("type") for one in conditions if one.get("status") == "True"}
    return f"{sum(gate.get('conditionType') in true for gate in gates)}/{len(gates)}"


def _statuses(pod: Object, field: str) -> list[dict[str, Any]]:
    return [one for one in (pod.get("status") or {}).get(field) or () if isinstance(one, dict)]


def _init_reason(pod: Object) -> str:
    statuses = _statuses(pod, "initContainerStatuses")
    count = len((pod.get("spec") or {}).get("initContainers") or ())
    for at, one in enumerate(statuses):
        state = one.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting")
        if ended and ended.get("exitCode") == 0:
            continue
        if one.get("started") and "running" in state and _is_sidecar(pod, one.get("name")):
            continue
        if ended:
            return f"Init:{_end_reason(ended)}"
        if waiting and waiting.get("reason") not in (None, "", "PodInitializing"):
            return f"Init:{waiting['reason']}"
        return f"Init:{at}/{count}"
    return ""


def _is_sidecar(pod: Object, name: Any) -> bool:
    return any(
        one.get("name") == name and one.get("restartPolicy") == "Always"
        for one in (pod.get("spec") or {}).get("initContainers") or ()
    )


def _container_reason(pod: Object, text: str) -> str:
    running = False
    for one in reversed(_statuses(pod, "containerStatuses")):
        state = one.get("state") or {}
        waiting, ended = state.get("waiting"), state.get("terminated")
        if waiting and waiting.get("reason"):
            text = waiting["reason"]
        elif ended:
            text = _end_reason(ended)
        elif one.get("ready") and "running" in state:
            running = True
    if text == "Completed" and running:
        return "Running" if _is_ready(pod) else "NotReady"
    return text


def _end_reason(ended: dict[str, Any]) -> str:
    if ended.get("reason"):
        return str(ended["reason"])
    if ended.get("signal"):
        return f"Signal:{ended['signal']}"
    return f"ExitCode:{ended.get('exitCode', 0)}"


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
