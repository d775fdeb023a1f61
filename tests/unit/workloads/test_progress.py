"""Conditions of a Deployment, as `kubectl rollout status` and people's scripts read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kedge.cluster.base import Object
from kedge.cluster.local.workloads.deployments import progress

START = datetime(2026, 1, 1, tzinfo=UTC)


def replica_set(size: int, available: int, **status: Any) -> Object:
    counts = {"replicas": size, "readyReplicas": available, "availableReplicas": available}
    return {
        "metadata": {"name": "d-1"},
        "spec": {"replicas": size},
        "status": {**counts, **status},
    }


def deployment(replicas: int = 4, *, deadline: int | None = 60, **status: Any) -> Object:
    return {
        "metadata": {"name": "d", "generation": 2},
        "spec": {"replicas": replicas, "progressDeadlineSeconds": deadline},
        "status": status,
    }


def judged(owner: Object, new: Object, *old: Object, seconds: float = 0) -> dict[str, Any]:
    now = START + timedelta(seconds=seconds)
    every = [*old, new]
    return progress.judge(owner, progress.count(owner, new, every, now), new, every, now)


def said(status: dict[str, Any], type: str) -> tuple[str, str, str] | None:
    for one in status["conditions"]:
        if one["type"] == type:
            return one["status"], one["reason"], one["message"]
    return None


def test_counts_leave_out_zeros() -> None:
    status = progress.count(deployment(), replica_set(2, 0), [replica_set(2, 0)], START)
    del status["conditions"]
    assert status == {
        "observedGeneration": 2,
        "replicas": 2,
        "updatedReplicas": 2,
        "unavailableReplicas": 2,
    }


@pytest.mark.parametrize(("available", "status"), [(2, "False"), (3, "True"), (4, "True")])
def test_available_means_no_more_missing_than_allowed(available: int, status: str) -> None:
    condition = said(judged(deployment(), replica_set(4, available)), "Available")
    assert condition is not None
    assert condition[0] == status
    assert condition[2] == (
        "Deployment has minimum availability."
        if status == "True"
        else "Deployment does not have minimum availability."
    )


def test_a_rollout_progresses_then_completes() -> None:
    status = judged(deployment(), replica_set(4, 1))
    assert said(status, "Progressing") == (
        "True", "ReplicaSetUpdated", 'ReplicaSet "d-1" is progressing.'
    )  # fmt: skip
    status = judged(deployment(**status), replica_set(4, 4), seconds=5)
    assert said(status, "Progressing") == (
        "True", "NewReplicaSetAvailable", 'ReplicaSet "d-1" has successfully progressed.'
    )  # fmt: skip
    condition = next(one for one in status["conditions"] if one["type"] == "Progressing")
    assert condition["lastUpdateTime"] == "2026-01-01T00:00:05Z"
    assert condition["lastTransitionTime"] == "2026-01-01T00:00:00Z"


def test_a_rollout_without_progress_times_out_and_recovers() -> None:
    status = judged(deployment(), replica_set(4, 1))
    still = judged(deployment(**status), replica_set(4, 1), seconds=59)
    assert still == status
    assert progress.seconds_until_stuck(deployment(), still["conditions"], START) == 60
    status = judged(deployment(**still), replica_set(4, 1), seconds=61)
    assert said(status, "Progressing") == (
        "False", "ProgressDeadlineExceeded", 'ReplicaSet "d-1" has timed out progressing.'
    )  # fmt: skip
    status = judged(deployment(**status), replica_set(4, 2), seconds=70)
    assert said(status, "Progressing") == (
        "True", "ReplicaSetUpdated", 'ReplicaSet "d-1" is progressing.'
    )  # fmt: skip


def test_a_finished_rollout_never_times_out() -> None:
    status = judged(deployment(), replica_set(4, 4))
    later = judged(deployment(**status), replica_set(4, 1), seconds=1000)
    assert said(later, "Progressing") == said(status, "Progressing")
    assert progress.seconds_until_stuck(deployment(), later["conditions"], START) is None


def test_without_a_deadline_nothing_is_said_of_progress() -> None:
    assert said(judged(deployment(deadline=None), replica_set(4, 1)), "Progressing") is None
    assert said(judged(deployment(deadline=2**31 - 1), replica_set(4, 1)), "Progressing") is None


def test_a_failure_to_make_pods_is_passed_on_and_taken_back() -> None:
    failure = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": "no",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = judged(deployment(), replica_set(4, 0, conditions=[failure]))
    assert said(status, "ReplicaFailure") == ("True", "FailedCreate", "no")
    status = judged(deployment(**status), replica_set(4, 0))
    assert said(status, "ReplicaFailure") is None
