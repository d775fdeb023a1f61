"""An access log in the format that `--access_log_format` gives: a line per request, to stdout.

The placeholders are those of asgi-logger and gunicorn, `%(h)s "%(r)s" %(s)s %(L)s` and others.
Where no format is given, none of this is imported.
"""

from __future__ import annotations

import os
import re
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kedge.server.errors import BadUsage
from kedge.server.http.connection import Connection, FastCycle, Shared
from kedge.server.http.heads import Fields
from kedge.server.http.reply import Reply
from kedge.server.log import FLUSH_SECONDS

_PLACE = re.compile(r"%\((?P<name>\{[^}]+\}[ioe]|[A-Za-z]+)\)s")
_NONE = "-"


@dataclass(slots=True)
class Exchange:
    """A request and its answer."""

    client: str
    method: str
    path: str
    query: str
    status: int
    size: int
    seconds: float
    asked: Fields
    answered: Fields


def _header(fields: Fields, name: str) -> str:
    wanted = name.lower().encode("latin-1")
    return next((value.decode("latin-1") for key, value in fields if key == wanted), _NONE)


def _url(one: Exchange) -> str:
    return f"{one.path}?{one.query}" if one.query else one.path


def _status(one: Exchange) -> str:
    try:
        return HTTPStatus(one.status).phrase
    except ValueError:
        return ""


_ATOMS: Mapping[str, Callable[[Exchange], str]] = {
    "h": lambda one: one.client or _NONE,
    "client_addr": lambda one: one.client or _NONE,
    "l": lambda one: _NONE,
    "u": lambda one: _NONE,
    "t": lambda one: time.strftime("[%d/%b/%Y:%H:%M:%S %z]"),
    "r": lambda one: f"{one.method} {_url(one)} HTTP/1.1",
    "request_line": lambda one: f"{one.method} {_url(one)} HTTP/1.1",
    "R": lambda one: f"{one.method} {one.path} HTTP/1.1",
    "m": lambda one: one.method,
    "U": lambda one: one.path,
    "q": lambda one: one.query,
    "H": lambda one: "HTTP/1.1",
    "s": lambda one: str(one.status),
    "st": _status,
    "status_code": lambda one: f"{one.status} {_status(one)}".rstrip(),
    "B": lambda one: str(one.size),
    "b": lambda one: str(one.size) if one.size else _NONE,
    "f": lambda one: _header(one.asked, "referer"),
    "a": lambda one: _header(one.asked, "user-agent"),
    "T": lambda one: str(int(one.seconds)),
    "M": lambda one: str(int(one.seconds * 1e3)),
    "D": lambda one: str(int(one.seconds * 1e6)),
    "L": lambda one: f"{one.seconds:.6f}",
    "p": lambda one: f"<{os.getpid()}>",
}


class AccessLog:
    """Lines in one format, written by a timer."""

    def __init__(
        self,
        form: str,
        loop: AbstractEventLoop,
        write: Callable[[str], object] | None = None,
    ) -> None:
        self._loop = loop
        self._write = write or _to_stdout
        self._lines: list[str] = []
        self._pieces = _parse(form)

    def note(self, one: Exchange) -> None:
        if not self._lines:
            self._loop.call_later(FLUSH_SECONDS, self.flush)
        self._lines.append("".join(piece(one) for piece in self._pieces) + "\n")

    def flush(self) -> None:
        if self._lines:
            text = "".join(self._lines)
            self._lines.clear()
            self._write(text)


def _to_stdout(text: str) -> None:
    try:
        print(text, end="", flush=True)
    except (OSError, ValueError):
        return  # A full disk or a closed pipe must not end a prediction.


def check_format(form: str) -> None:
    """Raises `BadUsage` where a placeholder is not known."""
    _parse(form)


def _parse(form: str) -> list[Callable[[Exchange], str]]:
    pieces: list[Callable[[Exchange], str]] = []
    end = 0
    for match in _PLACE.finditer(form):
        pieces.append(_text(form[end : match.start()]))
        pieces.append(_atom(match["name"]))
        end = match.end()
    return [*pieces, _text(form[end:])]


def _text(text: str) -> Callable[[Exchange], str]:
    plain = text.replace("%%", "%")
    return lambda one: plain


def _atom(name: str) -> Callable[[Exchange], str]:
    if name.startswith("{"):
        inner = name[1:-2]
        if name.endswith("i"):
            return lambda one: _header(one.asked, inner)
        if name.endswith("o"):
            return lambda one: _header(one.answered, inner)
        value = os.environ.get(inner, _NONE)
        return lambda one: value
    if name not in _ATOMS:
        raise BadUsage(
            f"--access_log_format: %({name})s is not known.",
            fix=f"Use one of {', '.join(_ATOMS)}, {{header}}i, {{header}}o, {{variable}}e.",
        )
    return _ATOMS[name]


class LoggedConnection(Connection):
    """Notes what it answers itself; the rest is noted by `Logged`."""

    def __init__(self, shared: Shared, loop: AbstractEventLoop, access: AccessLog) -> None:
        super().__init__(shared, loop)
        self._access = access
        self._began: dict[FastCycle, float] = {}

    def _answer(self, cycle: FastCycle, body: bytes | list[bytes]) -> None:
        self._began[cycle] = perf_counter()
        super()._answer(cycle, body)

    def _abandon(self, cycle: FastCycle) -> None:
        self._began.pop(cycle, None)
        super()._abandon(cycle)

    def _send(self, cycle: FastCycle, reply: Reply) -> None:
        target = cycle.target
        verb = "/infer" if target.protocol == "v2" else ":predict"
        version = f"/versions/{target.version}" if target.version else ""
        answered = [(b"content-type", reply.content_type)]
        for line in reply.headers.split(b"\r\n"):
            name, _, value = line.partition(b": ")
            answered.append((name, value))
        one = Exchange(
            self.client[0] if self.client else "",
            "POST",
            f"/{target.protocol}/models/{target.model}{version}{verb}",
            "",
            reply.status,
            sum(map(len, reply.body)),
            perf_counter() - self._began.pop(cycle, perf_counter()),
            cycle.headers,
            answered,
        )
        super()._send(cycle, reply)
        self._access.note(one)


class Logged:
    """Notes what an ASGI application answers."""

    def __init__(self, app: ASGIApp, access: AccessLog) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = scope.get("client") or ("",)
        query = scope.get("query_string", b"").decode("latin-1")
        one = Exchange(
            client[0], scope["method"], scope["path"], query, 500, 0, 0.0, scope["headers"], []
        )
        began = perf_counter()

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                one.status, one.answered = message["status"], list(message.get("headers", ()))
            else:
                one.size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            one.seconds = perf_counter() - began
            self._access.note(one)
