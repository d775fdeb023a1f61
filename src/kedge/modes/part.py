"""What Kedge's processes share: log, event loop, signals; locally, dying with the supervisor."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from kedge.modes.supervisor import MOST_TOLD
from kedge.settings.local import LocalSettings

GC_THRESHOLDS = (50_000, 4, 10_000)
"""Collections look at few objects often and at all of them hardly ever: with Python's own
thresholds, a full collection of a control plane with 10,000 objects stops its event loop for 200
ms. What is new is looked at twice, a quarter of a million objects at a time at most."""


T = TypeVar("T")


def run_process(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """All of a process that serves: its log goes to stderr, `main` runs on its event loop."""
    import uvloop

    logging.basicConfig(
        stream=sys.stderr,
        level=os.environ.get("KEDGE_LOG_LEVEL", "INFO").upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    gc.set_threshold(*GC_THRESHOLDS)
    return uvloop.run(main())


def when_told_to_stop(call: Callable[[], object]) -> None:
    """Call it on SIGTERM and SIGINT, from within the running event loop."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, call)


def notify(name: str) -> None:
    """Tell the supervisor that the part `name` is ready."""
    # What start-up made stays: collections need not look at it again.
    gc.collect()
    gc.freeze()
    tell(name)


def tell(name: str, fault: str = "") -> None:
    """Tell the supervisor that the part `name` is ready, or what keeps it from being so."""
    path = os.environ.get("KEDGE_NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(f"{name}\n{fault}".encode()[:MOST_TOLD], path)


def run_part(main: Callable[[LocalSettings], Awaitable[None]], argv: list[str]) -> int:
    """Run a part's `main` with the settings file named in `argv` until SIGTERM; exit status.

    The process ends at once when the supervisor dies: nobody would restart it, and a second
    `kedge up` must not meet it.
    """
    settings = LocalSettings.from_json(Path(argv[0]).read_text())

    async def guarded() -> None:
        loop = asyncio.get_running_loop()
        life = int(os.environ.get("KEDGE_LIFE_FD", "-1"))
        if life >= 0:
            loop.add_reader(life, os._exit, 1)
        task = asyncio.ensure_future(main(settings))
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
        await task

    try:
        run_process(guarded)
    except asyncio.CancelledError:
        return 0
    return 0
