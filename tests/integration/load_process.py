"""An open-loop load on a server of known delay, both in one process.

    python load_process.py GATEWAY_PORT HOST REQUESTS_PER_SECOND SECONDS

Prints the server's port, waits for a line, sends the load, prints how many were answered.
"""

from __future__ import annotations

import asyncio
import sys
import time

DELAY = 0.002
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CONNECTIONS = 64


class Server(asyncio.Protocol):
    """Answers any request without a body after a while; costs next to nothing."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(DELAY, self._transport.write, ANSWER)


class Client(asyncio.Protocol):
    """A connection that sends one request when told to."""

    def __init__(self, host: str, idle: list[Client]) -> None:
        self._request = f"GET / HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()
        self._idle = idle
        self.answered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._idle.append(self)

    def send(self) -> None:
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.answered += 1
        self._idle.append(self)


async def main(port: int, host: str, rate: float, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.2", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    idle: list[Client] = []
    clients = [
        (await loop.create_connection(lambda: Client(host, idle), "127.0.0.1", port))[1]
        for _ in range(CONNECTIONS)
    ]
    began, sent = time.monotonic(), 0
    while (elapsed := time.monotonic() - began) < seconds:
        while sent < elapsed * rate and idle:
            idle.pop().send()
            sent += 1
        await asyncio.sleep(0.0005)
    while len(idle) < CONNECTIONS:  # noqa: ASYNC110 # nothing here is worth an event
        await asyncio.sleep(0.01)
    print(sum(client.answered for client in clients), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
