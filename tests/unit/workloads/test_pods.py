"""What is read from pods, and in which order they are given up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kedge.cluster.base import Object
from kedge.cluster.labels import matches
from kedge.cluster.local.workloads.pods import (
    DELETION_COST,
    make_pod,
    rank_for_deletion,
    seconds_until_available,
)

NOW = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)


def pod(
    name: str,
    *,
    node: str = "n",
    phase: str = "Running",
    ready: str | None = "2026-01-01T12:00:00Z",
    cost: str | None = None,
    restarts: int = 0,
    created: str = "2026-01-01T10:00:00Z",
) -> Object:
    conditions: list[Any] = []
    if ready:
        conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": ready}]
    return {
        "metadata": {
            "name": name,
            "creationTimestamp": created,
            "annotations": {DELETION_COST: cost} if cost else {},
        },
        "spec": {"nodeName": node} if node else {},
        "status": {
            "phase": phase,
            "conditions": conditions,
            "containerStatuses": [{"restartCount": restarts}],
        },
    }


def test_pods_that_are_missed_least_go_first() -> None:
    in_order = [
        pod("without a node", node="", phase="Pending", ready=None),
        pod("pending", phase="Pending", ready=None),
        pod("not ready", ready=None),
        pod("cheap", cost="-5"),
        pod("ready for a short time", ready="2026-01-01T12:00:20Z"),
        pod("restarted", restarts=3),
        pod("young", created="2026-01-01T11:00:00Z"),
        pod("old"),
        pod("dear", cost="5"),
    ]
    ranked = rank_for_deletion(reversed(in_order))
    assert [one["metadata"]["name"] for one in ranked] == [
        one["metadata"]["name"] for one in in_order
    ]


def test_available_after_being_ready_for_long_enough() -> None:
    assert seconds_until_available(pod("p"), 0, NOW) == 0
    assert seconds_until_available(pod("p"), 30, NOW) == 0
    assert seconds_until_available(pod("p"), 40, NOW) == 10
    assert seconds_until_available(pod("p", ready=None), 0, NOW) is None


def test_a_pod_takes_labels_and_annotations_of_its_template_but_no_name() -> None:
    template = {"metadata": {"labels": {"a": "b"}, "name": "no"}, "spec": {"x": 1}}
    made = make_pod({"metadata": {"name": "rs", "namespace": "ns"}}, template, {"uid": "u"})
    assert made["metadata"] == {
        "generateName": "rs-",
        "namespace": "ns",
        "labels": {"a": "b"},
        "ownerReferences": [{"uid": "u"}],
    }
    assert made["spec"] == {"x": 1}


def test_selectors_match_labels_and_expressions() -> None:
    def expression(operator: str, *values: str) -> dict[str, Any]:
        one = {"key": "tier", "operator": operator, "values": list(values)}
        return {"matchLabels": {"app": "x"}, "matchExpressions": [one]}

    labels = {"app": "x", "tier": "5"}
    assert matches(expression("In", "4", "5"), labels)
    assert not matches(expression("NotIn", "4", "5"), labels)
    assert matches(expression("Exists"), labels)
    assert matches(expression("DoesNotExist"), {"app": "x"})
    assert matches(expression("Gt", "4"), labels)
    assert not matches(expression("Lt", "4"), labels)
    assert not matches(expression("Gt", "4"), {"app": "x", "tier": "high"})
    assert not matches(expression("Exists"), {"tier": "5"})
    assert matches({}, {})
    assert not matches(None, labels)
