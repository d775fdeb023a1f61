"""From what the agent knows to what the Pod's status tells."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kedge.cluster.local.node.status import (
    ContainerState,
    PodFacts,
    make_status,
    qos_class,
    restored,
    terminated,
    unready_status,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POD: dict[str, Any] = {"metadata": {"name": "p", "uid": "u"}, "spec": {"containers": []}}


def facts(*states: ContainerState, **more: Any) -> PodFacts:
    values = {"initialized": True, "phase": "Running", "address": "127.1.1.1", **more}
    return PodFacts(NOW, "127.0.0.1", containers=list(states), **values)


def running(name: str = "c", ready: bool = True) -> ContainerState:
    state = ContainerState({"name": name, "image": "i"})
    state.mark_running(NOW)
    state.started, state.ready = True, ready
    return state


def conditions(status: dict[str, Any]) -> dict[str, str]:
    return {condition["type"]: condition["status"] for condition in status["conditions"]}


def test_a_ready_pod() -> None:
    status = make_status(POD, facts(running()), NOW)
    assert conditions(status) == {
        "PodScheduled": "True", "Initialized": "True", "ContainersReady": "True", "Ready": "True",
    }  # fmt: skip
    assert status["podIPs"] == [{"ip": "127.1.1.1"}]
    assert status["containerStatuses"][0]["state"] == {
        "running": {"startedAt": "2026-01-01T00:00:00Z"}
    }


def test_an_unready_container_is_named() -> None:
    status = make_status(POD, facts(running("a"), running("b", ready=False)), NOW)
    ready = next(c for c in status["conditions"] if c["type"] == "Ready")
    assert ready["reason"] == "ContainersNotReady"
    assert ready["message"] == "containers with unready status: [b]"


def test_a_transition_is_timed_when_it_happens() -> None:
    later = NOW + timedelta(minutes=1)
    first = make_status(POD, facts(running(ready=False)), NOW)
    same = make_status({**POD, "status": first}, facts(running(ready=False)), later)
    assert same == first
    changed = make_status({**POD, "status": first}, facts(running()), later)
    times = {c["type"]: c["lastTransitionTime"] for c in changed["conditions"]}
    assert times["Ready"] == "2026-01-01T00:01:00Z"
    assert times["Initialized"] == "2026-01-01T00:00:00Z"
    # What was published counts before a cache that has not heard of it.
    assert make_status(POD, facts(running()), later + timedelta(minutes=1), changed) == changed


def test_others_conditions_and_readiness_gates() -> None:
    gated = {**POD, "spec": {"readinessGates": [{"conditionType": "x.dev/open"}]}}
    assert conditions(make_status(gated, facts(running()), NOW))["Ready"] == "False"
    opened = {**gated, "status": {"conditions": [{"type": "x.dev/open", "status": "True"}]}}
    assert conditions(make_status(opened, facts(running()), NOW)) == {
        "x.dev/open": "True", "PodScheduled": "True", "Initialized": "True",
        "ContainersReady": "True", "Ready": "True",
    }  # fmt: skip


def test_the_class_that_the_api_server_has_worked_out_is_kept() -> None:
    pod = {**POD, "status": {"qosClass": "Guaranteed"}}
    assert make_status(pod, facts(running()), NOW)["qosClass"] == "Guaranteed"
    assert make_status(POD, facts(running()), NOW)["qosClass"] == "BestEffort"


def test_pods_of_a_node_that_leaves_are_endpoints_no_more() -> None:
    status = make_status(POD, facts(running()), NOW)
    later = NOW + timedelta(minutes=1)
    changed = unready_status({**POD, "status": status}, later)
    assert changed is not None
    told = {c["type"]: c for c in changed["conditions"]}
    assert {type: c["status"] for type, c in told.items()} == {
        "PodScheduled": "True", "Initialized": "True", "ContainersReady": "False", "Ready": "False",
    }  # fmt: skip
    assert told["Ready"]["lastTransitionTime"] == "2026-01-01T00:01:00Z"
    assert unready_status({**POD, "status": changed}, later) is None
    assert unready_status(POD, later) is None


def test_a_restart_moves_the_last_end_aside() -> None:
    state = running()
    state.mark_terminated(terminated(1, "Error", message="why"))
    assert state.terminated is not None
    state.mark_waiting("CrashLoopBackOff", "back-off 1s")
    status = make_status(POD, facts(state), NOW)["containerStatuses"][0]
    assert status["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 1s"}}
    assert status["lastState"]["terminated"]["message"] == "why"
    assert not status["ready"]


def test_what_was_told_is_restored() -> None:
    state = running()
    state.restarts, state.last = 3, terminated(2, "Error")
    told = make_status(POD, facts(state), NOW)["containerStatuses"]
    assert restored(ContainerState(state.spec), told) == state
    ended = running()
    ended.mark_terminated(terminated(0, "Completed"))
    told = make_status(POD, facts(ended), NOW)["containerStatuses"]
    assert restored(ContainerState(state.spec), told).done
    assert restored(ContainerState({"name": "new"}), told).waiting == ("ContainerCreating", "")


@pytest.mark.parametrize(
    ("resources", "wanted"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
    ],
)
def test_quality_of_service(resources: dict[str, Any], wanted: str) -> None:
    assert qos_class({"containers": [{"name": "c", "resources": resources}]}) == wanted
