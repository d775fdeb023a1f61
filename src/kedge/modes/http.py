"""What a process on Kubernetes answers over HTTP: that it is well, and the leader's pages."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager

import uvicorn

from kedge.lib.asgi import Body, ReadOnly, Receive, Scope, Send

App = Callable[[Scope, Receive, Send], Awaitable[None]]
_BACKLOG = 256


class _Server(uvicorn.Server):
    """A server that leaves the process's signals alone: the composition root owns them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves an application on every address of a port.

    Args:
        tls: the context of a TLS port, whose certificate may be changed while it serves.

    Attributes:
        port: the one that is served; a free one where 0 was asked for.
    """

    def __init__(self, app: App, port: int, tls: ssl.SSLContext | None = None) -> None:
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
        self._socket = _bind(port)
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


def _bind(port: int) -> socket.socket:
    """On IPv6 and IPv4, or on IPv4 where that is all there is."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(
            ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG
        )
    return socket.create_server(("0.0.0.0", port), backlog=_BACKLOG)


class Health:
    """`/healthz` and `/readyz` of any process; the pages of the parts that only the leader runs."""

    def __init__(self) -> None:
        self._leading: dict[str, ReadOnly] = {}
        self._own = ReadOnly({"/healthz": _well, "/readyz": _well})

    def lead(self, scaling: ReadOnly, telemetry: ReadOnly) -> None:
        """This process leads now and has these pages."""
        self._leading = {"/scaling": scaling, "/top": telemetry, "/metrics": telemetry}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope["path"]).rstrip("/")
        app: App = self._leading.get(path, self._own)
        await app(scope, receive, send)


async def _well(query: Mapping[str, str]) -> Body:
    return "ok\n"
