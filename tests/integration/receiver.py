"""A small real HTTP server that keeps what it is sent, in threads of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic


@dataclass
class Received:
    """One POST: lower-case headers and the body."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """What came, and how to answer what comes.

    Attributes:
        status: gives the next answer's status; may take its time.
    """

    url: str = ""
    got: list[Received] = field(default_factory=list)
    status: Callable[[], int] = lambda: 200
    change: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, count: int, seconds: float = 20.0) -> list[Received]:
        """The first `count` requests, as soon as they are here."""
        end = monotonic() + seconds
        with self.change:
            while len(self.got) < count:
                assert self.change.wait(end - monotonic()), f"{len(self.got)} of {count} came"
            return self.got[:count]


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = receiver.status()
            if status < 300:
                with receiver.change:
                    receiver.got.append(Received(self.path, headers, body))
                    receiver.change.notify_all()
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
