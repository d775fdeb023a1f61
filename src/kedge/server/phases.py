"""What a server's start was made of, told once to whoever waits for it.

Moments are of the monotonic clock, which all processes of a machine share. A node agent that named
a socket (`KEDGE_READY_SOCKET`) is sent one datagram as soon as requests are answered, so that it
need not guess when to look: it makes its own check then.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise

SOCKET = "KEDGE_READY_SOCKET"
"""Environment variable with the path of a datagram socket."""
NAME = "KEDGE_READY_NAME"
"""Environment variable with what this container is called there."""

_moments: dict[str, float] = {}
_warm = False


def begin(*, warm: bool = False) -> None:
    """The program runs; `warm` when it was forked with its imports done."""
    global _warm
    if _moments:
        return  # It was forked, and has begun when it was.
    _warm = warm
    mark("process")


def mark(name: str) -> None:
    """`name` (process, framework, weights, inference, ready) is over now."""
    _moments[name] = time.monotonic()


def moments() -> dict[str, float]:
    """When each was over, of this process."""
    return dict(_moments)


def durations() -> dict[str, float]:
    """Seconds of each phase after the first, in order."""
    moments = sorted(_moments.items(), key=lambda moment: moment[1])
    return {name: moment - before for (_, before), (name, moment) in pairwise(moments)}


def tell(others: Mapping[str, float] | None = None) -> None:
    """Say that requests are answered from now on.

    Args:
        others: the moments of a process that loaded for this one.
    """
    for step, moment in (others or {}).items():
        _moments.setdefault(step, moment)
    mark("ready")
    path, name = os.environ.get(SOCKET), os.environ.get(NAME)
    if not path or not name:
        return
    notice = {"name": name, "warm": _warm, "moments": _moments}
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(json.dumps(notice).encode(), path)
