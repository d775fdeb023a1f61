"""Envoy's admin interface, over its unix socket."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from kedge.lib.errors import KedgeError

TIMEOUT_SECONDS = 2.0


class AdminError(KedgeError):
    """Envoy's admin interface does not answer.

    Attributes:
        away: there is no Envoy; else it hangs.
    """

    reason = "EnvoyAway"
    away = False


class EnvoyAdmin:
    """Asks one Envoy; an async context."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.UnixConnector(str(self._socket))
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str) -> bytes:
        """The answer to `path`, its query included.

        Raises:
            AdminError: there is none.
        """
        return await self._ask("GET", path)

    async def post(self, path: str) -> bytes:
        """As `get`, for what changes something."""
        return await self._ask("POST", path)

    async def _ask(self, method: str, path: str) -> bytes:
        assert self._session is not None
        try:
            async with self._session.request(method, f"http://admin{path}") as answer:
                body = await answer.read()
        except (OSError, aiohttp.ClientError) as error:
            raised = AdminError(
                f"Envoy's admin socket {self._socket} does not answer: {error!r}.",
                fix="Nothing, if Envoy is being restarted; else read logs/envoy.log.",
            )
            raised.away = isinstance(error, aiohttp.ClientConnectionError) and not isinstance(
                error, aiohttp.ServerTimeoutError
            )
            raise raised from error
        if answer.status != 200:
            raise AdminError(f"Envoy answered {answer.status} to {path}: {body[:200]!r}.")
        return body
