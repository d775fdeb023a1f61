"""A Deployment's status: counts, conditions, and whether the rollout goes on or is stuck."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from kedge.cluster.base import Object
from kedge.cluster.local.workloads.deployments.rolling import (
    bounds_of,
    counted,
    total_counted,
    total_size,
    wanted,
)
from kedge.cluster.local.workloads.pods import parse_time
from kedge.cluster.local.workloads.status import Condition, find_condition, without_condition
from kedge.lib.clock import format_time

AVAILABLE = "Available"
PROGRESSING = "Progressing"
REPLICA_FAILURE = "ReplicaFailure"

NEW_SET_AVAILABLE = "NewReplicaSetAvailable"
TIMED_OUT = "ProgressDeadlineExceeded"
PAUSED = "DeploymentPaused"
RESUMED = "DeploymentResumed"
_NO_DEADLINE = 2**31 - 1


def deadline_of(deployment: Object) -> int | None:
    """Seconds without progress after which a rollout counts as failed."""
    seconds = deployment["spec"].get("progressDeadlineSeconds", 600)
    return None if seconds is None or seconds >= _NO_DEADLINE else int(seconds)


def make_condition(type: str, status: str, reason: str, message: str, now: datetime) -> Condition:
    return {
        "type": type,
        "status": status,
        "lastUpdateTime": format_time(now),
        "lastTransitionTime": format_time(now),
        "reason": reason,
        "message": message,
    }


def with_condition(conditions: list[Condition], condition: Condition) -> list[Condition]:
    """The conditions with one more said; saying the same again changes nothing."""
    before = find_condition(conditions, condition["type"])
    if before is not None:
        if (before["status"], before["reason"]) == (condition["status"], condition["reason"]):
            return conditions
        if before["status"] == condition["status"]:
            condition = {**condition, "lastTransitionTime": before["lastTransitionTime"]}
    return [*without_condition(conditions, condition["type"]), condition]


def count(
    deployment: Object, new: Object | None, every: list[Object], now: datetime
) -> dict[str, Any]:
    """The status without the progress of the rollout."""
    old_status = deployment.get("status") or {}
    available = total_counted(every, "availableReplicas")
    counts = {
        "replicas": total_counted(every, "replicas"),
        "updatedReplicas": counted(new, "replicas"),
        "readyReplicas": total_counted(every, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, total_size(every) - available),
        "collisionCount": old_status.get("collisionCount", 0),
    }
    if available >= wanted(deployment) - bounds_of(deployment).unavailable:
        availability = make_condition(
            AVAILABLE, "True", "MinimumReplicasAvailable",
            "Deployment has minimum availability.", now,
        )  # fmt: skip
    else:
        availability = make_condition(
            AVAILABLE, "False", "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.", now,
        )  # fmt: skip
    return {
        "observedGeneration": deployment["metadata"].get("generation", 0),
        **{name: number for name, number in counts.items() if number},
        "conditions": with_condition(old_status.get("conditions") or [], availability),
    }


def judge(
    deployment: Object,
    status: dict[str, Any],
    new: Object | None,
    every: list[Object],
    now: datetime,
) -> dict[str, Any]:
    """The status with what is to be said about the rollout's progress."""
    conditions: list[Condition] = status["conditions"]
    if deadline_of(deployment) is None:
        conditions = without_condition(conditions, PROGRESSING)
    elif not _was_complete(status, conditions):
        conditions = _judge_progress(deployment, status, conditions, new, now)
    failure = _failure(new, every)
    if failure is not None:
        conditions = with_condition(conditions, failure)
    else:
        conditions = without_condition(conditions, REPLICA_FAILURE)
    return {**status, "conditions": conditions}


def _was_complete(status: dict[str, Any], conditions: list[Condition]) -> bool:
    progress = find_condition(conditions, PROGRESSING)
    complete = status.get("replicas", 0) == status.get("updatedReplicas", 0)
    return complete and progress is not None and progress["reason"] == NEW_SET_AVAILABLE


def _judge_progress(
    deployment: Object,
    status: dict[str, Any],
    conditions: list[Condition],
    new: Object | None,
    now: datetime,
) -> list[Condition]:
    what = (
        f'ReplicaSet "{new["metadata"]["name"]}"'
        if new
        else (f'Deployment "{deployment["metadata"]["name"]}"')
    )
    before = find_condition(conditions, PROGRESSING)
    if is_complete(deployment, status):
        said = f"{what} has successfully progressed."
        done = make_condition(PROGRESSING, "True", NEW_SET_AVAILABLE, said, now)
        return with_condition(conditions, done)
    if _has_moved(deployment.get("status") or {}, status):
        said = f"{what} is progressing."
        moving = make_condition(PROGRESSING, "True", "ReplicaSetUpdated", said, now)
        if before is not None and before["status"] == "True":
            moving["lastTransitionTime"] = before["lastTransitionTime"]
        # Said anew even if it was said before: the deadline counts from here.
        return [*without_condition(conditions, PROGRESSING), moving]
    if is_stuck(deployment, conditions, now):
        said = f"{what} has timed out progressing."
        stuck = make_condition(PROGRESSING, "False", TIMED_OUT, said, now)
        return with_condition(conditions, stuck)
    return conditions


def is_complete(deployment: Object, status: dict[str, Any]) -> bool:
    replicas = wanted(deployment)
    counts = [
        status.get(field, 0) for field in ("replicas", "updatedReplicas", "availableReplicas")
    ]
    observed = status.get("observedGeneration", 0)
    return counts == [replicas] * 3 and observed >= deployment["metadata"].get("generation", 0)


def _has_moved(old: dict[str, Any], new: dict[str, Any]) -> bool:
    def left(status: dict[str, Any]) -> int:
        return int(status.get("replicas", 0) - status.get("updatedReplicas", 0))

    more = any(
        new.get(field, 0) > old.get(field, 0)
        for field in ("updatedReplicas", "readyReplicas", "availableReplicas")
    )
    return more or left(new) < left(old)


def is_stuck(deployment: Object, conditions: list[Condition], now: datetime) -> bool:
    wait = seconds_until_stuck(deployment, conditions, now)
    return wait is not None and wait < 0


def seconds_until_stuck(
    deployment: Object, conditions: list[Condition], now: datetime
) -> float | None:
    """Seconds left of the progress deadline; None when it does not count, or no more."""
    deadline, progress = deadline_of(deployment), find_condition(conditions, PROGRESSING)
    if deadline is None or progress is None or progress["reason"] in (NEW_SET_AVAILABLE, PAUSED):
        return None
    if progress["reason"] == TIMED_OUT:
        return -1.0
    since = parse_time(progress.get("lastUpdateTime"))
    if since is None:
        return None
    return (since + timedelta(seconds=deadline) - now).total_seconds()


def _failure(new: Object | None, every: list[Object]) -> Condition | None:
    """Why pods cannot be made; the new ReplicaSet's reason counts before the others'."""
    for replica_set in [*([new] if new else []), *every]:
        conditions = (replica_set.get("status") or {}).get("conditions") or ()
        found = find_condition(conditions, REPLICA_FAILURE)
        if found is not None:
            return {
                **found,
                "lastUpdateTime": found["lastTransitionTime"],
            }
    return None
