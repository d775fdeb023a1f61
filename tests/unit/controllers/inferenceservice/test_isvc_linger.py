"""Pods that are to end serve on until every gateway has heard of it."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.controllers.inferenceservice.pod import linger
from kedge.modes.kubernetes import knows_sleep


def pod(**fields: Any) -> dict[str, Any]:
    return {"containers": [{"name": "kserve-container"}, {"name": "beside"}], **fields}


def test_every_container_sleeps_and_then_has_time_for_its_requests() -> None:
    made = pod()
    linger(made, 5, None)
    assert [one["lifecycle"] for one in made["containers"]] == [
        {"preStop": {"sleep": {"seconds": 5}}}
    ] * 2
    assert made["terminationGracePeriodSeconds"] == 65


def test_the_time_is_that_of_a_request() -> None:
    made = pod()
    linger(made, 5, 600)
    assert made["terminationGracePeriodSeconds"] == 605


def test_what_somebody_gave_is_kept() -> None:
    own = {"preStop": {"exec": {"command": ["bye"]}}, "postStart": {"exec": {"command": ["hi"]}}}
    made: dict[str, Any] = {
        "containers": [{"name": "a", "lifecycle": own}],
        "terminationGracePeriodSeconds": 7,
    }
    linger(made, 5, None)
    assert made["containers"][0]["lifecycle"] == own
    assert made["terminationGracePeriodSeconds"] == 7


@pytest.mark.parametrize(("period", "sleeps"), [(30, 5), (4, 3), (1, None), (0, None)])
def test_a_short_period_leaves_less_time_to_sleep(period: int, sleeps: int | None) -> None:
    made = pod(terminationGracePeriodSeconds=period)
    linger(made, 5, None)
    hooks = made["containers"][0].get("lifecycle")
    assert hooks == (None if sleeps is None else {"preStop": {"sleep": {"seconds": sleeps}}})


def test_on_one_machine_nothing_is_written() -> None:
    made = pod()
    linger(made, 0, None)
    assert made == pod()


@pytest.mark.parametrize(
    ("version", "sleeps"),
    [
        ("v1.36.2", True),
        ("v1.30.0-eks-1", True),
        ("v1.29.14", False),
        ("v0.0.0-master+abc", True),
        ("", True),
    ],
)
def test_old_clusters_know_no_sleep(version: str, sleeps: bool) -> None:
    assert knows_sleep(version) is sleeps
