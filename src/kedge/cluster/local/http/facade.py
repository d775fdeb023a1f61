"""Every request comes in here: who asks, what for, and who answers."""

from __future__ import annotations

import hmac
import logging
import sqlite3
from collections.abc import Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from kedge.cluster.errors import (
    ApiError,
    BadRequest,
    MethodNotAllowed,
    NotFound,
    Unauthorized,
)
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.http import discovery, reviews
from kedge.cluster.local.http.answers import answer, refusal
from kedge.cluster.local.http.bodies import decode, flag, read_body
from kedge.cluster.local.http.customresources import CustomResources
from kedge.cluster.local.http.deleting import Deleter
from kedge.cluster.local.http.logs import read_log
from kedge.cluster.local.http.negotiation import choose_form, wants_aggregated_discovery
from kedge.cluster.local.http.openapi import OpenApi
from kedge.cluster.local.http.reading import Reader
from kedge.cluster.local.http.serviceproxy import ServiceProxies
from kedge.cluster.local.http.target import Target, parse_target
from kedge.cluster.local.http.watching import Watcher
from kedge.cluster.local.http.writing import Writer
from kedge.cluster.local.registry import not_found
from kedge.lib.clock import SYSTEM_CLOCK, Clock

log = logging.getLogger(__name__)

VERSION = {
    "major": "1",
    "minor": "32",
    "gitVersion": "v1.32.0+kedge",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
"""What `kubectl version` shows: the Kubernetes whose API this is like."""

_HEALTH = ("/healthz", "/livez", "/readyz")
_OPEN = (*_HEALTH, "/version", "/version/")


class Facade:
    """A Kubernetes API for one local cluster.

    Args:
        token: what clients must bear, except on a trusted socket.
        address: `host:port` that discovery tells clients.
        services: what answers to proxied requests, by a Service's namespace and name.
    """

    def __init__(
        self,
        cluster: LocalCluster,
        *,
        token: str,
        address: str = "",
        services: Mapping[tuple[str, str], ASGIApp] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._cluster = cluster
        self._token = token.encode()
        self._address = address
        self._clock = clock
        self._reader = Reader(cluster.registry, clock)
        self._watcher = Watcher(cluster.registry.store, self._reader)
        self._writer = Writer(cluster.registry, self._reader)
        self._deleter = Deleter(cluster.registry)
        self._openapi = OpenApi()
        self._custom = CustomResources(clock)
        self._services = ServiceProxies(services or {})

    def app(self, *, trusted: bool = False) -> ASGIApp:
        """The ASGI application; `trusted` where only the user can connect at all."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                raise ValueError(f"the API speaks HTTP only, not {scope['type']}")
            request = Request(scope, receive)
            try:
                response = await self._answer(request, trusted)
            except ClientDisconnect:
                return
            await response(scope, receive, send)

        return serve

    async def _answer(self, request: Request, trusted: bool) -> ASGIApp:
        try:
            if not trusted and request.url.path not in _OPEN:
                self._authenticate(request)
            return await self._dispatch(request)
        except ApiError as error:
            return refusal(error)
        except RecursionError:
            return refusal(BadRequest("the object is nested too deeply. Fix: Flatten it."))
        except sqlite3.Error as error:
            log.exception("%s %s", request.method, request.url.path)
            return refusal(ApiError(f"the store failed: {error}"))
        except ClientDisconnect:
            raise
        except Exception as error:
            log.exception("%s %s", request.method, request.url.path)
            return refusal(ApiError(f"{type(error).__name__}: {error}"))

    def _authenticate(self, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = token.strip().encode()
        if scheme.lower() != "bearer" or not hmac.compare_digest(given, self._token):
            raise Unauthorized(
                "Unauthorized. Fix: Use the kubeconfig in Kedge's data directory, for example"
                " with `export KUBECONFIG=~/.kedge/kubeconfig`."
            )

    async def _dispatch(self, request: Request) -> ASGIApp:
        path = request.url.path
        if path in _HEALTH or path.startswith(tuple(f"{one}/" for one in _HEALTH)):
            return PlainTextResponse("ok")
        if path.rstrip("/") == "/version":
            return answer(VERSION)
        if path.startswith("/openapi/"):
            return await self._openapi.answer(request)
        if found := reviews.parse_review(path):
            return await self._review(request, *found)
        if found_custom := self._custom.answer(request):
            return found_custom
        if service := self._services.find(path):
            return service
        target = parse_target(path)
        if target is None:
            return self._discover(request)
        return await self._serve(target, request)

    async def _review(self, request: Request, api_version: str, kind: str) -> Response:
        if request.method != "POST":
            raise MethodNotAllowed(f"a {kind} can only be created")
        asked = decode(await read_body(request), request.headers.get("content-type", ""))
        if not isinstance(asked, dict):
            raise BadRequest("the body is no object")
        return answer(reviews.review(api_version, kind, asked), code=201)

    def _discover(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise _nothing_here()
        parts = [part for part in request.url.path.split("/") if part]
        version = wants_aggregated_discovery(request.headers.get("accept", ""))
        found = None
        if parts in (["api"], ["apis"]) and version:
            media = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
            return answer(discovery.aggregated(parts == ["api"], version), media_type=media)
        match parts:
            case []:
                found = {"paths": ["/api", "/apis", *_HEALTH, "/openapi/v2", "/openapi/v3"]}
            case ["api"]:
                found = discovery.api_versions(self._address)
            case ["apis"]:
                found = discovery.api_groups()
            case ["apis", group] if group in discovery.GROUPS:
                found = discovery.api_group(group)
            case ["api", version]:
                found = discovery.api_resources("", version)
            case ["apis", group, version]:
                found = discovery.api_resources(group, version)
        if found is None:
            raise _nothing_here()
        return answer(found)

    async def _serve(self, target: Target, request: Request) -> Response:
        form = choose_form(request.headers.get("accept", ""))
        method = request.method
        if target.subresource == "log" and target.kind.kind == "Pod" and method == "GET":
            return read_log(self._cluster, self._clock, target, request)
        if target.subresource not in ("", "status", "scale", "finalize"):
            raise NotFound(
                f"{target.kind} has no sub-resource {target.subresource} on the local cluster"
            )
        if target.name is None:
            return await self._serve_collection(target, request)
        match method:
            case "GET" | "HEAD":
                if target.watch or flag(request.query_params, "watch"):
                    return self._watcher.watch(target, form, request)
                self._check_readable(target)
                return self._reader.get(target, form, request)
            case "PUT":
                return await self._writer.replace(target, form, request)
            case "PATCH":
                return await self._writer.patch(target, form, request)
            case "DELETE" if not target.subresource:
                return await self._deleter.delete(target, form, request)
        raise MethodNotAllowed(f"{method} is not supported on an object of {target.kind}")

    async def _serve_collection(self, target: Target, request: Request) -> Response:
        form = choose_form(request.headers.get("accept", ""))
        match request.method:
            case "GET" | "HEAD":
                if target.watch or flag(request.query_params, "watch"):
                    return self._watcher.watch(target, form, request)
                return self._reader.list_all(target, form, request)
            case "POST":
                return await self._writer.create(target, form, request)
            case "DELETE":
                return await self._deleter.delete_all(target, form, request)
        raise MethodNotAllowed(f"{request.method} is not supported on {target.kind}")

    def _check_readable(self, target: Target) -> None:
        kind = target.kind
        missing = (target.subresource == "scale" and not kind.scale) or (
            target.subresource == "status" and not kind.status
        )
        if missing or target.subresource == "finalize":
            raise not_found(kind, f"{target.name}/{target.subresource}")


def _nothing_here() -> NotFound:
    return NotFound("the server could not find the requested resource", details={})
