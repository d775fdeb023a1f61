"""What /proc and netlink tell of processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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


def test_memory_of_a_process() -> None:
    assert os.getpid() in processes.descendants(os.getpid())
    assert processes.resident([os.getpid()]) > 1 << 20


def test_a_pods_processes_are_found_by_their_environment(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    pods = {}
    try:
        for uid in ("one", "two"):
            log = {processes.TERMINATION_LOG: f"{tmp_path}/{uid}/termination/main"}
            pods[uid] = subprocess.Popen(
                command,
                env={**os.environ, **log},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert pods[uid].stdout.readline()  # type: ignore[union-attr]  # stdout is a pipe
        find = processes.PodProcesses(tmp_path)
        assert find("one") == [pods["one"].pid]
        assert find("two") == [pods["two"].pid]
        assert find("three") == []
    finally:
        for process in pods.values():
            process.communicate()
