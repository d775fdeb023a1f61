"""Calls an ASGI application as a server would, without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import msgspec
from starlette.types import ASGIApp, Message, Scope


@dataclass
class Answer:
    """What came back."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    def header(self, name: str) -> str:
        return dict(self.headers).get(name, "")

    @property
    def warnings(self) -> list[str]:
        return [value for name, value in self.headers if name == "warning"]


def _scope(method: str, url: str, headers: dict[str, str]) -> Scope:
    path, _, query = url.partition("?")
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "https",
        "method": method, "path": unquote(path), "raw_path": path.encode(),
        "query_string": query.encode(), "root_path": "", "server": ("api", 443),
        "client": ("127.0.0.1", 1),
        "headers": [(name.lower().encode(), text.encode()) for name, text in headers.items()],
    }  # fmt: skip


class Asker:
    """A client of one application.

    Args:
        token: borne with every request; None for none.
    """

    def __init__(self, app: ASGIApp, token: str | None = None) -> None:
        self._app = app
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    async def ask(
        self, method: str, url: str, body: Any = None, *, type: str = "application/json",
        **headers: str,
    ) -> Answer:  # fmt: skip
        """One request and its whole answer."""
        data = (
            body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        )
        answer = Answer()
        asked = iter([{"type": "http.request", "body": data, "more_body": False}])
        ended = asyncio.Event()

        async def receive() -> Message:
            for message in asked:
                return message
            await ended.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            _take(answer, message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                ended.set()

        given = {**self._headers, "content-type": type, **headers}
        await self._app(_scope(method, url, given), receive, send)
        return answer

    async def get(self, url: str, **headers: str) -> Answer:
        return await self.ask("GET", url, **headers)

    @asynccontextmanager
    async def stream(self, url: str, **headers: str) -> AsyncIterator[asyncio.Queue[Any]]:
        """The lines of an endless answer, decoded, while the block runs."""
        lines: asyncio.Queue[Any] = asyncio.Queue()
        left = asyncio.Event()
        first = True

        async def receive() -> Message:
            nonlocal first
            if first:
                first = False
                return {"type": "http.request", "body": b"", "more_body": False}
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            for line in message.get("body", b"").splitlines():
                lines.put_nowait(msgspec.json.decode(line))

        scope = _scope("GET", url, {**self._headers, **headers})
        task = asyncio.ensure_future(self._app(scope, receive, send))
        try:
            yield lines
        finally:
            left.set()
            await asyncio.wait([task], timeout=1)
            assert task.done(), "the answer must end when the client has gone"


def _take(answer: Answer, message: Message) -> None:
    if message["type"] == "http.response.start":
        answer.status = message["status"]
        answer.headers = [(name.decode(), text.decode()) for name, text in message["headers"]]
    else:
        answer.body += message.get("body", b"")
