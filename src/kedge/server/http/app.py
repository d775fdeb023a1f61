"""Everything REST that is not a prediction: probes, metadata, the repository, metrics, explain.

Imported when first asked, and Starlette with it: a server that is only predicted with never needs
it. `lazy_app` is the ASGI application that does so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kedge.protocol import v1
from kedge.protocol.errors import ModelNotReady, ServingError
from kedge.server.dataplane import DataPlane
from kedge.server.http import cloudevents, openapi
from kedge.server.http.bodies import Bodies
from kedge.server.http.inference import encode_v1, header_lines, is_inference
from kedge.server.http.packing import PACKED_BYTES
from kedge.server.http.presence import while_present
from kedge.server.http.reply import error_reply
from kedge.server.http.streaming import Streaming
from kedge.server.limits import Limits
from kedge.server.log import logger
from kedge.server.metrics import Metrics, page
from kedge.server.model import RequestHeaders
from kedge.server.observing import Observer
from kedge.server.request_id import NAME, chosen

Handler = Callable[[Request], Awaitable[Response]]


def make_app(
    dataplane: DataPlane,
    metrics: Metrics,
    limits: Limits,
    observer: Observer | None = None,
    *,
    docs: bool = True,
) -> ASGIApp:
    """The ASGI application over `dataplane`."""
    rest = Rest(dataplane, metrics, limits)
    app: ASGIApp = Starlette(
        routes=[
            Route(path, _guarded(handler), methods=[verb])
            for verb, path, handler in rest.table()
            if docs or path != "/docs"
        ],
        exception_handlers={HTTPException: _http_error, Exception: _unexpected},
        middleware=[Middleware(GZipMiddleware, minimum_size=PACKED_BYTES, compresslevel=1)],
    )
    if observer is not None:
        from kedge.server.http.observed import Observed

        app = Observed(app, observer, limits)
    return Named(app)


class Named:
    """Every request has an id, its client's or a new one, and every answer says it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = scope["headers"]
        sent = next((value for name, value in headers if name == NAME), b"")
        scope["request_id"] = chosen(sent)
        request_id = scope["request_id"].encode("latin-1")
        if request_id != sent:
            kept = [(name, value) for name, value in headers if name != NAME]
            scope["headers"] = [*kept, (NAME, request_id)]

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (NAME, request_id)]
            await send(message)

        await self._app(scope, receive, named)


