"""Answers of the small read-only HTTP parts, without a web framework."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Page = Callable[[Mapping[str, str]], Awaitable["Body"]]
Body = dict[str, Any] | str


class NotNow(Exception):
    """A page has no answer yet, or none any more; what it says is answered with 503."""


class ReadOnly:
    """Serves pages by path; each is given the query, and returns JSON or text.

    Args:
        pages: what answers, by path.
    """

    def __init__(self, pages: Mapping[str, Page]) -> None:
        self._pages = dict(pages)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope["path"]).rstrip("/")
        page = self._pages.get(path)
        if scope["method"] not in ("GET", "HEAD"):
            await _answer(send, 405, {"message": "this is read-only"})
        elif page is None:
            there = " and ".join(sorted(self._pages))
            await _answer(send, 404, {"message": f"nothing is at {path or '/'}; {there} are"})
        else:
            given = parse_qs(scope.get("query_string", b"").decode())
            try:
                body = await page({key: values[0] for key, values in given.items()})
            except ValueError as error:
                await _answer(send, 400, {"message": str(error)})
            except NotNow as error:
                await _answer(send, 503, f"{error}\n")
            else:
                await _answer(send, 200, body)


async def _answer(send: Send, code: int, body: Body) -> None:
    if isinstance(body, str):
        data, media = body.encode(), b"text/plain; version=0.0.4; charset=utf-8"
    else:
        data, media = json.dumps(body).encode(), b"application/json"
    headers = [(b"content-type", media), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": data})
