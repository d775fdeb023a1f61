"""When a service is Ready, and when waiting longer is of no use: a judgement of its status."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

Object = dict[str, Any]

HOPELESS = frozenset({"BlockedByFailedLoad", "InvalidSpec"})
"""`modelStatus.transitionStatus` of a service that needs somebody to mend it."""


class Outlook(Enum):
    """What a status promises."""

    READY = "ready"
    COMING = "coming"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Progress:
    """One look at a service that is waited for.

    Attributes:
        outlook: what its status promises.
        text: what the status says, the fix included.
    """

    outlook: Outlook
    text: str

    @property
    def brief(self) -> str:
        """One short line, for a display that changes."""
        line = without_fix(self.text).partition("; last lines:")[0].partition("\n")[0]
        return line if len(line) <= _BRIEF else f"{line[:_BRIEF]}..."


_BRIEF = 150


def condition(obj: Object, type: str = "Ready") -> dict[str, Any]:
    """The condition of that type, or an empty one."""
    for entry in (obj.get("status") or {}).get("conditions") or []:
        if entry.get("type") == type:
            found: dict[str, Any] = entry
            return found
    return {}


def is_current(obj: Object) -> bool:
    """Whether the status speaks of the spec as it is now."""
    status, metadata = obj.get("status") or {}, obj.get("metadata") or {}
    return int(status.get("observedGeneration") or 0) >= int(metadata.get("generation") or 0)


def look(obj: Object) -> Progress:
    """Where a service is on its way to Ready."""
    if not is_current(obj):
        return Progress(Outlook.COMING, "waiting for the controller")
    ready = condition(obj)
    if ready.get("status") == "True":
        return Progress(Outlook.READY, "Ready")
    if condition(obj, "Stopped").get("status") == "True":
        return Progress(Outlook.STOPPED, "stopped by the annotation serving.kserve.io/stop")
    text = _describe(obj, ready)
    model = (obj.get("status") or {}).get("modelStatus") or {}
    failed = ready.get("status") == "False" and (
        model.get("transitionStatus") in HOPELESS or _has_failed_component(obj)
    )
    return Progress(Outlook.FAILED if failed else Outlook.COMING, text)


def _has_failed_component(obj: Object) -> bool:
    """Whether a transformer or explainer, of which the model's state says nothing, has failed."""
    found = (condition(obj, type) for type in ("TransformerReady", "ExplainerReady"))
    return any(
        entry.get("status") == "False"
        and entry.get("reason") != "NotReady"
        and " Fix: " in str(entry.get("message"))
        for entry in found
    )


def _describe(obj: Object, ready: dict[str, Any]) -> str:
    reason, message = ready.get("reason") or "", ready.get("message") or ""
    if reason or message:
        return f"{reason}: {message}" if reason and message else reason or message
    states = ((obj.get("status") or {}).get("modelStatus") or {}).get("states") or {}
    target = states.get("targetModelState") or "Pending"
    waiting = [
        entry["type"]
        for entry in (obj.get("status") or {}).get("conditions") or []
        if entry.get("status") != "True" and entry["type"] in ("PredictorReady", "IngressReady")
    ]
    return f"model {target.lower()}" + (f", waiting for {', '.join(waiting)}" if waiting else "")


def without_fix(text: str) -> str:
    """A message without its fix."""
    return text.partition(" Fix: ")[0]