class Rest:
    """One method per endpoint."""

    def __init__(self, dataplane: DataPlane, metrics: Metrics, limits: Limits) -> None:
        self._dataplane = dataplane
        self._metrics = metrics
        self._bodies = Bodies(dataplane.side, limits)
        self._streaming = Streaming(dataplane, self._bodies)

    def table(self) -> list[tuple[str, str, Handler]]:
        model, versioned = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
        return [
            ("GET", "/", self.alive),
            ("GET", "/v1/models", self.list_models),
            ("POST", "/v1/models/{name}:predict", self._streaming.predict),
            ("POST", "/v1/models/{name}:explain", self.explain),
            ("GET", "/v1/models/{name}", self.model_ready),
            ("GET", "/v2", self.server_metadata),
            ("GET", "/v2/", self.server_metadata),
            ("GET", "/v2/health/live", self.live),
            ("GET", "/v2/health/ready", self.ready),
            ("GET", "/v2/models", self.list_models),
            ("GET", f"{versioned}/ready", self.model_ready),
            ("GET", f"{model}/ready", self.model_ready),
            *(
                ("POST", f"{base}/{verb}", getattr(self._streaming, verb))
                for base in (versioned, model)
                for verb in ("infer_stream", "generate_stream", "generate")
            ),
            ("GET", "/v2/models/stats", self.statistics),
            ("GET", f"{versioned}/stats", self.statistics),
            ("GET", f"{model}/stats", self.statistics),
            ("GET", versioned, self.model_metadata),
            ("GET", model, self.model_metadata),
            ("POST", "/v2/repository/index", self.index),
            ("POST", "/v2/repository/models/{name}/load", self.load),
            ("POST", "/v2/repository/models/{name}/unload", self.unload),
            ("GET", "/metrics", self.metrics),
            ("GET", "/openapi.json", self.openapi),
            ("GET", "/docs", self.docs),
        ]

    # -- probes and metadata ---------------------------------------------------------------------

    async def alive(self, request: Request) -> Response:
        return _json({"status": "alive"})

    async def live(self, request: Request) -> Response:
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        ready = await self._dataplane.whole_ready()
        return _json({"ready": ready}, 200 if ready else 503)

    async def list_models(self, request: Request) -> Response:
        return _json({"models": self._dataplane.repository.names()})

    async def model_ready(self, request: Request) -> Response:
        name, version = _model(request)
        await self._dataplane.check_ready(name, version)
        return _json({"name": name, "ready": True})

    async def server_metadata(self, request: Request) -> Response:
        about = self._dataplane.server_metadata()
        return _json(
            {"name": about.name, "version": about.version, "extensions": list(about.extensions)}
        )

    async def model_metadata(self, request: Request) -> Response:
        return _json(self._dataplane.model_metadata(*_model(request)).to_json())

    async def statistics(self, request: Request) -> Response:
        """Of one model; of all under `/v2/models/stats`."""
        params = request.path_params
        found = await self._dataplane.model_statistics(
            params.get("name", ""), params.get("version", "")
        )
        return _json({"model_stats": [one.to_json() for one in found]})

    async def metrics(self, request: Request) -> Response:
        crew = self._dataplane.crew
        families = self._metrics.families() if crew is None else await crew.families()
        text, content_type = page(families, request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})

    # -- the document ----------------------------------------------------------------------------

    def _described(self) -> dict[str, Any]:
        routes = [
            (verb, path, handler.__name__.replace("_", " ").capitalize() + ".")
            for verb, path, handler in self.table()
        ]
        return openapi.document(self._dataplane.server_metadata().version, routes)

    async def openapi(self, request: Request) -> Response:
        return _json(self._described())

    async def docs(self, request: Request) -> Response:
        return HTMLResponse(openapi.page(self._described(), self._dataplane.repository.names()))

    # -- the repository --------------------------------------------------------------------------

    async def index(self, request: Request) -> Response:
        body = await self._bodies.json(request) if await request.body() else {}
        only_ready = bool(body.get("ready", False)) if isinstance(body, dict) else False
        return _json(self._dataplane.repository.index(only_ready=only_ready))

    async def load(self, request: Request) -> Response:
        name = request.path_params["name"]
        try:
            entry = await self._dataplane.repository.load(name)
        except ServingError:
            raise
        except Exception as error:
            raise ModelNotReady(name, str(error)) from error
        if not entry.model.ready:
            raise ModelNotReady(name)
        return _json({"name": name, "load": True})

    async def unload(self, request: Request) -> Response:
        name = request.path_params["name"]
        await self._dataplane.repository.unload(name)
        return _json({"name": name, "unload": True})

    # -- explain ---------------------------------------------------------------------------------

    async def explain(self, request: Request) -> Response:
        entry = self._dataplane.find(*_model(request))
        try:
            payload = await self._bodies.json(request)
            event = cloudevents.read(request.headers, payload)
            payload = event.data if event is not None else payload
            request_id = request.scope["request_id"]
            asked = RequestHeaders(dict(request.headers))
            answer = await while_present(
                request, self._dataplane.answer(entry, "explain", payload, request_id, asked)
            )
        except ServingError as error:
            entry.metrics.errors[error.reason] += 1
            entry.metrics.requests["v1", error_reply(error).status] += 1
            raise
        entry.metrics.requests["v1", 200] += 1
        headers = {"content-type": "application/json"}
        body = encode_v1(answer)
        if event is not None:
            body, headers = cloudevents.answer(event, entry.model.name, answer)
        told = header_lines(asked.response).decode("latin-1").splitlines()
        headers |= dict(line.split(": ", 1) for line in told)
        return Response(body, headers=headers)


def _model(request: Request) -> tuple[str, str]:
    return request.path_params["name"], request.path_params.get("version", "")


def _json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        v1.encode_response(body), status, media_type="application/json", headers=headers
    )


def _error(error: ServingError) -> Response:
    reply = error_reply(error)
    headers = {"retry-after": "1"} if reply.status == 503 else None
    return Response(reply.body[0], reply.status, media_type="application/json", headers=headers)


def _guarded(handler: Handler) -> Handler:
    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except ServingError as error:
            return _error(error)
        except ClientDisconnect:
            return Response(status_code=400)  # Nobody reads it.

    return guarded


async def _http_error(request: Request, error: Exception) -> Response:
    """No such path, no such verb: the protocol's error object, and KServe's `detail`."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else "Internal Server Error"
    headers = error.headers if isinstance(error, HTTPException) else None
    if status == 404 and is_inference(request.url.path):
        status, detail, headers = 405, "Method Not Allowed", {"Allow": "POST"}
    text = f"{detail}: {request.method} {request.url.path}"
    return _json({"error": text, "detail": detail}, status, headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _json({"error": "The server failed; its log tells why."}, 500)
