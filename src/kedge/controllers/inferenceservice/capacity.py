"""How many pods must be ready before requests move: as many as carry their share now. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping


def pods_for_everything(weights: Mapping[str, int], pods: Mapping[str, int]) -> int:
    """How many pods carry all requests, told by those that carry a share each.

    Every one carries its share at least, so the least that any of them stands for is enough; and
    a pod beside ninety percent does not make one pod and a bit.

    Args:
        weights: shares in percent.
        pods: ready pods; none where nothing is asked for.
    """
    stand_for = [pods.get(name, 0) * 100 / weight for name, weight in weights.items() if weight > 0]
    least = min(stand_for, default=0.0)
    return max(math.floor(least), 1) if least else 0


def pods_needed(
    current: Mapping[str, int],
    desired: Mapping[str, int],
    pods: Mapping[str, int],
    most: Mapping[str, int],
) -> dict[str, int]:
    """How many ready pods each one needs that is to get more than it has.

    Args:
        current: shares now.
        desired: shares to come.
        pods: ready pods.
        most: the most pods that one may have, where that is limited.
    """
    whole = pods_for_everything(current, pods)
    needed = {}
    for name, share in desired.items():
        if share <= current.get(name, 0):
            continue
        asked = math.ceil(whole * share / 100)
        limit = most.get(name) or 0
        needed[name] = min(asked, limit) if limit else asked
    return needed
