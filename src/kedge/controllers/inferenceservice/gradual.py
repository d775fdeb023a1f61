"""A new revision takes over the requests bit by bit: `serving.knative.dev/rollout-duration`. Pure.

What moves is the share of "latest". A new revision begins with one percent of it, taken from the
newest one before; once the gateway has taken that in, the time that this took says how fine the
steps are, and each step moves as much from the second newest to the newest. A further revision on
the way begins with its own percent on top of those that are still there.

The state is JSON in an annotation of the component's route, so that it changes together with the
shares; a state that does not add up is forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import msgspec

_LEAST = 1


class _Stored(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    revisions: list[tuple[str, int]]
    since: datetime
    due: datetime | None = None
    step: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Progress:
    """Where a gradual rollout stands.

    Attributes:
        shares: revisions and their percent, the oldest first.
        since: when the newest one got its first percent.
        due: when the next step is; None until the first percent has been taken in.
        step: percent that a step moves; seconds: time between steps.
    """

    shares: tuple[tuple[str, int], ...]
    since: datetime
    due: datetime | None = None
    step: int = 0
    seconds: float = 0.0

    @property
    def newest(self) -> str:
        return self.shares[-1][0]

    @property
    def total(self) -> int:
        return sum(share for _, share in self.shares)


def read(text: str | None) -> Progress | None:
    """The state as stored; None where there is none that could be true."""
    if not text:
        return None
    try:
        found = msgspec.json.decode(text, type=_Stored)
    except msgspec.MsgspecError:
        return None
    shares = tuple(found.revisions)
    sound = shares and all(share > 0 for _, share in shares) and found.step >= 0
    if not sound or sum(share for _, share in shares) > 100 or found.seconds < 0:
        return None
    return Progress(shares, found.since, found.due, found.step, found.seconds)


def write(progress: Progress) -> str:
    """The state, to be stored."""
    return msgspec.json.encode(
        _Stored(
            list(progress.shares), progress.since, progress.due, progress.step, progress.seconds
        )
    ).decode()


def go_on(
    progress: Progress | None,
    latest: str,
    percent: int,
    before: Mapping[str, int],
    *,
    duration: float,
    acknowledged: bool,
    now: datetime,
) -> Progress | None:
    """Where the rollout stands now; None where `latest` has, or may have, all of its share.

    Args:
        progress: where it stood.
        latest: the revision that is to have the share of "latest".
        percent: that share.
        before: what revisions have of it now, where no rollout is under way; the oldest first.
        duration: seconds that the whole may take; 0 for no rollout.
        acknowledged: the gateway answers by the shares as they are written.
        now: the time.
    """
    if duration <= 0 or percent <= _LEAST or not latest:
        return None
    if progress is None:
        held = tuple((name, share) for name, share in before.items() if share > 0)
        if not held or held[-1][0] == latest:
            return None
        progress = Progress(held, now)
    progress = _resize(progress, percent)
    if progress.newest != latest:
        progress = _stack(progress, latest, now)
    elif acknowledged and progress.due is None:
        progress = _pace(progress, duration, now)
    elif acknowledged and progress.due is not None and now >= progress.due:
        progress = _advance(progress, now)
    return None if len(progress.shares) == 1 else progress


def _resize(progress: Progress, percent: int) -> Progress:
    """More goes to the newest; less is taken from the oldest first."""
    shares = list(progress.shares)
    more = percent - progress.total
    if more >= 0:
        name, share = shares[-1]
        shares[-1] = (name, share + more)
        return replace(progress, shares=tuple(shares))
    less = -more
    while less:
        name, share = shares[0]
        taken = min(share, less)
        less -= taken
        shares[0] = (name, share - taken)
        if shares[0][1] == 0:
            del shares[0]
    return replace(progress, shares=tuple(shares))


def _stack(progress: Progress, latest: str, now: datetime) -> Progress:
    """A further revision, with its first percent from the newest of those before."""
    shares = [(name, share) for name, share in progress.shares if name != latest]
    rest = progress.total - sum(share for _, share in shares)
    if not shares:
        return replace(progress, shares=((latest, rest),))
    if rest > 0:
        return Progress((*shares, (latest, rest)), now)
    name, share = shares[-1]
    if share > _LEAST:
        shares[-1] = (name, share - _LEAST)
    else:
        del shares[-1]
    return Progress((*shares, (latest, _LEAST)), now)


def _pace(progress: Progress, duration: float, now: datetime) -> Progress:
    """How large the steps are, and how far apart."""
    least = max(1, math.ceil((now - progress.since).total_seconds()))
    left = max(1.0, duration - least)
    ahead = progress.total - progress.shares[-1][1]
    steps = max(1, min(int(left // least), ahead))
    seconds = left / steps
    return replace(
        progress,
        due=now + timedelta(seconds=seconds),
        step=max(1, round(ahead / steps)),
        seconds=seconds,
    )


def _advance(progress: Progress, now: datetime) -> Progress:
    """One step; where time has passed unseen, one for each that was due."""
    assert progress.due is not None
    late = (now - progress.due).total_seconds()
    steps = 1 + int(late // progress.seconds) if progress.seconds > 0 else 1
    shares = list(progress.shares)
    left = progress.step * steps
    while left and len(shares) > 1:
        name, share = shares[-2]
        moved = min(share, left)
        left -= moved
        newest, has = shares[-1]
        shares[-1] = (newest, has + moved)
        if share == moved:
            del shares[-2]
        else:
            shares[-2] = (name, share - moved)
    return replace(
        progress,
        shares=tuple(shares),
        due=progress.due + timedelta(seconds=steps * progress.seconds),
    )
