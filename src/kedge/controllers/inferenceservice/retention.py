"""Which revisions may go that no request goes to: Knative's garbage collection. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from kedge.settings.revisions import RevisionConfig


@dataclass(frozen=True)
class Idle:
    """A revision that no request goes to.

    Attributes:
        created: when it was made.
        active: when a request could last go to it.
    """

    name: str
    created: datetime
    active: datetime


def superfluous(idle: Sequence[Idle], config: RevisionConfig, now: datetime) -> list[str]:
    """The names of those that may go, the longest idle first."""
    left = sorted(idle, key=lambda revision: (revision.active, revision.created, revision.name))
    gone = []
    for revision in list(left):
        if len(left) <= config.min_non_active:
            break
        if _is_stale(revision, config, now):
            left.remove(revision)
            gone.append(revision.name)
    if config.max_non_active is not None and len(left) > config.max_non_active:
        gone += [revision.name for revision in left[: len(left) - config.max_non_active]]
    return gone


def _is_stale(revision: Idle, config: RevisionConfig, now: datetime) -> bool:
    limits = (
        (config.retain_since_create, revision.created),
        (config.retain_since_active, revision.active),
    )
    counted = [(seconds, since) for seconds, since in limits if seconds is not None]
    return bool(counted) and all(
        (now - since).total_seconds() > seconds for seconds, since in counted
    )
