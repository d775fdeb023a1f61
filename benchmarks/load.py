"""A closed-loop HTTP load generator: N keep-alive connections, each with one request in flight.

Run as a process of its own, pinned to a core that the server does not use::

    python -m benchmarks.load http://127.0.0.1:8080/v2/models/iris/infer bodies.json \
        --clients 64 --seconds 5

`bodies.json` is a list of request bodies (strings); they are sent in turn, so that no cache
flatters the server. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import uvloop


class Client(asyncio.Protocol):
    """One connection: sends the next request when the last answer is whole."""

    def __init__(self, requests: itertools.cycle[bytes], run: Run) -> None:
        self._requests, self._run = requests, run
        self._buffer = b""
        self._needed = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self._send()

    def _send(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._needed < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            if at < 0:
                raise SystemExit(f"the answer has no content-length: {head.decode()}")
            self._needed = end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self._buffer) >= self._needed:
            status = int(self._buffer[9:12])
            self._run.take(time.perf_counter() - self._began, status, self._buffer)
            self._buffer, self._needed = self._buffer[self._needed :], -1
            if self._run.open:
                self._send()
            else:
                self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._run.open:
            self._run.lost += 1


class Run:
    """What a run has seen so far."""

    def __init__(self) -> None:
        self.open = True
        self.counting = False
        self.times: list[float] = []
        self.failed = 0
        self.lost = 0
        self.example = ""

    def take(self, seconds: float, status: int, answer: bytes) -> None:
        if status != 200:
            self.failed += 1
            self.example = self.example or answer.decode(errors="replace")[:500]
        elif self.counting:
            self.times.append(seconds)


async def measure(
    url: str, bodies: list[str], *, clients: int, seconds: float, warm_up: float = 1.0
) -> dict[str, float | int | str]:
    """Requests per second and latency percentiles, in seconds."""
    target = urlsplit(url)
    requests = itertools.cycle(
        f"POST {target.path} HTTP/1.1\r\nhost: {target.netloc}\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(body.encode())}\r\n\r\n{body}".encode()
        for body in bodies
    )
    run = Run()
    loop = asyncio.get_running_loop()
    for _ in range(clients):
        await loop.create_connection(
            lambda: Client(requests, run), target.hostname or "127.0.0.1", target.port or 80
        )
    await asyncio.sleep(warm_up)
    run.counting, began = True, time.perf_counter()
    await asyncio.sleep(seconds)
    run.counting, run.open = False, False
    elapsed = time.perf_counter() - began
    times = sorted(run.times)
    if not times:
        raise SystemExit(f"no request was answered with 200: {run.example}")
    return {
        "clients": clients,
        "requests": len(times),
        "per_second": round(len(times) / elapsed, 1),
        "p50": times[len(times) // 2],
        "p99": times[min(len(times) - 1, int(len(times) * 0.99))],
        "failed": run.failed,
        "lost": run.lost,
        "example": run.example,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("bodies")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    asked = parser.parse_args()
    bodies = json.loads(Path(asked.bodies).read_text())
    found = uvloop.run(measure(asked.url, bodies, clients=asked.clients, seconds=asked.seconds))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
