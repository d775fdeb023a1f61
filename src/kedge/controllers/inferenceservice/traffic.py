"""Which revision gets which share of a component's requests, in Knative mode.

State is four names: the newest revision (`latest_created`), the newest that was ever ready
(`latest_ready`), the newest that had all requests (`rolled_out`) and the one before it
(`previous`). KServe's rules, with its one quirk mended: a revision that is no longer the newest
never gets more requests than it has, so neither a rolled-back revision nor a half-rolled one
inherits the share meant for its successor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

LATEST_TAG = "latest"
PREVIOUS_TAG = "prev"


@dataclass(frozen=True)
class Rollout:
    """Where a component's rollout stands; a name is empty where there is no such revision."""

    latest_created: str = ""
    latest_ready: str = ""
    rolled_out: str = ""
    previous: str = ""


@dataclass(frozen=True)
class Target:
    """The share of one revision."""

    revision: str
    percent: int
    latest: bool = False
    tag: str = ""


def plan_traffic(
    rollout: Rollout,
    percent: int | None,
    current: Mapping[str, int],
    *,
    tag_latest: bool = False,
) -> tuple[Rollout, list[Target]]:
    """The shares a component asks for, and its state if that rolls it back.

    Args:
        rollout: where it stands.
        percent: `canaryTrafficPercent`.
        current: the share that each revision has now.
        tag_latest: the latest revision has a tag too.
    """
    rollout = _roll_back(rollout, percent)
    tag = LATEST_TAG if tag_latest else ""
    latest = rollout.latest_ready or rollout.latest_created
    stable = rollout.rolled_out
    share = 100 if percent is None or stable in ("", latest) else percent
    if stable != latest:
        share = min(share, _most(rollout, current))
    targets = [Target(latest, share, latest=True, tag=tag)] if latest else []
    if latest and share < 100:
        targets.append(Target(stable, 100 - share, tag=PREVIOUS_TAG))
    return rollout, targets


def _roll_back(rollout: Rollout, percent: int | None) -> Rollout:
    """Less than all for a revision that had all: the one before it becomes the stable one."""
    promoted = rollout.latest_ready == rollout.rolled_out == rollout.latest_created
    if percent is None or percent >= 100 or not promoted or not rollout.previous:
        return rollout
    return replace(rollout, rolled_out=rollout.previous)


def _most(rollout: Rollout, current: Mapping[str, int]) -> int:
    """The most that the latest ready revision may get; no limit while it is the newest."""
    if rollout.latest_ready in ("", rollout.latest_created) or not rollout.rolled_out:
        return 100
    return current.get(rollout.latest_ready, 0)


def spread(targets: list[Target], portions: Sequence[tuple[str, int]]) -> list[Target]:
    """The share of the latest revision, spread over revisions; one that has another share gets it
    there.

    Args:
        portions: revisions and their percent, the oldest first, the latest one last.
    """
    extra = dict(portions)
    found = []
    for target in targets:
        percent = 0 if target.latest else target.percent
        found.append(replace(target, percent=percent + extra.pop(target.revision, 0)))
    found += [Target(revision, percent) for revision, percent in reversed(extra.items())]
    return found


def advance(rollout: Rollout, effective: Mapping[str, int]) -> Rollout:
    """The state after the shares have taken effect: what has all requests is rolled out."""
    ready = rollout.latest_ready
    if not ready or ready == rollout.rolled_out or effective.get(ready) != 100:
        return rollout
    return replace(rollout, previous=rollout.rolled_out, rolled_out=ready)


def shares(targets: list[Target]) -> dict[str, int]:
    """The share per revision, joined where several targets name one."""
    joined: dict[str, int] = {}
    for target in targets:
        joined[target.revision] = joined.get(target.revision, 0) + target.percent
    return joined
