"""A gateway, its real Envoy and small real backends: what the tests of the gateway start from."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from aiohttp import web
from tests.ports import free_port

from kedge.api.scheme import ENDPOINT_SLICE, HTTP_ROUTE, NAMESPACE, SERVICE
from kedge.cluster.base import Object
from kedge.cluster.local.admission import AdmitAll
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.store import Store
from kedge.gateway.activator import Activator
from kedge.gateway.bootstrap import find_envoy, make_bootstrap
from kedge.gateway.fleet import Fleet
from kedge.gateway.gateway import Gateway
from kedge.gateway.members import MemberWatch
from kedge.gateway.status import ANSWERING, current_condition
from kedge.settings.gateway import GatewaySettings
from kedge.settings.installation import GATEWAY_LOCAL

NAMESPACED = "default"
PREDICT = "/inference.GRPCInferenceService/ModelInfer"
WAIT = 20.0


async def eventually(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(WAIT):
        while True:
            holds = condition()
            if await holds if isinstance(holds, Awaitable) else holds:
                return
            await asyncio.sleep(0.005)


class Backend:
    """An HTTP/1.1 server that says who it is and what it was asked; `delay` seconds a request."""

    def __init__(self, name: str, address: str = "127.0.0.1") -> None:
        self.name = name
        self.address = address
        self.port = 0
        self.delay = 0.0
        self.requests = 0
        self.active = 0
        self.most = 0
        self.seen: list[web.Request] = []
        app = web.Application(client_max_size=1 << 30)
        app.router.add_get("/ws", self._websocket)
        app.router.add_get("/stream", self._stream)
        app.router.add_route("*", "/{rest:.*}", self._answer)
        self._runner = web.AppRunner(app, keepalive_timeout=75, shutdown_timeout=1)

    async def start(self) -> Backend:
        await self._runner.setup()
        self.port = self.port or free_port()
        site = web.TCPSite(self._runner, self.address, self.port)
        await site.start()
        return self

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        self.seen.append(request)
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            body = await request.read()
            if self.delay:
                await asyncio.sleep(self.delay)
        finally:
            self.active -= 1
        return web.json_response(
            {
                "backend": self.name,
                "path": request.path_qs,
                "headers": {
                    key.lower(): ",".join(request.headers.getall(key)) for key in request.headers
                },
                "bytes": len(body),
            }
        )

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"{self.name}: {message.data}")
        return socket

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Three pieces, the next one only when the client has said that it has the last."""
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(3):
            await response.write(f"piece {number}\n".encode())
            await self.proceed.wait()
            self.proceed.clear()
        return response

    @property
    def proceed(self) -> asyncio.Event:
        if not hasattr(self, "_proceed"):
            self._proceed = asyncio.Event()
        return self._proceed


class GrpcBackend:
    """A gRPC server that answers any unary method with its name and the metadata it got, and a
    method `Chat` with a message for each message; `delay` seconds an answer."""

    def __init__(self, name: str, address: str = "127.0.0.1") -> None:
        self.name = name
        self.address = address
        self.port = 0
        self.delay = 0.0
        self.active = 0
        self.most = 0
        self._server = grpc.aio.server()

    async def start(self) -> GrpcBackend:
        backend = self

        class Every(grpc.GenericRpcHandler):  # type: ignore[type-arg] # grpc has none at run time
            def service(self, details: Any) -> Any:
                if details.method.endswith("/Chat"):
                    return grpc.stream_stream_rpc_method_handler(backend._chat)
                return grpc.unary_unary_rpc_method_handler(backend._answer)

        self._server.add_generic_rpc_handlers((Every(),))
        self.port = free_port()
        self._server.add_insecure_port(f"{self.address}:{self.port}")
        await self._server.start()
        return self

    async def stop(self) -> None:
        await self._server.stop(None)

    async def _answer(self, request: bytes, context: Any) -> bytes:
        metadata = {key: value for key, value in context.invocation_metadata()
                    if isinstance(value, str)}  # fmt: skip
        answer = {"backend": self.name, "metadata": metadata, "got": len(request)}
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            await asyncio.sleep(self.delay)
        finally:
            self.active -= 1
        return json.dumps(answer).encode()

    async def _chat(self, requests: Any, context: Any) -> Any:
        async for request in requests:
            yield self.name.encode() + b": " + request


