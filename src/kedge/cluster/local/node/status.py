"""From what the agent knows of a pod to the Pod's status: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from kedge.cluster.base import Object
from kedge.cluster.local.node.starts import CONDITION, Start
from kedge.lib.clock import format_time

Role = Literal["init", "sidecar", "main"]
Phase = Literal["Pending", "Running", "Succeeded", "Failed"]

LOST_CODE = 137
LOST_REASON = "ContainerStatusUnknown"


@dataclass
class ContainerState:
    """One container, as its status will tell.

    Attributes:
        spec: the container as the pod's spec has it.
        restarts: runs before this one; the number of the present run.
        waiting: reason and message, while it does not run.
        running_since: start of the present run.
        terminated: `ContainerStateTerminated` of the last run, when no other will follow now.
        last: `ContainerStateTerminated` of the run before.
        started: the startup probe has succeeded.
        ready: it may have traffic.
        start: what its first start in this pod was made of.
    """

    spec: Object
    role: Role = "main"
    restarts: int = 0
    waiting: tuple[str, str] | None = ("ContainerCreating", "")
    running_since: datetime | None = None
    terminated: Object | None = None
    last: Object | None = None
    started: bool = False
    ready: bool = False
    start: Start | None = None

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def done(self) -> bool:
        """It has ended well."""
        return self.terminated is not None and self.terminated["exitCode"] == 0

    def mark_waiting(self, reason: str, message: str = "") -> None:
        if self.terminated is not None:
            self.last, self.terminated = self.terminated, None
        self.waiting, self.running_since = (reason, message), None
        self.started = self.ready = False

    def mark_running(self, since: datetime) -> None:
        if self.terminated is not None:
            self.last, self.terminated = self.terminated, None
        self.waiting, self.running_since = None, since
        self.started = self.ready = False

    def mark_terminated(self, terminated: Object) -> None:
        self.waiting = self.running_since = None
        self.terminated = terminated
        self.started = self.ready = False


@dataclass
class PodFacts:
    """One pod, as its status will tell.

    Attributes:
        address: `status.podIP`; empty before it has one.
        reason: why it failed as a whole (`DeadlineExceeded`, `Evicted` ...).
    """

    started_at: datetime
    host_address: str
    address: str = ""
    phase: Phase = "Pending"
    initialized: bool = False
    reason: str = ""
    message: str = ""
    containers: list[ContainerState] = field(default_factory=list)

    @property
    def is_starting(self) -> bool:
        """Nothing has gone wrong and not all are ready: the next change is near."""
        if self.phase not in ("Pending", "Running") or self.reason:
            return False
        coming = ("ContainerCreating", "PodInitializing")
        for state in self.containers:
            broken = state.last is not None or (state.terminated is not None and not state.done)
            if broken or (state.waiting is not None and state.waiting[0] not in coming):
                return False
            if state.waiting is not None and state.waiting[1]:
                return False
        return any(not state.ready for state in self.of_role("main", "sidecar"))

    def of_role(self, *roles: Role) -> list[ContainerState]:
        return [state for state in self.containers if state.role in roles]


def terminated(
    code: int,
    reason: str,
    *,
    started: float | None = None,
    finished: float | None = None,
    signal: int = 0,
    message: str = "",
    id: str = "",
) -> Object:
    """A `ContainerStateTerminated`."""
    result: Object = {"exitCode": code, "reason": reason}
    if signal:
        result["signal"] = signal
    if message:
        result["message"] = message
    if started is not None:
        result["startedAt"] = format_time(datetime.fromtimestamp(started, UTC))
    if finished is not None:
        result["finishedAt"] = format_time(datetime.fromtimestamp(finished, UTC))
    if id:
        result["containerID"] = id
    return result


def container_id(uid: str, name: str, attempt: int) -> str:
    return f"kedge://{uid}/{name}/{attempt}"


def make_status(
    pod: Object, facts: PodFacts, now: datetime, published: Object | None = None
) -> Object:
    """The whole status; conditions of other writers are kept from `pod`.

    Args:
        published: what we wrote last, of which `pod` may not tell yet.
    """
    uid = pod["metadata"].get("uid", "")
    status: Object = {
        "phase": facts.phase,
        "hostIP": facts.host_address,
        "startTime": format_time(facts.started_at),
        # Where the API server has worked it out, it may not be changed.
        "qosClass": (pod.get("status") or {}).get("qosClass") or qos_class(pod["spec"]),
        # A merge patch removes what is null.
        "reason": facts.reason or None,
        "message": facts.message or None,
        "conditions": _conditions(pod, facts, now, published or {}),
        "containerStatuses": [_container(s, uid) for s in facts.of_role("main")],
    }
    if facts.address:
        status["podIP"] = facts.address
        status["podIPs"] = [{"ip": facts.address}]
    if early := facts.of_role("init", "sidecar"):
        status["initContainerStatuses"] = [_container(s, uid) for s in early]
    return status


def unready_status(pod: Object, now: datetime) -> Object | None:
    """The change of status of a pod whose node leaves; None where it is not ready anyway."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    why = ("NodeNotReady", "the node agent has ended, and its pods with it")
    told = [
        _condition(one["type"], False, why, one, now)
        if one["type"] in ("Ready", "ContainersReady") and one["status"] == "True"
        else one
        for one in conditions
    ]
    return {"conditions": told} if told != conditions else None


