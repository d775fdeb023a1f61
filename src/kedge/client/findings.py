"""How a pod and its containers are, and what their state means for a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kedge.client.waiting import Object, condition, without_fix

STARTED = "serving.kedge.dev/Started"
"""The pod condition that tells what its start was made of."""
_HOW = {"Forked": "forked from a template", "Executed": "started by exec"}

Logs = Mapping[tuple[str, str], list[str]]
"""Last log lines by (pod, container)."""


class State(StrEnum):
    """How a link of the chain is."""

    OK = "ok"
    WAITING = "waiting"
    FAILED = "failed"


@dataclass
class Finding:
    """One link: an object or a part of one.

    Attributes:
        what: kind and name.
        state: how it is.
        told: one line in its own words; empty when there is nothing to say.
        lines: evidence, such as the last log lines.
        fix: one sentence that tells how to mend it.
        below: what it is made of.
    """

    what: str
    state: State
    told: str = ""
    lines: list[str] = field(default_factory=list)
    fix: str = ""
    below: list[Finding] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Without what is empty."""
        found: dict[str, Any] = {"what": self.what, "state": str(self.state)}
        found |= {"told": self.told} if self.told else {}
        found |= {"lines": self.lines} if self.lines else {}
        found |= {"fix": self.fix} if self.fix else {}
        found |= {"below": [one.to_json() for one in self.below]} if self.below else {}
        return found


def of_pod(pod: Object, logs: Logs) -> Finding:
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    containers = [_of_container(pod, entry, logs) for entry in containers_of(pod)]
    worst = max((c.state for c in containers), key=_SEVERITY.index, default=State.WAITING)
    phase = str(status.get("phase") or "Pending")
    told = ": ".join(part for part in (status.get("reason"), status.get("message")) if part)
    scheduled = condition(pod, "PodScheduled")
    if pod["metadata"].get("deletionTimestamp"):
        told, worst = "ending", State.WAITING
    elif scheduled.get("status") == "False":
        told, worst = f"{scheduled.get('reason')}: {scheduled.get('message')}", State.FAILED
    elif status.get("reason"):
        worst = State.FAILED
    started = condition(pod, STARTED)
    if worst is State.OK and not told and started:
        told = f"{phase}; {_HOW.get(str(started.get('reason')), 'started')}: {started['message']}"
    return Finding(f"Pod {name}", worst, told or phase, below=containers)


def _of_container(pod: Object, status: Object, logs: Logs) -> Finding:
    state, told, reason = judge(status, pod)
    finding = Finding(f"container {status['name']}", state, without_fix(told))
    if state is not State.OK:
        finding.lines = logs.get((pod["metadata"]["name"], status["name"]), [])
    if state is State.FAILED:
        finding.fix = fix_in(told) or fix_in("\n".join(finding.lines)) or _FIXES.get(reason, "")
    for line in finding.lines:  # a container's last message is often the last line of its log
        finding.told = finding.told.removesuffix(f": {without_fix(line)}")
    return finding


_SEVERITY = (State.OK, State.WAITING, State.FAILED)
_BEGINNING = frozenset({"", "ContainerCreating", "PodInitializing"})


def containers_of(pod: Object) -> list[Object]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def judge(status: Object, pod: Object) -> tuple[State, str, str]:
    """(state, what to say, the reason) of a container status."""
    state = status.get("state") or {}
    last = (status.get("lastState") or {}).get("terminated")
    is_init = status in ((pod.get("status") or {}).get("initContainerStatuses") or [])
    restarts = int(status.get("restartCount") or 0)
    again = f", restarted {restarts} time{'s' if restarts > 1 else ''}" if restarts else ""
    if ended := state.get("terminated"):
        if is_init and int(ended.get("exitCode") or 0) == 0:
            return State.OK, "done", ""
        return State.FAILED, _ending(ended) + again, str(ended.get("reason") or "")
    if waiting := state.get("waiting"):
        reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
        if reason in _BEGINNING:
            return State.WAITING, message or "not started yet", reason
        if last:
            ending = f"{reason}{again}; its last run: {_ending(last)}"
            return State.FAILED, ending, str(last.get("reason") or reason)
        return State.FAILED, f"{reason}: {message}" if message else reason, reason
    if "running" not in state:
        return State.WAITING, "not started yet", ""
    if status.get("ready") and not is_init:
        return State.OK, "running" + again, ""
    if is_init and not last:
        return State.WAITING, "running" + again, ""
    if last:
        return State.FAILED, f"running again{again}; its last run: {_ending(last)}", ""
    return State.WAITING, "running, its readiness probe has not succeeded yet", "NotReady"


def _ending(terminated: Object) -> str:
    code, signal = terminated.get("exitCode"), terminated.get("signal")
    how = f"signal {signal}" if signal else f"exit code {code}"
    reason, message = terminated.get("reason"), str(terminated.get("message") or "").strip()
    named = f"{reason}, {how}" if reason and reason != "Error" else how
    return f"{named}: {message}" if message else named


_FIXES = {
    "OOMKilled": "Raise the component's `resources.limits.memory`, or use a smaller model.",
    "CrashLoopBackOff": "Mend what its last log lines say.",
    "ErrImagePull": "Correct the image's name, or map it in images.yaml of the data directory.",
    "ImagePullBackOff": "Correct the image's name, or map it in images.yaml of the data directory.",
    "CreateContainerConfigError": "Create the Secret or ConfigMap that it names.",
    "PortInUse": "Choose another port for the container, or end what holds that one.",
}


def fix_in(text: str) -> str:
    """What follows `Fix:` in a message, up to the end of its line."""
    _, marker, after = text.partition("Fix: ")
    return after.splitlines()[0].strip() if marker and after else ""
