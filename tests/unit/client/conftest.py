"""A small API to talk to: canned answers over real HTTP on the loopback."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from kedge.client.kubeconfig import Access

Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]


class FakeApi:
    """Answers by (method, path); `requests` holds what came."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Answer | Callable[[web.Request], Any]] = {}
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.access = Access("", "test kubeconfig")
        self.url = ""

    def on(self, method: str, path: str, body: Any, code: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[method, path] = (code, body, named)

    def stream(self, path: str, *pieces: bytes) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for piece in pieces:
                await response.write(piece)
            return response

        self.answers["GET", path] = answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        self.requests.append(
            (request.method, request.path, dict(request.query), json.loads(text) if text else None)
        )
        if request.query.get("watch"):
            key = ("WATCH", request.path)
        else:
            key = (request.method, request.path)
        answer = self.answers.get(key)
        if answer is None:
            return web.json_response(
                {"kind": "Status", "reason": "NotFound", "message": f"{request.path} not found"},
                status=404,
            )
        if callable(answer):
            streamed: web.StreamResponse = await answer(request)
            return streamed
        code, body, headers = (*answer, {})[:3]
        return web.json_response(body, status=code, headers=headers)


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    fake = FakeApi()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.handle)
    server = TestServer(app)
    await server.start_server()
    fake.url = str(server.make_url("")).rstrip("/")
    fake.access = Access(fake.url, "test kubeconfig", token="secret")
    yield fake
    await server.close()