class EnvoyProcess:
    def __init__(self, directory: Path, settings: GatewaySettings, concurrency: int = 1) -> None:
        self._config = directory / "bootstrap.json"
        self._log = directory / "envoy.log"
        bootstrap = make_bootstrap(
            node="test", xds_socket=settings.xds_socket, admin_socket=settings.admin_socket
        )
        self._config.write_text(json.dumps(bootstrap))
        self._concurrency = concurrency
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        argv = [str(find_envoy()), "-c", str(self._config), "--use-dynamic-base-id"]
        argv += ["--concurrency", str(self._concurrency), "-l", "warning"]
        argv += ["--file-flush-interval-msec", "50"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def log(self) -> str:
        return self._log.read_text()


class GatewayWorld:
    """A local cluster of objects in memory, a gateway over it, and an Envoy.

    Args:
        replicas: the gateway is one that may have replicas, as on Kubernetes; it has none.
    """

    def __init__(
        self, directory: Path, *, workers: int = 1, replicas: bool = False, **settings: Any
    ) -> None:
        self.directory = directory
        self.sockets = Path(tempfile.mkdtemp(prefix="kedge-gw-"))
        self.settings = GatewaySettings(
            xds_socket=self.sockets / "xds.sock",
            admin_socket=self.sockets / "admin.sock",
            access_log=directory / "access.log",
            port=free_port(),
            proxy_port=free_port(),
            metrics_port=free_port(),
            **settings,
        )
        self.cluster = LocalCluster(Store(":memory:"), AdmitAll())
        self.envoy = EnvoyProcess(directory, self.settings, workers)
        self._join = self._make_fleet if replicas else None
        self.gateway = Gateway(self.cluster, self.settings)
        self._running: asyncio.Task[None] | None = None
        self.backends: list[Backend | GrpcBackend] = []
        self.session: aiohttp.ClientSession

    async def start(self) -> None:
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        with contextlib.suppress(Exception):
            await self.cluster.create(
                NAMESPACE,
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACED}},
            )
        self.start_gateway()
        self.envoy.start()
        async with asyncio.timeout(WAIT):
            await self.gateway.ready.wait()

    async def close(self) -> None:
        await self.session.close()
        await self.stop_gateway()
        self.envoy.kill()
        for backend in self.backends:
            await backend.stop()
        shutil.rmtree(self.sockets, ignore_errors=True)

    def _make_fleet(self, activator: Activator) -> Fleet:
        async def token() -> str:
            return "secret"

        watch = MemberWatch(self.cluster, "kedge", GATEWAY_LOCAL, "only")
        return Fleet(watch, activator, f"127.0.0.1:{free_port()}", token=token)

    def start_gateway(self) -> None:
        self.gateway = Gateway(self.cluster, self.settings, join=self._join)
        self._running = asyncio.create_task(self.gateway.run())

    async def stop_gateway(self) -> None:
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
            self._running = None

    # Backends

    async def backend(self, name: str, address: str = "127.0.0.1") -> Backend:
        backend = await Backend(name, address).start()
        self.backends.append(backend)
        return backend

    async def grpc_backend(self, name: str, address: str = "127.0.0.1") -> GrpcBackend:
        backend = await GrpcBackend(name, address).start()
        self.backends.append(backend)
        return backend

    # Objects

    async def service(
        self,
        name: str,
        *,
        keepalive: int = 75,
        grpc: bool = False,
        activation: bool = False,
        concurrency: int = 0,
    ) -> None:
        ports: list[Object] = [{"name": "http", "port": 80}]
        if grpc:
            ports.append({"name": "grpc", "port": 8081, "appProtocol": "kubernetes.io/h2c"})
        annotations = {"serving.kedge.dev/keepalive-seconds": str(keepalive)}
        labels = {}
        if activation:
            annotations["serving.kedge.dev/container-concurrency"] = str(concurrency)
            labels["serving.kedge.dev/activation"] = "true"
        await self.cluster.create(
            SERVICE,
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": _metadata(name, annotations=annotations, labels=labels),
                "spec": {"ports": ports},
            },
        )

    async def annotate(self, service: str, annotations: Mapping[str, str | None]) -> None:
        patch = {"metadata": {"annotations": dict(annotations)}}
        await self.cluster.patch(SERVICE, service, patch, namespace=NAMESPACED)

    async def endpoints(
        self,
        service: str,
        *backends: Backend | GrpcBackend,
        port_name: str = "http",
        slice: str = "",
        ready: bool = True,
    ) -> None:
        """Make these the endpoints of a Service's port; one slice a port number."""
        name = f"{service}-{slice or port_name}"
        for number in range(8):
            here = backends[number : number + 1]
            await self.cluster.apply(
                ENDPOINT_SLICE,
                {
                    "apiVersion": "discovery.k8s.io/v1",
                    "kind": "EndpointSlice",
                    "metadata": _metadata(
                        f"{name}-{number}", labels={"kubernetes.io/service-name": service}
                    ),
                    "addressType": "IPv6" if here and ":" in here[0].address else "IPv4",
                    "ports": [{"name": port_name, "port": here[0].port if here else 1}],
                    "endpoints": [
                        {"addresses": [backend.address], "conditions": {"ready": ready}}
                        for backend in here
                    ],
                },
            )

    async def route(self, name: str, *rules: Object, hostnames: tuple[str, ...] = ()) -> None:
        spec: Object = {"parentRefs": [{"name": "kedge-gateway", "namespace": "kedge"}]}
        if hostnames:
            spec["hostnames"] = list(hostnames)
        await self.cluster.apply(
            HTTP_ROUTE,
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "HTTPRoute",
                "metadata": _metadata(name),
                "spec": {**spec, "rules": list(rules)},
            },
        )

    async def condition(self, route: str) -> dict[str, Any]:
        found = await self.cluster.get(HTTP_ROUTE, route, NAMESPACED)
        return current_condition(found, ANSWERING) or {}

    async def reason(self, route: str, reason: str) -> None:
        """Wait until the route is not answering, for this reason."""

        async def holds() -> bool:
            return bool((await self.condition(route)).get("reason") == reason)

        await eventually(holds)

    async def answering(self, route: str) -> None:
        """Wait until the route's status says that a request sent now is answered."""
        async with asyncio.timeout(WAIT):
            async for event in self.cluster.watch(HTTP_ROUTE, NAMESPACED):
                obj = event.object
                condition = current_condition(obj, ANSWERING) or {}
                if (
                    obj["metadata"].get("name") == route
                    and condition.get("status") == "True"
                    and condition["observedGeneration"] == obj["metadata"]["generation"]
                ):
                    return

    # Requests

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    async def get(
        self, path: str, host: str = "", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        sent = {**(headers or {}), **({"Host": host} if host else {})}
        async with self.session.get(self.url + path, headers=sent) as response:
            return response.status, await response.json(content_type=None)

    async def load(self, host: str, *, clients: int = 8) -> Load:
        load = Load(self, host)
        load.start(clients)
        return load


class Load:
    """Clients that ask one host without a pause, and keep what did not go well."""

    def __init__(self, world: GatewayWorld, host: str) -> None:
        self._world = world
        self._host = host
        self.answered: dict[str, int] = {}
        self.failed: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, clients: int) -> None:
        self._tasks = [asyncio.create_task(self._client()) for _ in range(clients)]

    async def _client(self) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.post(
                        self._world.url + "/x", headers={"Host": self._host}, data=b"x" * 200
                    ) as answer:
                        body = await answer.json(content_type=None)
                        if answer.status == 200:
                            name = body["backend"]
                            self.answered[name] = self.answered.get(name, 0) + 1
                        else:
                            self.failed.append(f"{answer.status} {body}")
                except aiohttp.ClientError as error:
                    self.failed.append(repr(error))

    async def until(self, condition: Callable[[], bool]) -> None:
        await eventually(condition)

    async def more(self, count: int = 200) -> None:
        """Wait for that many more answers."""
        before = sum(self.answered.values())
        await self.until(lambda: sum(self.answered.values()) >= before + count)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def rule(*backends: str | tuple[str, int], port: int = 80, **more: Any) -> Object:
    """A rule that sends to Services, each by name or by name and weight."""
    refs = []
    for backend in backends:
        name, weight = (backend, 1) if isinstance(backend, str) else backend
        refs.append({"name": name, "port": port, "weight": weight})
    return {"backendRefs": refs, **more}


def path_rule(prefix: str, service: str) -> Object:
    """The path form: everything below the prefix, without the prefix."""
    rewrite = {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}
    return rule(
        service,
        matches=[{"path": {"type": "PathPrefix", "value": prefix}}],
        filters=[{"type": "URLRewrite", "urlRewrite": rewrite}],
    )


def grpc_rule(service: str, *, selected_by: str = "") -> Object:
    header = {
        "type": "RegularExpression", "name": "content-type", "value": "^application/grpc.*",
    }  # fmt: skip
    headers: list[Object] = [header]
    if selected_by:
        headers.append({"name": "kedge-service", "value": selected_by})
    return rule(service, port=8081, matches=[{"headers": headers}])


def _metadata(name: str, **more: Any) -> Object:
    return {"name": name, "namespace": NAMESPACED, **more}


@contextlib.asynccontextmanager
async def gateway_world(directory: Path, **settings: Any) -> AsyncIterator[GatewayWorld]:
    world = GatewayWorld(directory, **settings)
    try:
        await world.start()
        yield world
    finally:
        await world.close()


def now() -> float:
    return time.monotonic()