def _container(state: ContainerState, uid: str) -> Object:
    ran = state.running_since is not None or state.terminated is not None
    result: Object = {
        "name": state.name,
        "image": state.spec.get("image", ""),
        "imageID": state.spec.get("image", "") if ran or state.last else "",
        "restartCount": state.restarts,
        "ready": state.done if state.role == "init" else state.ready,
        "started": state.started,
        "state": _state(state),
        "lastState": {"terminated": state.last} if state.last is not None else {},
    }
    if ran:
        result["containerID"] = container_id(uid, state.name, state.restarts)
    return result


def _state(state: ContainerState) -> Object:
    if state.running_since is not None:
        return {"running": {"startedAt": format_time(state.running_since)}}
    if state.terminated is not None:
        return {"terminated": state.terminated}
    reason, message = state.waiting or ("ContainerCreating", "")
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def _conditions(pod: Object, facts: PodFacts, now: datetime, published: Object) -> list[Object]:
    unready = [s.name for s in facts.of_role("main", "sidecar") if not s.ready]
    ended = facts.phase in ("Succeeded", "Failed")
    before = {c["type"]: c for c in (pod.get("status") or {}).get("conditions") or []}
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or []]
    closed = [gate for gate in gates if before.get(gate, {}).get("status") != "True"]

    why = ("PodCompleted", "") if facts.phase == "Succeeded" else (
        ("PodFailed", facts.message) if facts.phase == "Failed" else
        ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    )  # fmt: skip
    gated = ("ReadinessGatesNotReady", f"conditions not True: {', '.join(closed)}")
    containers_ready = not unready and not ended
    ready = containers_ready and not closed
    undone = [s.name for s in facts.of_role("init") if not s.done]
    not_initialized = (
        "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(undone)}]"
    )  # fmt: skip
    wanted = {
        "PodScheduled": (True, ("", "")),
        "Initialized": (facts.initialized, not_initialized),
        "ContainersReady": (containers_ready, why),
        "Ready": (ready, why if not containers_ready else gated),
    }
    for condition in published.get("conditions") or []:
        if condition["type"] in wanted or condition["type"] == CONDITION:
            before[condition["type"]] = condition
    ours = [_condition(type, good, why, before.get(type), now)
            for type, (good, why) in wanted.items()]  # fmt: skip
    others = [c for type, c in before.items() if type not in wanted and type != CONDITION]
    return others + ours + _start_condition(facts, before.get(CONDITION), now)


def _start_condition(facts: PodFacts, before: Object | None, now: datetime) -> list[Object]:
    """The slowest container's start, told once, together with Ready."""
    starts = [state.start for state in facts.of_role("main") if state.start is not None]
    if not starts or before is not None:
        return [before] if before is not None else []
    slowest = max(starts, key=lambda start: start.seconds)
    reason = "Forked" if slowest.warm else "Executed"
    condition = _condition(CONDITION, True, ("", ""), None, now)
    return [{**condition, "reason": reason, "message": slowest.message}]


def _condition(
    type: str, good: bool, why: tuple[str, str], before: Object | None, now: datetime
) -> Object:
    result: Object = {"type": type, "status": "True" if good else "False"}
    if not good:
        result |= {
            name: text for name, text in zip(("reason", "message"), why, strict=True) if text
        }
    same = before is not None and before.get("status") == result["status"]
    moment = (before or {}).get("lastTransitionTime") if same else None
    result["lastTransitionTime"] = moment or format_time(now)
    return result


def qos_class(spec: Object) -> str:
    """Guaranteed, Burstable or BestEffort, by requests and limits."""
    guaranteed, any_given = True, False
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        resources = container.get("resources") or {}
        limits = resources.get("limits") or {}
        requests = {**limits, **(resources.get("requests") or {})}
        for name in ("cpu", "memory"):
            any_given = any_given or name in requests
            guaranteed = guaranteed and name in limits and requests[name] == limits[name]
    if not any_given:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def restored(state: ContainerState, statuses: Sequence[Object]) -> ContainerState:
    """Take over what a former agent wrote about a container."""
    found = next((s for s in statuses if s["name"] == state.name), None)
    if found is None:
        return state
    state.restarts = int(found.get("restartCount") or 0)
    state.last = (found.get("lastState") or {}).get("terminated")
    now: dict[str, Any] = found.get("state") or {}
    if ended := now.get("terminated"):
        state.mark_terminated(ended)
    elif running := now.get("running"):
        state.mark_running(_parse_time(running.get("startedAt")))
        state.started, state.ready = bool(found.get("started")), bool(found.get("ready"))
    elif waiting := now.get("waiting"):
        state.waiting = (waiting.get("reason", ""), waiting.get("message", ""))
    return state


def _parse_time(text: str | None) -> datetime:
    return datetime.fromisoformat(text) if text else datetime.now(UTC)
