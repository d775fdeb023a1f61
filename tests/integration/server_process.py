"""A model server as users start it: `python -m kedge serve`, on free ports of this machine."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.ports import free_ports

DEADLINE_SECONDS = 60.0


@dataclass
class Served:
    """A server that answers."""

    process: subprocess.Popen[bytes]
    http_port: int
    grpc_port: int
    log: Path
    connection: http.client.HTTPConnection = field(init=False)

    def __post_init__(self) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=30)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, body, named)
        answer = self.connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()

    def get(self, path: str) -> tuple[int, Any]:
        status, _, body = self.request("GET", path)
        return status, json.loads(body)

    def post(self, path: str, body: Any = None) -> tuple[int, Any]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, _, answer = self.request("POST", path, raw, content_type="application/json")
        return status, json.loads(answer)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "kedge", "serve", *arguments]


def environment(**more: str) -> dict[str, str]:
    source = str(Path(__file__).parents[2] / "src")
    return os.environ | {"PYTHONPATH": source, "KEDGE_BIND_ADDRESS": "127.0.0.1"} | more


@contextmanager
def serving(runtime: str, folder: Path, log: Path, *arguments: str, **env: str) -> Iterator[Served]:
    """The model in `folder` served as `m`; stopped and reaped afterwards."""
    http_port, grpc_port = free_ports(2)
    ports = [f"--http_port={http_port}", f"--grpc_port={grpc_port}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(runtime, "--model_name=m", f"--model_dir={folder}", *ports, *arguments),
            env=environment(**env),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        await_ready(process, http_port, log)
        served = Served(process, http_port, grpc_port, log)
        yield served
        served.connection.close()
    finally:
        process.kill()
        process.wait()


def await_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Ready is when the port accepts: the server listens only then."""
    end = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(f"not ready within {DEADLINE_SECONDS} s: {log.read_text()}")


def failed_start(runtime: str, folder: Path, *arguments: str, **env: str) -> tuple[int, str]:
    """The exit code, and the last line of stderr, of a server that cannot start."""
    http_port, grpc_port = free_ports(2)
    ports = [f"--http_port={http_port}", f"--grpc_port={grpc_port}"]
    done = subprocess.run(
        command(runtime, "--model_name=m", f"--model_dir={folder}", *ports, *arguments),
        env=environment(**env),
        capture_output=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    return done.returncode, done.stderr.decode().strip().splitlines()[-1]
