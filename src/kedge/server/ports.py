"""Listening sockets, and who holds a port that is taken."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

from kedge.lib.addresses import any_address, make_bound
from kedge.server.errors import PortInUse, StartFailure

BACKLOG = 2048

Factory = Callable[[], asyncio.Protocol]


def bind(address: str, port: int, flag: str) -> socket.socket:
    """A bound socket that does not listen yet; `flag` is the option that chose the port.

    Args:
        address: empty for every address of the machine.
    """
    address = address or any_address()
    try:
        sock = make_bound(address, port)
    except OSError as error:
        raise _cannot_bind(error, address, port, flag) from error
    sock.setblocking(False)
    return sock


def listen(sock: socket.socket, flag: str) -> None:
    try:
        sock.listen(BACKLOG)
    except OSError as error:
        address, port = sock.getsockname()[:2]
        sock.close()
        raise _cannot_bind(error, address, port, flag) from error


class Ports:
    """The listening sockets of a server that is one process.

    They are bound when this is made, so that a port in use is told before a model is loaded.
    """

    def __init__(self, address: str, http_port: int, grpc_port: int | None) -> None:
        self.http = bind(address, http_port, "http_port")
        self.grpc = None if grpc_port is None else bind(address, grpc_port, "grpc_port")
        self._listeners: list[asyncio.Server] = []

    def connections(self) -> set[Any]:
        return set()

    async def open(self, http: Factory, grpc: Factory | None) -> None:
        """Accepts. gRPC first: whoever sees the HTTP port open may use both."""
        loop = asyncio.get_running_loop()
        if self.grpc is not None and grpc is not None:
            listen(self.grpc, "grpc_port")
            self._listeners.append(await loop.create_server(grpc, sock=self.grpc))
        listen(self.http, "http_port")
        self._listeners.append(await loop.create_server(http, sock=self.http))

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()

    @property
    def http_port(self) -> int:
        return number_of(self.http)

    @property
    def grpc_port(self) -> int | None:
        return None if self.grpc is None else number_of(self.grpc)


def number_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def _cannot_bind(error: OSError, address: str, port: int, flag: str) -> StartFailure:
    if error.errno == errno.EADDRINUSE:
        from kedge.lib.ports import (
            holder,  # Takes a while, and is not needed by a server that starts.
        )

        return PortInUse(
            f"Port {port} on {address} is taken{holder(address, port)}.",
            fix=f"Stop that process, or choose another port with --{flag}.",
        )
    if error.errno == errno.EACCES:
        return StartFailure(
            f"Port {port} on {address} may not be used by this user.",
            fix=f"Choose a port above 1023 with --{flag}.",
        )
    return StartFailure(
        f"Cannot listen on {address} port {port}: {error.strerror}.",
        fix="Set KEDGE_BIND_ADDRESS to an address of this machine.",
    )
