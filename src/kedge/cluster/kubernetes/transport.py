"""Sends requests to an API server; every failure is an `ApiError`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

import aiohttp
import orjson

from kedge.cluster.errors import Unavailable
from kedge.cluster.kubernetes.answers import error_of
from kedge.cluster.kubernetes.connection import Connection

_CONNECTIONS = 256
_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 60.0


class Transport:
    """One connection pool, opened at the first request."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Transport:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Any:
        """The decoded answer."""
        data = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": content_type} if data is not None else {}
        async with self._send(method, path, params, headers, data, _ANSWER_SECONDS) as response:
            raw = await response.read()
            if response.status >= 400:
                raise error_of(response.status, response.headers, raw)
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise Unavailable(
                f"{method} {path}: the answer of {self._connection.server} is not JSON: "
                f"{raw[:100]!r}. Fix: check that the address is that of a Kubernetes API server."
            ) from error

    async def lines(
        self, path: str, params: Mapping[str, str], *, silence: float | None
    ) -> AsyncIterator[bytes]:
        """Pieces of an endless answer, each of whole lines; the last one may be cut.

        Args:
            silence: seconds without any data after which the server counts as lost.
        """
        async with self._send("GET", path, params, {}, None, silence) as response:
            if response.status >= 400:
                raise error_of(response.status, response.headers, await response.read())
            rest: list[bytes] = []
            async for chunk in response.content.iter_any():
                end = chunk.rfind(b"\n") + 1
                if end:
                    yield b"".join([*rest, chunk[:end]])
                    rest = [chunk[end:]] if end < len(chunk) else []
                else:
                    rest.append(chunk)
            if rest:
                yield b"".join(rest)

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        headers: dict[str, str],
        data: bytes | None,
        silence: float | None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if token := self._connection.token():
            headers["Authorization"] = f"Bearer {token}"
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS, sock_read=silence
        )
        try:
            async with self._open().request(
                method,
                self._connection.server + path,
                params=params,
                headers=headers,
                data=data,
                timeout=timeout,
                server_hostname=self._connection.server_name,
                allow_redirects=False,
            ) as response:
                yield response
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            where = self._connection.socket or self._connection.server
            raise Unavailable(
                f"{method} {path}: {where} does not answer: {error or type(error).__name__}"
            ) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            if self._connection.socket is not None:
                connector: aiohttp.BaseConnector = aiohttp.UnixConnector(
                    self._connection.socket, limit=_CONNECTIONS
                )
            else:
                connector = aiohttp.TCPConnector(
                    ssl=self._connection.tls or True, limit=_CONNECTIONS
                )
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers={"Accept": "application/json", "User-Agent": "kedge"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session
