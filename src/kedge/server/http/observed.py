"""REST inference that is observed: its payloads are logged, its requests traced.

`ObservedInference` takes the place of `Inference` on the short way, `Observed` wraps the ASGI
application for explanations and streams.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kedge.protocol.open_inference import rest
from kedge.server.batching import Job
from kedge.server.dataplane import DataPlane
from kedge.server.http.heads import Fields, Headers, Target
from kedge.server.http.inference import Inference
from kedge.server.http.reply import Reply
from kedge.server.limits import Limits
from kedge.server.observing import DID_NOT_WAIT, Ending, Observation, Observer

_LENGTH = rest.LENGTH_HEADER.encode()
_LATER = re.compile(
    r"/v1/models/([^/]+):(?:explain|predict)"
    r"|/v2/models/([^/]+)(?:/versions/[^/]+)?/(?:infer_stream|generate|generate_stream)"
)
_GONE = 499
"""What proxies log where a client did not wait."""


class ObservedInference(Inference):
    """Observes what another answers."""

    def __init__(
        self, inner: Inference, dataplane: DataPlane, limits: Limits, observer: Observer
    ) -> None:
        super().__init__(dataplane, limits)
        self._inner = inner
        self._observer = observer

    def answer(
        self,
        target: Target,
        headers: Headers,
        body: bytes | list[bytes],
        request_id: str = "",
    ) -> Reply | Job | Coroutine[Any, Any, Reply]:
        verb = "/infer" if target.protocol == "v2" else ":predict"
        name = f"POST /{target.protocol}/models/{target.model}{verb}"
        if isinstance(body, list) and self._observer.payloads is not None:
            body = b"".join(body)
        told = body if isinstance(body, bytes) else b""
        seen = _begin(self._observer, name, target.model, headers, told)
        with seen.current():
            outcome = self._inner.answer(target, headers, body, seen.request_id)
        if isinstance(outcome, Reply):
            return _end(seen, outcome)
        if isinstance(outcome, Job):
            encode = outcome.encode
            assert encode is not None
            outcome.encode = Ending(seen, lambda job: _encoded(seen, encode(job), job), _GONE)
            return outcome
        return _later(seen, outcome)


def _encoded(
    seen: Observation, reply: Reply | Coroutine[Any, Any, Reply], job: Job
) -> Reply | Coroutine[Any, Any, Reply]:
    return _end(seen, reply, job) if isinstance(reply, Reply) else _later(seen, reply, job)


async def _later(
    seen: Observation, outcome: Coroutine[Any, Any, Reply], job: Job | None = None
) -> Reply:
    with seen.current():
        try:
            return _end(seen, await outcome, job)
        except asyncio.CancelledError:
            seen.failed(_GONE, DID_NOT_WAIT)
            raise


def _begin(observer: Observer, name: str, model: str, headers: Fields, body: bytes) -> Observation:
    content_type = encoding = length = b""
    for key, value in headers:
        if key == b"content-type":
            content_type = value
        elif key == b"content-encoding":
            encoding = value
        elif key == _LENGTH:
            length = value
    return observer.begin(
        name,
        model,
        headers,
        body,
        content_type=content_type.decode("latin-1"),
        encoding=encoding if encoding != b"identity" else b"",
        json_length=int(length) if length.isdigit() and len(length) < 18 else None,
    )


def _end(seen: Observation, reply: Reply, job: Job | None = None) -> Reply:
    if reply.status != 200:
        text = b"".join(reply.body)[:500].decode("utf-8", "replace")
        seen.failed(reply.status, text, job=job)
        return reply
    body = b""
    if seen.wants_answer:
        body = reply.body[0] if len(reply.body) == 1 else b"".join(reply.body)
    length = None
    if reply.headers.startswith(_LENGTH):
        length = int(reply.headers.partition(b"\r\n")[0].partition(b": ")[2])
    seen.answered(body, reply.content_type.decode("latin-1"), length, job=job)
    return reply


class Observed:
    """Observes the inferences that an ASGI application answers."""

    def __init__(self, app: ASGIApp, observer: Observer, limits: Limits) -> None:
        self._app = app
        self._observer = observer
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        match = _LATER.fullmatch(scope["path"]) if is_post else None
        if match is None:
            await self._app(scope, receive, send)
            return
        body, end = await _whole(receive)
        name = f"POST {scope['path']}"
        model = match[1] or match[2]
        seen = _begin(self._observer, name, model, scope["headers"], body)
        scope["request_id"] = seen.request_id
        if seen.span is not None:
            kept = [(key, value) for key, value in scope["headers"] if key != b"traceparent"]
            scope["headers"] = [*kept, (b"traceparent", seen.span.traceparent.encode("latin-1"))]
        answer = _Answer(send, self._limits.binary_bytes if seen.wants_answer else 0)
        said: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        if end is not None:
            said.insert(0, end)

        async def again() -> Message:
            return said.pop() if said else await receive()

        with seen.current():
            try:
                await self._app(scope, again, answer.send)
            except asyncio.CancelledError:
                seen.failed(_GONE, DID_NOT_WAIT)
                raise
        if answer.status == 200:
            seen.answered(b"".join(answer.pieces), answer.content_type)
        else:
            seen.failed(answer.status, b"".join(answer.pieces)[:500].decode("utf-8", "replace"))


async def _whole(receive: Receive) -> tuple[bytes, Message | None]:
    """The body, bounded by the connection; and the client's hanging up, if it has."""
    pieces: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(pieces), message
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces), None


class _Answer:
    """Keeps what is sent, up to a limit; all of an error."""

    def __init__(self, send: Send, limit: int) -> None:
        self.status = 500
        self.content_type = ""
        self.pieces: list[bytes] = []
        self._send = send
        self._left = limit

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.content_type = (
                dict(message.get("headers", ())).get(b"content-type", b"").decode("latin-1")
            )
            if self.status != 200:
                self._left = 500
        elif (piece := message.get("body", b"")) and self._left > 0:
            self.pieces.append(piece[: self._left])
            self._left -= len(piece)
        await self._send(message)
