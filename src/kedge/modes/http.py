"""What a process on Kubernetes answers over HTTP: that it is well, and the leader's pages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
from yarl import URL

from kedge.lib.addresses import any_address
from kedge.lib.asgi import Body, ReadOnly, Receive, Scope, Send
from kedge.lib.errors import KedgeError

App = Callable[[Scope, Receive, Send], Awaitable[None]]
_BACKLOG = 256
_ASKED = ("/scaling", "/top")
_PASSED_ON = "X-Kedge-Passed-On"
_PATIENCE = aiohttp.ClientTimeout(total=5.0)


class _Server(uvicorn.Server):
    """A server that leaves the process's signals alone: the composition root owns them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves an application on a port.

    Args:
        host: the one address to listen on; every address when empty.
        tls: the context of a TLS port, whose certificate may be changed while it serves.

    Attributes:
        port: the one that is served; a free one where 0 was asked for.
    """

    def __init__(
        self, app: App, port: int, tls: ssl.SSLContext | None = None, *, host: str = ""
    ) -> None:
        config = uvicorn.Config(
            app,
            interface="asgi3",
            lifespan="off",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        config.load()
        config.ssl = tls
        self._server = _Server(config)
        self._socket = _bind(port, host)
        self.port: int = self._socket.getsockname()[1]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the context lasts."""
        task = asyncio.ensure_future(self._server.serve(sockets=[self._socket]))
        try:
            yield
        finally:
            self._server.should_exit = True
            await asyncio.gather(task, return_exceptions=True)
            self._socket.close()


def _bind(port: int, host: str) -> socket.socket:
    """On every address where no host is named."""
    address = host or any_address()
    if ":" not in address:
        return socket.create_server((address, port), backlog=_BACKLOG)
    return socket.create_server(
        (address, port),
        family=socket.AF_INET6,
        dualstack_ipv6=address == "::",
        backlog=_BACKLOG,
    )


class Health:
    """`/healthz` and `/readyz` of any process; the pages of the parts that only the leader runs.

    Args:
        leader: finds the base URL of the leader's pages; raises `KedgeError` where none leads.
    """

    def __init__(self, leader: Callable[[], Awaitable[str]]) -> None:
        self._leader = leader
        self._leading: dict[str, ReadOnly] = {}
        pages = {"/healthz": _well, "/readyz": _well, "/metrics": _stands_by}
        self._own = ReadOnly(pages)

    def lead(self, scaling: ReadOnly, telemetry: ReadOnly) -> None:
        """This process leads now and has these pages."""
        self._leading = {"/scaling": scaling, "/top": telemetry, "/metrics": telemetry}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope["path"]).rstrip("/")
        if path in _ASKED and not self._leading and not _passed_on(scope):
            await self._pass_on(scope, send)
        else:
            await self._leading.get(path, self._own)(scope, receive, send)

    async def _pass_on(self, scope: Scope, send: Send) -> None:
        """Ask the leader, once."""
        asked = f"{scope['path']}?{scope.get('query_string', b'').decode()}"
        try:
            url = await self._leader() + asked
            async with (
                aiohttp.ClientSession(timeout=_PATIENCE) as session,
                session.get(URL(url, encoded=True), headers={_PASSED_ON: "1"}) as response,
            ):
                code, data = response.status, await response.read()
        except (KedgeError, aiohttp.ClientError, TimeoutError) as error:
            code, data = 503, json.dumps({"message": f"no leader answers: {error}"}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(data)).encode()),
        ]
        await send({"type": "http.response.start", "status": code, "headers": headers})
        await send({"type": "http.response.body", "body": data})


def _passed_on(scope: Scope) -> bool:
    return any(name == _PASSED_ON.lower().encode() for name, _ in scope["headers"])


async def _stands_by(query: Mapping[str, str]) -> Body:
    return "kedge_controller_leading 0\n"


async def _well(query: Mapping[str, str]) -> Body:
    return "ok\n"
