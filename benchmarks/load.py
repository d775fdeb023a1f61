"""A closed-loop HTTP load generator: N keep-alive connections, each with one request in flight.

Run as a process of its own, pinned to a core that the server does not use::

    python -m benchmarks.load http://127.0.0.1:8080/v2/models/iris/infer bodies.json \
        --clients 64 --seconds 5

`bodies.json` is a list of request bodies, sent in turn, so that no cache flatters the server. A
body is a string of JSON, or an object: `body` or `file` (a path, for bytes), `headers`, and
`status` where another than 200 is right (0: any other). Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

_CHUNKED = -2
_SLOWEST_SECONDS = 20.0
"""A run goes on until one request is answered, for so long at most."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, as it stands on the wire, and the status that is right (b"0": not 200)."""

    index: int
    wire: bytes
    status: bytes = b"200"

    def right(self, status: bytes) -> bool:
        return status == self.status or (self.status == b"0" and status != b"200")


class Client(asyncio.Protocol):
    """One connection: sends the next request when the last answer is whole."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._chunks: list[bytes] = []
        self._needed = -1
        self._got = 0
        self._closed_by_server = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        if not self._run.open:
            self._transport.close()
            return
        self._request = self._run.next()
        self._began = time.perf_counter()
        self._transport.write(self._request.wire)

    def data_received(self, data: bytes) -> None:
        if self._needed == -1:
            data = b"".join((*self._chunks, data))
            self._chunks.clear()
            self._needed = answer_size(data)
            self._got = 0
        self._chunks.append(data)
        self._got += len(data)
        if self._needed == _CHUNKED:
            if b"".join(self._chunks[-2:])[-7:] == b"\r\n0\r\n\r\n":
                self._ended()
        elif 0 <= self._needed <= self._got:
            self._ended()

    def _ended(self) -> None:
        run = self._run
        run.take(self._request, time.perf_counter() - self._began, self._chunks)
        first = self._chunks[0]
        self._chunks.clear()
        self._needed = -1
        if first[9:12] != b"200" and b"\r\nconnection: close" in first.lower():
            self._closed_by_server = True
            self._transport.close()
        elif run.pause:
            asyncio.get_running_loop().call_later(run.pause, self._send)
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._run.open:
            self._run.lost += not self._closed_by_server
            self._run.connect_later()


def answer_size(data: bytes) -> int:
    """Bytes of the answer that `data` begins; -1 while its head is not whole, or `_CHUNKED`."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return -1
    head = data[:end].lower()
    at = head.find(b"\r\ncontent-length:")
    if at < 0 and b"transfer-encoding: chunked" in head:
        return _CHUNKED
    if at < 0:
        raise SystemExit(f"the answer has no content-length: {head.decode()}")
    return end + 4 + int(head[at + 17 :].split(b"\r\n", 1)[0])


class Run:
    """What a run has seen so far.

    Attributes:
        answered: requests answered in all, with those of the warm-up.
        kept: answers to the first requests, by the request's place in the list.
    """

    def __init__(self, requests: list[Request], *, keep: int = 0, pause: float = 0.0) -> None:
        self._requests = requests
        self._turn = 0
        self._keep = keep
        self.pause = pause
        self.open = True
        self.counting = False
        self.times: list[float] = []
        self.answered = 0
        self.failed = 0
        self.lost = 0
        self.example = ""
        self.first = asyncio.Event()
        self.address = "", 0
        self._connecting: set[asyncio.Task[None]] = set()
        self.kept: dict[int, str] = {}

    async def connect(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: Client(self), *self.address)

    def connect_later(self) -> None:
        """In place of a connection that the server closed."""
        task = asyncio.create_task(self.connect())
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def next(self) -> Request:
        request = self._requests[self._turn]
        self._turn = (self._turn + 1) % len(self._requests)
        return request

    def take(self, request: Request, seconds: float, answer: list[bytes]) -> None:
        self.answered += 1
        status = answer[0][9:12]
        if not request.right(status):
            self.failed += 1
            self.example = self.example or answer[0].decode(errors="replace")[:500]
            return
        if self.counting:
            self.times.append(seconds)
            self.first.set()
        if status == b"200" and len(self.kept) < self._keep:
            text = b"".join(answer).partition(b"\r\n\r\n")[2]
            self.kept.setdefault(request.index, text.decode(errors="replace"))


def read_requests(url: str, bodies: list[Any]) -> list[Request]:
    """The bodies of the file, each with its head."""
    target = urlsplit(url)
    requests = []
    for index, one in enumerate(bodies):
        entry: dict[str, Any] = {"body": one} if isinstance(one, str) else one
        body = Path(entry["file"]).read_bytes() if "file" in entry else entry["body"].encode()
        headers = {"content-type": "application/json", **entry.get("headers", {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = (
            f"POST {target.path} HTTP/1.1\r\nhost: {target.netloc}\r\n{lines}"
            f"content-length: {len(body)}\r\n\r\n"
        )
        status = str(entry.get("status", 200)).encode()
        requests.append(Request(index, head.encode() + body, status))
    return requests


async def measure(
    url: str, run: Run, *, clients: int, seconds: float, warm_up: float = 1.0
) -> dict[str, Any]:
    """Requests per second and latency percentiles, in seconds."""
    target = urlsplit(url)
    run.address = target.hostname or "127.0.0.1", target.port or 80
    for _ in range(clients):
        await run.connect()
    await asyncio.sleep(warm_up)
    run.counting, began, busy = True, time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    with suppress(TimeoutError):
        await asyncio.wait_for(run.first.wait(), _SLOWEST_SECONDS)
    run.counting, run.open = False, False
    elapsed = time.perf_counter() - began
    times = sorted(run.times)
    if not times:
        raise SystemExit(f"no request was answered as it should: {run.example or 'no answer'}")
    return {
        "clients": clients,
        "requests": len(times),
        "per_second": round(len(times) / elapsed, 1),
        "p50": times[len(times) // 2],
        "p99": times[min(len(times) - 1, int(len(times) * 0.99))],
        "answered": run.answered,
        "failed": run.failed,
        "lost": run.lost,
        "example": run.example,
        "generator_busy": round((time.process_time() - busy) / elapsed, 2),
        "kept": run.kept,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("bodies")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warm-up", type=float, default=1.0)
    parser.add_argument("--pause", type=float, default=0.0, help="between answer and next request")
    parser.add_argument("--keep", type=int, default=0, help="how many answers to print")
    asked = parser.parse_args()
    requests = read_requests(asked.url, json.loads(Path(asked.bodies).read_text()))
    run = Run(requests, keep=asked.keep, pause=asked.pause)
    gc.disable()  # A collection here would show up as the server's latency.
    found = uvloop.run(
        measure(asked.url, run, clients=asked.clients, seconds=asked.seconds, warm_up=asked.warm_up)
    )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
