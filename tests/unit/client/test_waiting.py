"""When a service is Ready, and when waiting is of no use."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.client.waiting import Outlook, Progress, look


def service(conditions: dict[str, str], *, observed: int = 1, **model: Any) -> Any:
    return {
        "metadata": {"name": "iris", "generation": 1},
        "status": {
            "observedGeneration": observed,
            "conditions": [{"type": key, "status": value} for key, value in conditions.items()],
            "modelStatus": model,
        },
    }


@pytest.mark.parametrize(
    ("obj", "outlook", "text"),
    [
        ({"metadata": {"generation": 1}}, Outlook.COMING, "waiting for the controller"),
        (service({"Ready": "True"}, observed=0), Outlook.COMING, "waiting for the controller"),
        (service({"Ready": "True"}), Outlook.READY, "Ready"),
        (
            service({"Ready": "False"}, transitionStatus="BlockedByFailedLoad"),
            Outlook.FAILED,
            "model pending",
        ),
        (
            service({"Ready": "False"}, transitionStatus="InvalidSpec"),
            Outlook.FAILED,
            "model pending",
        ),
        (
            service({"Ready": "Unknown"}, transitionStatus="BlockedByFailedLoad"),
            Outlook.COMING,
            "model pending",
        ),
        (
            service(
                {"Ready": "Unknown", "PredictorReady": "True", "IngressReady": "Unknown"},
                states={"targetModelState": "Loaded"},
            ),
            Outlook.COMING,
            "model loaded, waiting for IngressReady",
        ),
        (
            service({"Ready": "False", "Stopped": "True"}),
            Outlook.STOPPED,
            "stopped by the annotation serving.kserve.io/stop",
        ),
    ],
)
def test_outlook(obj: Any, outlook: Outlook, text: str) -> None:
    assert look(obj) == Progress(outlook, text)


def test_the_brief_form_is_one_line() -> None:
    assert Progress(Outlook.COMING, "NotReady: it runs; last lines: a\nb Fix: c").brief == (
        "NotReady: it runs"
    )
    assert Progress(Outlook.FAILED, "x" * 300).brief == "x" * 150 + "..."


@pytest.mark.parametrize(
    ("reason", "message", "outlook"),
    [
        ("ContainerExited", "exit code 1. Fix: Mend it.", Outlook.FAILED),
        ("NotReady", "not ready yet. Fix: Wait.", Outlook.COMING),
        ("Deploying", "0 of 1 pods", Outlook.COMING),
    ],
)
def test_a_failed_transformer_is_not_waited_for(
    reason: str, message: str, outlook: Outlook
) -> None:
    obj = service({"Ready": "False", "TransformerReady": "False"})
    for entry in obj["status"]["conditions"]:
        if entry["type"] == "TransformerReady":
            entry |= {"reason": reason, "message": message}
    assert look(obj).outlook is outlook
