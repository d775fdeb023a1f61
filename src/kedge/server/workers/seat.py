"""Who a process is among the workers: it is told through its environment.

Whoever starts it passes open files by number: the channel to the parent, the inbox that
connections come through, and the board.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import msgspec

from kedge.server.limits import Limits

VARIABLE = "KEDGE_SEAT"
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_ADOPTION_SECONDS = 5.0


class Held(msgspec.Struct, frozen=True):
    """What the others hold, where that is no longer what the command line says.

    Attributes:
        loaded: the names of the models that are served.
        unloaded: the reason of each that is not.
    """

    loaded: tuple[str, ...]
    unloaded: dict[str, str]


class Seat(msgspec.Struct, frozen=True):
    """One process's place.

    Attributes:
        slot: which of the `of` workers it is.
        parent: the parent's pid; it never outlives the parent.
        control: the file number of its channel to the parent.
        board: of what all can read.
        inboxes: where each worker's connections come in; a worker is told its own only.
        forks: a preloader's: where the files of a worker to be forked come in.
        held: None while nothing was loaded or unloaded since the start.
    """

    role: Literal["worker", "preloader"]
    of: int
    parent: int
    control: int
    board: int
    http_port: int
    grpc_port: int | None
    slot: int = 0
    inboxes: dict[int, int] = {}
    forks: int = -1
    held: Held | None = None


def read(env: Mapping[str, str]) -> Seat | None:
    """The seat in an environment; None in that of a process that a person started."""
    text = env.get(VARIABLE)
    return msgspec.json.decode(text, type=Seat) if text else None


def take(seat: Seat) -> None:
    """Sits down: what the model starts is no worker, and no worker outlives the parent."""
    os.environ.pop(VARIABLE, None)
    die_with(seat.parent)


def die_with(parent: int) -> None:
    """The kernel ends this process when `parent`, which must be its parent, is gone.

    A forked worker becomes the parent's child a moment after it began.
    """
    end = time.monotonic() + _ADOPTION_SECONDS
    while os.getppid() != parent:
        if time.monotonic() > end:
            os._exit(1)
        time.sleep(0.001)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Processes whose parent has ended become this one's children."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def share(limits: Limits, slot: int, of: int) -> Limits:
    """One worker's part of what the server as a whole may do at once; never more in sum."""
    return replace(
        limits,
        concurrency=limits.concurrency // of + (slot < limits.concurrency % of),
        waiting=-(-limits.waiting // of),
        waiting_bytes=limits.waiting_bytes // of,
    )
