"""What the autoscaler shows over HTTP: read-only, a plain ASGI application.

On one machine the API serves it as it serves any Service's proxy; on Kubernetes the API server
reaches it through the Service `kedge-autoscaler`. Either way a client asks at
`/api/v1/namespaces/{kedge}/services/kedge-autoscaler:http/proxy/scaling?namespace=...&service=...`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from kedge.autoscaler.autoscaler import Autoscaler

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

SERVICE_NAME = "kedge-autoscaler"
PORT_NAME = "http"


class ScalingApp:
    """Answers `GET /scaling`, with `namespace` and `service` to choose."""

    def __init__(self, autoscaler: Autoscaler) -> None:
        self._autoscaler = autoscaler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope["path"])
        if scope["method"] not in ("GET", "HEAD"):
            await _answer(send, 405, {"message": "this is read-only"})
        elif path.rstrip("/") == "/scaling":
            query = parse_qs(scope.get("query_string", b"").decode())
            await _answer(send, 200, self._scaling(query))
        else:
            await _answer(send, 404, {"message": f"nothing is at {path}; /scaling is"})

    def _scaling(self, query: Mapping[str, list[str]]) -> dict[str, Any]:
        namespace = (query.get("namespace") or [""])[0]
        service = (query.get("service") or [""])[0]
        return {
            "missing": self._autoscaler.missing,
            "gateways": self._autoscaler.traffic.names,
            "items": self._autoscaler.describe(namespace, service),
        }


async def _answer(send: Send, code: int, body: Any) -> None:
    data = json.dumps(body).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(data)).encode()),
    ]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": data})
