"""Keeps the access log from filling the disk: Envoy writes it for ever, and never turns a page."""

from __future__ import annotations

import logging
from pathlib import Path

import aiohttp

from kedge.lib.clock import SYSTEM_CLOCK, Clock

log = logging.getLogger(__name__)

LIMIT_BYTES = 64 << 20
"""Size from which on a new file is begun; the one before it is kept, older ones are not."""
LOOK_SECONDS = 5.0


class AccessLog:
    """Watches the size of one access log; has Envoy begin a new one through its admin socket."""

    def __init__(
        self,
        path: Path,
        admin_socket: Path,
        *,
        limit_bytes: int = LIMIT_BYTES,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._path = path
        self._admin_socket = admin_socket
        self._limit = limit_bytes
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Begin a new file if this one is too large."""
        try:
            # A pipe or a terminal, as in a container, is somebody else's to keep short.
            if not self._path.is_file() or self._path.stat().st_size < self._limit:
                return
            self._path.replace(self._path.with_suffix(self._path.suffix + ".1"))
            connector = aiohttp.UnixConnector(str(self._admin_socket))
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.post("http://admin/reopen_logs"),
            ):
                pass
        except (OSError, aiohttp.ClientError) as error:
            log.warning("%s could not be turned over: %s", self._path, error)
