"""What the node agent says when it fails itself, by an error of its own and not of a pod."""

from __future__ import annotations

from kedge.lib.backoff import Backoff

REASON = "NodeAgentError"
"""Of the container, the pod and the event that tell it."""
RETRY = Backoff(initial=0.5, limit=5.0)
FORGET = 60.0
"""Seconds after which a failure is none of a row."""
ATTEMPTS = 4
"""So often in a row watching a container may fail before the container is started anew."""


def describe(doing: str, error: Exception) -> str:
    """For people: what failed, and what they can do; `doing` as in "while {doing}"."""
    return (
        f"the node agent failed while {doing}: {type(error).__name__}: {error}."
        " Fix: report this error of Kedge's, with the lines about it in the node agent's log"
        " (data.log); until it is mended, kubectl delete pod may make a pod that does not meet it."
    )
