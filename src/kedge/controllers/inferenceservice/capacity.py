"""How many pods must be ready before requests move: as many as carry their share now. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Sized:
    """What a revision was given when requests moved to it last.

    Attributes:
        whole: the pods that carried everything then.
        pods: those that it was given for its share.
    """

    whole: int
    pods: int


def pods_for_everything(
    weights: Mapping[str, int], pods: Mapping[str, int], sized: Mapping[str, Sized] | None = None
) -> int:
    """How many pods carry all requests, told by those that carry a share each.

    Every one carries its share at least, so the least that any of them stands for is enough; and
    a pod beside ninety percent does not make one pod and a bit. One that has no more pods than it
    was given stands for what it was given them for: rounding up must not add up over many steps.

    Args:
        weights: shares in percent.
        pods: ready pods; none where nothing is asked for.
        sized: what they were given, while that is remembered.
    """
    stand_for = []
    for name, weight in weights.items():
        if weight <= 0:
            continue
        count, given = pods.get(name, 0), (sized or {}).get(name)
        if given is not None and 0 < count <= given.pods:
            stand_for.append(float(given.whole))
        else:
            stand_for.append(count * 100 / weight)
    least = min(stand_for, default=0.0)
    return max(math.floor(least), 1) if least else 0


def pods_needed(
    current: Mapping[str, int],
    desired: Mapping[str, int],
    whole: int,
    most: Mapping[str, int],
) -> dict[str, int]:
    """How many ready pods each one needs that is to get more than it has.

    Args:
        current: shares now.
        desired: shares to come.
        whole: the pods that carry everything.
        most: the most pods that one may have, where that is limited.
    """
    needed = {}
    for name, share in desired.items():
        if share <= current.get(name, 0):
            continue
        asked = math.ceil(whole * share / 100)
        limit = most.get(name) or 0
        needed[name] = min(asked, limit) if limit else asked
    return needed
