"""The façade's sockets: TLS on loopback for clients with a token, a unix socket for our own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from kedge.cluster.local.http.facade import Facade
from kedge.cluster.local.tls import Certificate

_BACKLOG = 1024
_KEEP_ALIVE_SECONDS = 75
_SHUTDOWN_SECONDS = 1
"""Watches never end by themselves; they are cut, and their clients come again."""


class _Server(uvicorn.Server):
    """A server that leaves the process's signals alone: the composition root owns them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Listeners:
    """Serves a façade until cancelled.

    The sockets are bound at once, so that a port in use is an error of the constructor and clients
    that connect early wait in the backlog.

    Args:
        host, port: the TLS listener; port 0 picks a free one.
        unix_socket: the trusted listener, made with mode 0600; None for none.

    Attributes:
        port: the TLS listener's port.
        ready: set once requests are answered.
    """

    def __init__(
        self,
        facade: Facade,
        *,
        host: str,
        port: int,
        certificate: Certificate,
        unix_socket: Path | None = None,
    ) -> None:
        self.ready = asyncio.Event()
        # Naming TCP makes asyncio send small answers at once; without, each waits 40 ms for an ACK.
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((host, port))
        tcp.listen(_BACKLOG)
        self.port: int = tcp.getsockname()[1]
        secure = uvicorn.Config(
            facade.app(),
            ssl_certfile=certificate.chain,
            ssl_keyfile=str(certificate.key),
            **_OPTIONS,  # type: ignore[arg-type]  # one dict for keywords of several types
        )
        self._servers = [(_Server(secure), tcp)]
        if unix_socket is not None:
            plain = uvicorn.Config(
                facade.app(trusted=True),
                **_OPTIONS,  # type: ignore[arg-type]  # one dict for keywords of several types
            )
            self._servers.append((_Server(plain), _bind_unix(unix_socket)))

    async def run(self) -> None:
        serving = [asyncio.ensure_future(s.serve(sockets=[one])) for s, one in self._servers]
        try:
            while not all(server.started for server, _ in self._servers):
                await asyncio.wait(serving, timeout=0.005, return_when=asyncio.FIRST_COMPLETED)
                for task in serving:
                    if task.done():
                        task.result()
            self.ready.set()
            # Not gather: cancelled, it would cancel the servers before they could close.
            ended, _ = await asyncio.wait(serving, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            for server, _ in self._servers:
                server.should_exit = True
            await asyncio.gather(*serving, return_exceptions=True)
            for _, one in self._servers:
                one.close()


_OPTIONS: dict[str, object] = {
    "access_log": False,
    "backlog": _BACKLOG,
    "date_header": False,
    "http": "httptools",
    "lifespan": "off",
    "log_config": None,
    "server_header": False,
    "timeout_graceful_shutdown": _SHUTDOWN_SECONDS,
    "timeout_keep_alive": _KEEP_ALIVE_SECONDS,
    "ws": "none",
}


def _bind_unix(path: Path) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(_BACKLOG)
    return listener
