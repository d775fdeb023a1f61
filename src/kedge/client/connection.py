"""One HTTP connection to a Kubernetes API: requests out, JSON or a named error back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

from kedge.client.errors import Unreachable, api_error, warnings_of
from kedge.client.kubeconfig import Access

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
"""What to accept to be given a table with the kind's own columns."""


class Connection:
    """Use as `async with`.

    Args:
        access: the API and the right to use it.
        warn: told each warning that the API sends along, once.
        timeout: seconds for one request; a watch or a followed log has no limit.
    """

    def __init__(
        self,
        access: Access,
        *,
        warn: Callable[[str], None] | None = None,
        timeout: float = 30.0,
    ) -> None:
        self.access = access
        self._warn = warn
        self._warned: set[str] = set()
        self._timeout = aiohttp.ClientTimeout(total=timeout, connect=10.0)
        self._endless = aiohttp.ClientTimeout(total=None, connect=10.0)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Connection:
        context = self.access.ssl_context()
        headers = {"Authorization": f"Bearer {self.access.token}"} if self.access.token else {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context if context is not None else True),
            headers=headers,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def json(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Any:
        """The decoded answer. Raises an `ApiError`, or `Unreachable`."""
        data = None if body is None else orjson.dumps(body)
        headers = {"Accept": accept, **({"Content-Type": content_type} if data else {})}
        async with self._send(
            method, path, data=data, params=params, headers=headers, timeout=self._timeout
        ) as response:
            text = await response.read()
        return orjson.loads(text) if text else None

    async def lines(
        self, path: str, *, params: Mapping[str, str] | None = None, accept: str = "*/*"
    ) -> AsyncGenerator[bytes, None]:
        """The answer's lines as they come; ends when the server ends it."""
        headers = {"Accept": accept}
        async with self._send(
            "GET", path, params=params, headers=headers, timeout=self._endless
        ) as response:
            rest = b""
            async for piece in response.content.iter_any():
                *whole, rest = (rest + piece).split(b"\n")
                for line in whole:
                    yield line
            if rest:
                yield rest

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None,
        headers: dict[str, str],
        timeout: aiohttp.ClientTimeout,
        data: bytes | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None, "use it as `async with Connection(...)`"
        try:
            async with self._session.request(
                method,
                self.access.server + path,
                data=data,
                params=params,
                headers=headers,
                timeout=timeout,
                server_hostname=self.access.server_name or None,
            ) as response:
                self._pass_warnings(response)
                if response.status >= 400:
                    raise await self._refusal(response)
                yield response
        except aiohttp.ClientError as error:
            raise self._unreachable(error) from error
        except TimeoutError as error:
            raise Unreachable(
                f"{self.access.server} did not answer {method} {path} in time.",
                fix=f"See whether it is overloaded, or whether {self.access.source} names the"
                " right server.",
            ) from error

    def _pass_warnings(self, response: aiohttp.ClientResponse) -> None:
        for header in response.headers.getall("Warning", []):
            for text in warnings_of(header):
                if self._warn is not None and text not in self._warned:
                    self._warned.add(text)
                    self._warn(text)

    async def _refusal(self, response: aiohttp.ClientResponse) -> Exception:
        text = await response.read()
        try:
            status = orjson.loads(text)
        except orjson.JSONDecodeError:
            status = text.decode(errors="replace")
        error = api_error(response.status, status)
        if response.status == 401:
            error.fix = (
                f"{self.access.source} holds no valid token for {self.access.server}:"
                " use the kubeconfig in the data directory of the Kedge that runs there."
            )
        return error

    def _unreachable(self, error: aiohttp.ClientError) -> Exception:
        server, source = self.access.server, self.access.source
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
            return Unreachable(
                f"{server} does not prove to be the server that {source} names: {error}.",
                fix="Use the kubeconfig in the data directory of the Kedge that runs there.",
            )
        if isinstance(error, aiohttp.ClientConnectorError):
            if self.access.local or "//127.0.0.1" in server or "//localhost" in server:
                return Unreachable(
                    f"No Kedge is running at {server} (named by {source}).",
                    fix="Start it with `kedge up --detach`.",
                )
            return Unreachable(
                f"{server} cannot be reached: {error.os_error}.",
                fix=f"See whether {source} names the right server and the network lets you there.",
            )
        return Unreachable(
            f"The connection to {server} broke: {error or type(error).__name__}.",
            fix="Try again; if it stays so, see `kedge status`.",
        )
