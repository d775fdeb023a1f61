"""A port that somebody takes after Kedge has looked at it: who has it is told, with a fix."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.running import RunningKedge, wait_for
from tests.ports import free_ports

from kedge.lib import ports
from kedge.modes import local
from kedge.settings.local import LocalSettings

HOST = "127.0.0.1"


def take(port: int) -> socket.socket:
    """Listen there, as a server does that comes in between."""
    thief = ports.hold(HOST, port)
    thief.listen()
    return thief


def told_of(port: int) -> str:
    return f"{port} on {HOST} cannot be used: Address already in use (held by pid {os.getpid()}, "


@pytest.mark.parametrize(
    ("whose", "start", "fix"),
    [
        ("port", "The gateway's port", "choose another with --port."),
        ("api_port", "The API's port", "choose another with --api-port."),
        ("proxy_port", "The pods' proxy port", "start Kedge anew"),
        ("metrics_port", "The metrics port", "start Kedge anew"),
    ],
)
def test_before_it_is_ready(tmp_path: Path, whose: str, start: str, fix: str) -> None:
    data_dir = tmp_path / "kedge"
    port, api_port = free_ports(2)
    plan, held = local.prepare(LocalSettings(data_dir=data_dir, port=port, api_port=api_port))
    settings = json.loads((plan.parent / "settings.json").read_text())
    with take(settings[whose]):
        done = subprocess.run(
            [sys.executable, "-m", "kedge.modes.supervisor", str(plan)],
            pass_fds=[one.fileno() for one in held],
            text=True,
            capture_output=True,
            timeout=60,
        )
    for one in held:
        one.close()
    assert done.returncode == 1
    assert done.stderr.startswith(f"{start} {told_of(settings[whose])}"), done.stderr
    assert f"Fix: End what holds it, or {fix}" in done.stderr
    assert not done.stdout


@pytest.mark.parametrize(("part", "whose"), [("envoy", "port"), ("control", "api_port")])
def test_while_a_part_is_restarted(own_kedge: RunningKedge, part: str, whose: str) -> None:
    kedge = own_kedge
    port = getattr(kedge, whose)
    assert kedge.process is not None
    supervisor = kedge.process.pid
    os.kill(supervisor, signal.SIGSTOP)
    try:
        os.kill(kedge.part(part), signal.SIGKILL)
        thief = take_when_free(port)
    finally:
        os.kill(supervisor, signal.SIGCONT)
    with thief:
        found = wait_for(lambda: state(kedge) if state(kedge)["faults"] else {})
        (fault,) = found["faults"].values()
        assert told_of(port) in fault
        assert not found["ready"]
        assert told_of(port) in kedge.kedge("status", check=False)
    wait_for(lambda: state(kedge)["ready"])
    assert "fault" not in kedge.kedge("status")


def take_when_free(port: int) -> socket.socket:
    found: list[socket.socket] = []

    def is_taken() -> bool:
        with contextlib.suppress(OSError):
            found.append(take(port))
        return bool(found)

    wait_for(is_taken)
    return found[0]


def state(kedge: RunningKedge) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kedge.kedge("status", "-o", "json", check=False))
    return found
