"""The little server that `kedge install` verifies a cluster with."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from tests.ports import free_port

from kedge.install.values import Values
from kedge.install.verifying import make_probe
from kedge.lib.addresses import join


def test_it_is_reached_by_every_family_that_a_cluster_may_have() -> None:
    [container] = make_probe(Values())["spec"]["predictor"]["containers"]
    port, path = free_port(), container["readinessProbe"]["httpGet"]["path"]
    script = container["command"][2].replace(f"{container['ports'][0]['containerPort']}", str(port))
    hosts = ["127.0.0.1", *(["::1"] if socket.has_dualstack_ipv6() else [])]
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) as server:
        try:
            for host in hosts:
                assert ask(f"http://{join(host, port)}{path}") == b'{"live": true}'
        finally:
            server.kill()


def ask(url: str, patience: float = 20.0) -> bytes:
    end = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bytes(answer.read())
        except OSError as error:
            if time.monotonic() > end:
                pytest.fail(f"{url}: {error}")
            time.sleep(0.05)
