"""Free ports for tests: a port that a test was given stays its own until its process ends.

The answer to `bind` of port 0 is no such port. It is from the range out of which the kernel serves
outgoing connections, of which a test run makes thousands, and another test run may get it too
before anybody listens on it. These are below that range, and locked between test processes.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import random
import socket
import tempfile
from pathlib import Path

from kedge.lib.ports import outgoing_ports

PORTS = range(10_000, 20_000)
"""Where no other part of Kedge chooses a port by itself."""
_OUTGOING = outgoing_ports()

_given: set[int] = set()


def free_port() -> int:
    """A port that nobody uses on any address, and no other test is given."""
    choice = [port for port in PORTS if port not in _OUTGOING and port not in _given]
    for port in random.sample(choice, len(choice)):
        if _lock(port) and _is_free(port):
            _given.add(port)
            return port
    raise AssertionError(f"no free port in {PORTS}; outgoing connections have {_OUTGOING}")


def free_ports(count: int) -> list[int]:
    """So many different ones."""
    return [free_port() for _ in range(count)]


@functools.cache
def _locks() -> int:
    """A file whose bytes stand for ports; what a process has locked is free when it ends."""
    path = Path(tempfile.gettempdir()) / f"kedge-test-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _lock(port: int) -> bool:
    try:
        fcntl.lockf(_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


def _is_free(port: int) -> bool:
    with contextlib.suppress(OSError), socket.socket() as probe:
        # Without SO_REUSEADDR: a port that was used a moment ago does not count as free.
        probe.bind(("0.0.0.0", port))
        return True
    return False
