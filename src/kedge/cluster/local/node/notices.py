"""Where a container tells that it answers, so that nobody has to keep asking.

A datagram socket of the node agent's, named to every container (`KEDGE_READY_SOCKET`, and in
`KEDGE_READY_NAME` what it is called there). A notice proves nothing and is needed by nobody: it is
the moment for the agent's own probe, and carries when each phase of the start was over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

_LIMIT = 4096


@dataclass
class Notice:
    """What one container has told.

    Attributes:
        came: set when it tells something; cleared by who waits for it.
        warm: it was forked with its imports done.
        moments: name of a phase -> its end, on the monotonic clock.
    """

    came: asyncio.Event = field(default_factory=asyncio.Event)
    warm: bool = False
    moments: dict[str, float] = field(default_factory=dict)


class Notices:
    """The agent's end. Without `open` nobody tells anything, and all is found by asking."""

    def __init__(self, runtime_dir: Path) -> None:
        self.path = runtime_dir / "ready.sock"
        self._expected: dict[str, Notice] = {}
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Listen; needs a running event loop."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(self.path))
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._receive)

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()

    def expect(self, name: str) -> Notice:
        """What the container called `name` will tell, from now on."""
        notice = self._expected[name] = Notice()
        return notice

    def forget(self, name: str) -> None:
        self._expected.pop(name, None)

    def _receive(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(BlockingIOError):
            while True:
                self._take(self._socket.recv(_LIMIT))

    def _take(self, data: bytes) -> None:
        try:
            told: dict[str, Any] = json.loads(data)
            notice = self._expected.get(told["name"])
            if notice is not None:
                notice.moments = {str(k): float(v) for k, v in told["moments"].items()}
                notice.warm = bool(told["warm"])
                notice.came.set()
        except (ValueError, KeyError, TypeError, AttributeError):
            log.info("a notice that is none: %r", data[:100])
