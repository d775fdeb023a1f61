"""From what pods use to how many there should be. Pure.

A pod without figures, or not ready, is assumed to change nothing: to use nothing when the others
ask for more pods, all it asked for when they ask for fewer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from kedge.cluster.base import Object
from kedge.cluster.local.workloads.autoscaling.usage import Usage
from kedge.cluster.local.workloads.pods import is_active, is_ready
from kedge.cluster.local.workloads.scheduler.resources import requests_of
from kedge.lib.errors import KedgeError
from kedge.lib.quantity import parse_quantity

_TOLERANCE = Decimal("0.1")


class MetricError(KedgeError):
    """A metric from which nothing can be concluded now."""

    reason = "FailedGetResourceMetric"


@dataclass(frozen=True)
class Reading:
    """What one metric says.

    Attributes:
        replicas: how many pods it asks for.
        status: its entry in `status.currentMetrics`.
    """

    replicas: int
    status: dict[str, Any] = field(default_factory=dict)


def read_metric(
    metric: Mapping[str, Any], current: int, pods: list[Object], usages: Mapping[str, Usage]
) -> Reading:
    """Judge one metric of an autoscaler for `current` pods.

    Raises:
        MetricError: it is of a type that is not served, or figures or requests are missing.
    """
    if metric.get("type") != "Resource":
        raise MetricError(
            f"metrics of type {metric.get('type')} are not served on the local cluster.",
            fix="Use a metric of type Resource with cpu or memory.",
        )
    resource = metric["resource"]["name"]
    target = metric["resource"]["target"]
    if resource not in ("cpu", "memory"):
        raise MetricError(
            f"unable to get metrics for resource {resource}: it is not measured.",
            fix="Use cpu or memory.",
        )
    active = [pod for pod in pods if is_active(pod)]
    known = {
        pod["metadata"]["uid"]: usages[pod["metadata"]["uid"]][resource]
        for pod in active
        if is_ready(pod) and pod["metadata"]["uid"] in usages
    }
    if not known:
        raise MetricError(
            f"unable to get metrics for resource {resource}: no metrics known for any ready pod."
        )
    per_pod = _goals(resource, target, active)
    used, goal = _total(known.values()), _total(per_pod[uid] for uid in known)
    average = used / len(known)
    status: dict[str, Any] = {"averageValue": _format(resource, average)}
    if target["type"] == "Utilization":
        status["averageUtilization"] = int(used * target["averageUtilization"] / goal)
    return Reading(
        _wanted(current, known, per_pod),
        {"type": "Resource", "resource": {"name": resource, "current": status}},
    )


def _wanted(current: int, known: Mapping[str, Decimal], per_pod: Mapping[str, Decimal]) -> int:
    ratio = _total(known.values()) / _total(per_pod[uid] for uid in known)
    missing = [uid for uid in per_pod if uid not in known]
    if abs(ratio - 1) <= _TOLERANCE:
        return current
    if not missing:
        return math.ceil(ratio * len(known))
    assumed = Decimal(0) if ratio > 1 else Decimal(1)
    used = _total(known.values()) + _total(assumed * per_pod[uid] for uid in missing)
    rebased = used / _total(per_pod.values())
    if abs(rebased - 1) <= _TOLERANCE or (rebased > 1) != (ratio > 1):
        return current
    return math.ceil(rebased * len(per_pod))


def _goals(resource: str, target: Mapping[str, Any], pods: list[Object]) -> dict[str, Decimal]:
    """What each pod should use."""
    if target["type"] == "AverageValue":
        value = parse_quantity(target["averageValue"])
        return {pod["metadata"]["uid"]: value for pod in pods}
    if target["type"] != "Utilization":
        raise MetricError(
            f"a target of type {target['type']} does not suit a resource.",
            fix="Use Utilization or AverageValue.",
        )
    goals = {}
    for pod in pods:
        asked = requests_of(pod).get(resource)
        if not asked:
            raise MetricError(
                f"failed to get {resource} utilization: missing request for {resource} in Pod"
                f" {pod['metadata']['name']}.",
                fix=f"Set resources.requests.{resource}, or use a target of type AverageValue.",
            )
        goals[pod["metadata"]["uid"]] = asked * target["averageUtilization"] / 100
    return goals


def _total(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0))


def _format(resource: str, amount: Decimal) -> str:
    return f"{int(amount * 1000)}m" if resource == "cpu" else str(int(amount))
