"""A held port is given to no outgoing connection, and whoever has a port is named."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest
from tests.ports import PORTS, free_port

from kedge.lib import ports

_IP_LOCAL_PORT_RANGE = 51
HOST = "127.0.0.1"


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        listening.listen()
        yield listening


def outgoing_port() -> int:
    """One that an outgoing connection could be given."""
    with ports.hold_any(HOST, ()) as held:
        return int(held.getsockname()[1])


def connect(server: socket.socket, port: int) -> socket.socket:
    """An outgoing connection for which the kernel may choose this port only."""
    client = socket.socket()
    try:
        only = struct.pack("I", port | port << 16)
        client.setsockopt(socket.IPPROTO_IP, _IP_LOCAL_PORT_RANGE, only)
    except OSError:
        client.close()
        pytest.skip("this kernel has no ranges for outgoing connections")
    try:
        client.connect(server.getsockname())
    except OSError:
        client.close()
        raise
    return client


def test_a_held_port_is_given_to_no_outgoing_connection(server: socket.socket) -> None:
    port = outgoing_port()
    with ports.hold(HOST, port), pytest.raises(OSError, match="Cannot assign"):
        connect(server, port)
    with connect(server, port) as client:
        assert client.getsockname()[1] == port


def test_one_who_is_to_listen_gets_the_held_port() -> None:
    port = free_port()
    with ports.hold(HOST, port), ports.hold(HOST, port) as listener:
        listener.listen()
        with pytest.raises(OSError, match="in use"):
            ports.hold(HOST, port)


def test_a_connection_that_has_a_port_is_named(server: socket.socket) -> None:
    port = outgoing_port()
    with connect(server, port) as client:
        with pytest.raises(OSError, match="in use"):
            ports.hold(HOST, port)
        told = ports.holder(HOST, port)
        assert "used for a connection of its own" in told
        assert f"pid {os.getpid()}" in told
        # Who closes first waits for what may still be on its way.
        client.shutdown(socket.SHUT_WR)
        server.accept()[0].close()
    assert "just ended" in ports.holder(HOST, port)


@pytest.mark.parametrize("address", [HOST, "0.0.0.0"])
def test_a_server_is_named(address: str) -> None:
    with socket.socket() as listening:
        listening.bind((address, free_port()))
        listening.listen()
        port = listening.getsockname()[1]
        assert f"(held by pid {os.getpid()}, " in ports.holder(HOST, port)
    assert ports.holder(HOST, port) == ""


def test_a_server_on_another_address_is_not_blamed() -> None:
    with socket.socket() as listening:
        listening.bind(("127.9.8.7", free_port()))
        listening.listen()
        assert ports.holder(HOST, listening.getsockname()[1]) == ""


def test_any_port_is_below_those_of_outgoing_connections() -> None:
    with ports.hold_any(HOST, PORTS) as one:
        assert one.getsockname()[1] in PORTS
    outgoing = ports.outgoing_ports()
    with ports.hold_any(HOST, outgoing) as one:
        assert one.getsockname()[1] in outgoing


def test_no_port_is_given_twice() -> None:
    assert free_port() != free_port()
