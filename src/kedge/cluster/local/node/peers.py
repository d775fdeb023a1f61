"""Who is at the other end of a connection within this machine, as the kernel tells it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from kedge.cluster.local.node.processes import named_address, raw_address

Place = tuple[str, int]


def owner_of(client: Place, server: Place, tables: Path = Path("/proc/net")) -> int | None:
    """The user whose process has the connection's client end; None for one of another machine."""
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (tables / table).read_text().splitlines()[1:]:
                fields = line.split()
                if _place(fields[1]) == client and _place(fields[2]) == server:
                    return int(fields[7])
    return None


def _place(text: str) -> Place:
    host, _, port = text.partition(":")
    return named_address(raw_address(host)) or "", int(port, 16)
