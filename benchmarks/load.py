"""A closed-loop HTTP load generator: N keep-alive connections, each with one request in flight.

Run as a process of its own, pinned to a core that the server does not use::

    python -m benchmarks.load http://127.0.0.1:8080/v2/models/iris/infer bodies.json \
        --clients 64 --seconds 5

`bodies.json` is a list of request bodies, sent in turn, so that no cache flatters the server. A
body is a string of JSON, or an object: `body` or `file` (a path, for bytes), `headers`, and
`status` where another than 200 is right (0: any other). Prints one JSON object.

Bare sockets and epoll: a generator that is slower than the server would measure itself.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import json
import select
import socket
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_CHUNKED = -2
_UNKNOWN = -1
_SMALL, _LARGE = 65_536, 1 << 20
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


class Client:
    """One connection: sends the next request when the last answer is whole.

    Attributes:
        left: what the socket has not taken yet of the request.
        needed: bytes of the whole answer; unknown while its head is not here.
    """

    __slots__ = ("began", "chunks", "got", "left", "needed", "request", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.chunks: list[bytes] = []
        self.left = memoryview(b"")
        self.needed = _UNKNOWN
        self.got = 0
        self.began = 0.0
        self.request = Request(0, b"")

    def receive(self) -> bool | None:
        """Whether the answer is whole; None when the server has hung up."""
        try:
            data = self.sock.recv(_LARGE if self.needed > _SMALL else _SMALL)
        except BlockingIOError:
            return False
        except ConnectionError:
            data = b""
        if not data:
            return None
        if self.needed == _UNKNOWN:
            data = b"".join((*self.chunks, data)) if self.chunks else data
            self.chunks.clear()
            self.needed, self.got = answer_size(data), 0
        self.chunks.append(data)
        self.got += len(data)
        if self.needed == _CHUNKED:
            return b"".join(self.chunks[-2:])[-7:] == b"\r\n0\r\n\r\n"
        return 0 <= self.needed <= self.got


def answer_size(data: bytes) -> int:
    """Bytes of the answer that `data` begins; -1 while its head is not whole, or `_CHUNKED`."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return _UNKNOWN
    at = data.find(b"\r\ncontent-length:", 0, end)
    if at < 0:
        at = data[:end].lower().find(b"\r\ncontent-length:")
    if at < 0 and b"transfer-encoding: chunked" in data[:end].lower():
        return _CHUNKED
    if at < 0:
        raise SystemExit(f"the answer has no content-length: {data[:end].decode()}")
    stop = data.find(b"\r", at + 17)
    return end + 4 + int(data[at + 17 : stop])


class Run:
    """What a run has seen so far.

    Attributes:
        answered: requests answered in all, with those of the warm-up.
        kept: answers to the first requests, by the request's place in the list.
    """

    def __init__(
        self, address: tuple[str, int], requests: list[Request], *, keep: int, pause: float
    ) -> None:
        self._address = address
        self._requests = requests
        self._turn = 0
        self._keep = keep
        self._pause = pause
        self._poll = select.epoll()
        self._clients: dict[int, Client] = {}
        self._paused: list[tuple[float, int, Client]] = []
        self._order = count()
        self.counting = False
        self.times: list[float] = []
        self.answered = 0
        self.failed = 0
        self.lost = 0
        self.example = ""
        self.kept: dict[int, str] = {}

    # -- connections -----------------------------------------------------------------------------

    def connect(self) -> None:
        sock = socket.create_connection(self._address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        client = Client(sock)
        self._clients[sock.fileno()] = client
        self._poll.register(sock, select.EPOLLIN)
        self._send(client)

    def _close(self, client: Client) -> None:
        self._poll.unregister(client.sock)
        del self._clients[client.sock.fileno()]
        client.sock.close()

    def close(self) -> None:
        for client in list(self._clients.values()):
            self._close(client)
        self._poll.close()

    # -- requests --------------------------------------------------------------------------------

    def _send(self, client: Client) -> None:
        request = self._requests[self._turn]
        self._turn = (self._turn + 1) % len(self._requests)
        client.request = request
        client.began = time.perf_counter()
        wire = request.wire
        try:
            sent = client.sock.send(wire)
        except BlockingIOError:
            sent = 0
        except ConnectionError:
            return  # What the server said, if anything, is still to be read.
        if sent < len(wire):
            client.left = memoryview(wire)[sent:]
            self._poll.modify(client.sock, select.EPOLLIN | select.EPOLLOUT)

    def _send_rest(self, client: Client) -> None:
        try:
            sent = client.sock.send(client.left)
        except BlockingIOError:
            return
        except ConnectionError:
            sent = len(client.left)
        client.left = client.left[sent:]
        if not client.left:
            self._poll.modify(client.sock, select.EPOLLIN)

    def until(self, moment: float) -> None:
        """Asks and listens until then."""
        clients = self._clients
        while (left := moment - time.perf_counter()) > 0:
            if self._paused:
                left = min(left, self._resume())
            for number, event in self._poll.poll(left):
                client = clients.get(number)
                if client is None:
                    continue
                if event & select.EPOLLOUT:
                    self._send_rest(client)
                if event & ~select.EPOLLOUT:
                    whole = client.receive()
                    if whole:
                        self._ended(client)
                    elif whole is None:
                        self.lost += 1
                        self._close(client)
                        self.connect()

    def _resume(self) -> float:
        """Sends what has paused for long enough; seconds until the next has."""
        while self._paused and self._paused[0][0] <= time.perf_counter():
            self._send(heapq.heappop(self._paused)[2])
        return max(0.0, self._paused[0][0] - time.perf_counter()) if self._paused else 1.0

    def _ended(self, client: Client) -> None:
        now = time.perf_counter()
        chunks = client.chunks
        first = chunks[0]
        status = first[9:12]
        self.answered += 1
        if not client.request.right(status):
            self.failed += 1
            self.example = self.example or first.decode(errors="replace")[:500]
        elif self.counting:
            self.times.append(now - client.began)
        if status == b"200" and len(self.kept) < self._keep:
            text = b"".join(chunks).partition(b"\r\n\r\n")[2]
            self.kept.setdefault(client.request.index, text.decode(errors="replace"))
        chunks.clear()
        client.needed = _UNKNOWN
        if status != b"200" and b"\r\nconnection: close" in first.lower():
            self._close(client)
            self.connect()
        elif self._pause:
            heapq.heappush(self._paused, (now + self._pause, next(self._order), client))
        else:
            self._send(client)


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


def measure(run: Run, *, clients: int, seconds: float, warm_up: float = 1.0) -> dict[str, Any]:
    """Requests per second and latency percentiles, in seconds."""
    for _ in range(clients):
        run.connect()
    run.until(time.perf_counter() + warm_up)
    run.counting, began, busy = True, time.perf_counter(), time.process_time()
    run.until(began + seconds)
    while not run.times and time.perf_counter() < began + seconds + _SLOWEST_SECONDS:
        run.until(time.perf_counter() + 0.05)
    elapsed = time.perf_counter() - began
    busy = time.process_time() - busy
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
        "generator_busy": round(busy / elapsed, 2),
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
    target = urlsplit(asked.url)
    requests = read_requests(asked.url, json.loads(Path(asked.bodies).read_text()))
    address = target.hostname or "127.0.0.1", target.port or 80
    run = Run(address, requests, keep=asked.keep, pause=asked.pause)
    gc.disable()  # A collection here would show up as the server's latency.
    found = measure(run, clients=asked.clients, seconds=asked.seconds, warm_up=asked.warm_up)
    run.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
