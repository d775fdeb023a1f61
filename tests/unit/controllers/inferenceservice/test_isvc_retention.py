"""Which idle revisions are collected: the rules of Knative."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kedge.controllers.inferenceservice.retention import Idle, superfluous
from kedge.settings.revisions import RevisionConfig

NOW = datetime(2026, 1, 10, tzinfo=UTC)


def idle(*ages: tuple[float, float]) -> list[Idle]:
    """Revisions by the hours since they were made and since they were last active."""
    return [
        Idle(str(number), NOW - timedelta(hours=made), NOW - timedelta(hours=active))
        for number, (made, active) in enumerate(ages, 1)
    ]


def config(
    create: float | None = 48, active: float | None = 15, least: int = 0, most: int | None = 1000
) -> RevisionConfig:
    hours = [None if value is None else value * 3600 for value in (create, active)]
    return RevisionConfig(hours[0], hours[1], least, most)


@pytest.mark.parametrize(
    ("why", "revisions", "settings", "gone"),
    [
        ("both ages have passed", idle((50, 20)), config(), ["1"]),
        ("one has not", idle((50, 10), (40, 20)), config(), []),
        ("one does not count", idle((50, 10), (40, 20)), config(active=None), ["1"]),
        ("neither counts", idle((500, 500)), config(create=None, active=None), []),
        ("so many stay", idle((90, 30), (80, 20), (70, 25)), config(least=2), ["1"]),
        ("the longest idle goes first", idle((90, 20), (80, 60)), config(least=1), ["2"]),
        ("too many, however young", idle((3, 3), (2, 2), (1, 1)), config(most=1), ["1", "2"]),
        ("no limit", idle((3, 3), (2, 2)), config(most=None), []),
        ("none are kept", idle((1, 1)), config(most=0), ["1"]),
    ],
)
def test_superfluous(
    why: str, revisions: list[Idle], settings: RevisionConfig, gone: list[str]
) -> None:
    assert superfluous(revisions, settings, NOW) == gone
