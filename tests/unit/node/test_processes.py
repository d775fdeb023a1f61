"""What /proc and netlink tell of processes."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from kedge.cluster.local.node import processes


@pytest.fixture(params=["127.9.8.7", "0.0.0.0", "::", "::1", "::ffff:127.9.8.7"])
def server(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        listening = socket.socket(family)
        listening.bind((request.param, 0))
    except OSError:
        pytest.skip("there is no IPv6 here")
    with listening:
        listening.listen()
        yield listening


def test_both_ways_to_know_listeners_agree(server: socket.socket) -> None:
    address, port = server.getsockname()[:2]
    inode = str(os.fstat(server.fileno()).st_ino)
    wanted = None if address in ("0.0.0.0", "::") else address.removeprefix("::ffff:")
    expected = processes.Listener(port, inode, wanted)
    assert expected in processes.listeners()
    assert expected in processes._read_listeners()


def test_wildcards_of_a_process(server: socket.socket) -> None:
    address, port = server.getsockname()[:2]
    assert (port in processes.wildcard_ports([os.getpid()])) == (address in ("0.0.0.0", "::"))
    assert f"held by pid {os.getpid()}" in processes.holder(address.removeprefix("::ffff:"), port)


def test_memory_of_a_process() -> None:
    assert os.getpid() in processes.descendants(os.getpid())
    assert processes.resident([os.getpid()]) > 1 << 20
