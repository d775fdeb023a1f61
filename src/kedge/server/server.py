"""One server process: listeners, the clock tick, and an orderly end.

A server listens only when its models are ready, so that nobody is answered "not yet" who could
have asked another pod. On SIGTERM it goes on accepting until it has been idle for a moment or its
grace is over: whoever still knows its address is answered, and told to connect elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from email.utils import formatdate
from functools import partial
from socket import gethostname
from typing import TYPE_CHECKING, Any, Protocol, cast

from uvicorn.config import Config

from kedge import __version__
from kedge.server import garbage, phases
from kedge.server.batching import DEFAULT_BATCHING, Batching
from kedge.server.dataplane import Crew, DataPlane
from kedge.server.errors import ModelLoadFailed
from kedge.server.http.connection import Connection, Shared
from kedge.server.http.inference import Inference
from kedge.server.limits import DEFAULT_LIMITS, Limits
from kedge.server.log import LogForm, RequestLog, logger
from kedge.server.metrics import Metrics
from kedge.server.model import Model
from kedge.server.observing import Observer, observe
from kedge.server.options import Options, parse_script
from kedge.server.ports import Factory, Ports
from kedge.server.predictor import PredictorConfig, Predictors
from kedge.server.repository import Changes, Loader, Repository

if TYPE_CHECKING:
    from kedge.server.grpc.service import GrpcServer
    from kedge.server.http.access import AccessLog
    from kedge.server.payloads.options import PayloadOptions
    from kedge.server.tracing import Tracing

_TICK_SECONDS = 1.0
_ANYWHERE = ("", "0.0.0.0", "::")


class Door(Protocol):
    """Where connections come in."""

    @property
    def http_port(self) -> int: ...

    @property
    def grpc_port(self) -> int | None: ...

    def connections(self) -> set[Any]:
        """An empty set for connections that were made."""

    async def open(self, http: Factory, grpc: Factory | None) -> None: ...

    def close(self) -> None: ...


class ModelServer:
    """Serves the models of a repository over REST and gRPC."""

    def __init__(
        self,
        *,
        bind_address: str = "",
        http_port: int = 8080,
        grpc_port: int | None = 8081,
        limits: Limits = DEFAULT_LIMITS,
        batching: Batching = DEFAULT_BATCHING,
        grace_seconds: float = 30.0,
        latency_log: bool = True,
        workers: int = 1,
        log_format: LogForm = "text",
        payloads: PayloadOptions | None = None,
        tracing: bool = False,
        batcher_response: bool = False,
        access_log_format: str = "",
        docs: bool = True,
        loader: Loader | None = None,
        predictor: PredictorConfig | None = None,
        explainer: PredictorConfig | None = None,
    ) -> None:
        self.metrics = Metrics()
        self._predictor = predictor
        self._explainer = explainer
        self._predictors = Predictors()
        self.repository = Repository(
            self.metrics,
            loader and partial(self._make, loader),
            batching=batching,
            limits=limits,
        )
        self._grace = grace_seconds
        self._idle_seconds = Options.idle_seconds
        self._workers = workers
        self._address = bind_address
        self._ports = (http_port, grpc_port)
        self._door: Door | None = None
        self._grpc: GrpcServer | None = None
        self._stop = asyncio.Event()
        self._signals = 0
        self._log_format: LogForm = log_format
        self._payloads = payloads
        self._traced = tracing
        self._tracing: Tracing | None = None
        self._batcher_response = batcher_response
        self._access_format = access_log_format
        self._access: AccessLog | None = None
        self._docs = docs
        self._observer: Observer | None = None
        self._config = self._uvicorn_config()
        self._assemble(limits, latency_log)

    def _assemble(self, limits: Limits, latency_log: bool) -> None:
        self._limits = limits
        self._log = RequestLog(form=self._log_format) if latency_log else None
        self.dataplane = DataPlane(self.repository, version=__version__, log=self._log)
        if self._predictor is not None and self._predictor.predictor_health_check:
            self.dataplane.health = self._predictors.of(self._predictor)
        self._shared = Shared(self._config, self._inference(limits), limits)

    def _inference(self, limits: Limits) -> Inference:
        """What answers predictions."""
        if not self._batcher_response:
            return Inference(self.dataplane, limits)
        from kedge.server.http.batcher_shape import ShapedInference

        return ShapedInference(self.dataplane, limits)

    def _begin_observing(self) -> None:
        """Threads of exporters begin here: until now this process may have been forked."""
        if self._traced and self._tracing is None:
            from kedge.server.tracing import start

            self._tracing = start(os.environ)
        if self._tracing is not None:
            self.dataplane.on_step = self._tracing.step
        self._observer = observe(self._payloads, self._tracing, self.metrics)
        if self._observer is None:
            return
        from kedge.server.http.observed import ObservedInference

        if self._observer.payloads is not None:
            self._observer.payloads.named(f"http://{gethostname()}:{self.http_port}/")
        self._shared.inference = ObservedInference(
            self._shared.inference, self.dataplane, self._limits, self._observer
        )

    def _attach(self, model: Model) -> Model:
        """A model that forwards gets the client of its predictor, and of its explainer."""
        config = model.predictor_config or self._predictor
        if config is not None and model.predictor is None:
            model.predictor = self._predictors.of(config)
        if host := getattr(model, "explainer_host", None):
            model.explainer = self._predictors.of(PredictorConfig(host))
        elif self._explainer is not None and model.explainer is None:
            model.explainer = self._predictors.of(self._explainer)
        return model

    def _make(self, loader: Loader, name: str) -> Model:
        return self._attach(loader(name))

    def _uvicorn_config(self) -> Config:
        """What uvicorn's protocol asks its configuration for; uvicorn's server is not used."""
        config = Config(
            app=self._lazy_app,
            http=Connection,
            ws="none",
            lifespan="off",
            loop="none",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
        config.load()
        return config

    async def _lazy_app(
        self,
        scope: Any,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """Imports the rest of REST when it is first asked for, and takes its place."""
        from kedge.server.http.app import make_app

        app = make_app(self.dataplane, self.metrics, self._limits, self._observer, docs=self._docs)
        if self._access is not None:
            from kedge.server.http.access import Logged

            app = Logged(app, self._access)
        self._shared.config.loaded_app = app
        for connection in list(self._shared.state.connections):
            connection.app = app  # type: ignore[union-attr]  # all are ours
        await app(scope, receive, send)

    # -- life ------------------------------------------------------------------------------------

    def start(self, models: Sequence[Model], argv: Sequence[str] | None = None) -> None:
        """Serves `models` until told to stop: the last line of a script with models of its own.

        Flags of the command line (`kedge.server.parser`) win over the constructor's arguments. A
        server that cannot start says why in one line and ends the process with code 1.
        """
        from kedge.server.main import guarded

        code = guarded(partial(self._read, argv), partial(self._run, models))
        if code:
            sys.exit(code)

    def _read(self, argv: Sequence[str] | None) -> Options:
        http_port, grpc_port = self._ports
        options = parse_script(
            sys.argv[1:] if argv is None else argv,
            http_port=http_port,
            grpc_port=8081 if grpc_port is None else grpc_port,
            enable_grpc=grpc_port is not None,
            enable_latency_logging=self._log is not None,
            grace_period=self._grace,
            workers=self._workers,
        )
        self._ports = (options.http_port, options.grpc_port if options.enable_grpc else None)
        self._grace = options.grace_seconds
        if options.bind_address and self._address in _ANYWHERE:
            self._address = options.bind_address
        self._predictor = self._predictor or options.predictor
        self.configure(options)
        return options

    def configure(self, options: Options) -> None:
        """Takes over what the command line says of limits, logs and what is observed.

        A process that workers are forked from observes nothing: exporters run threads.
        """
        forks = options.seat is not None and options.seat.role == "preloader"
        self.repository.configure(options.limits, options.batching)
        self._explainer = self._explainer or options.explainer
        self._log_format = options.log_format
        self._payloads = options.payloads or self._payloads
        self._traced = (self._traced or options.tracing) and not forks
        self._batcher_response = self._batcher_response or options.batcher_response
        self._access_format = options.access_log_format or self._access_format
        self._docs = self._docs and options.docs
        self._idle_seconds = options.idle_seconds
        self._assemble(options.limits, options.enable_latency_logging)

    def _run(self, models: Sequence[Model], options: Options) -> None:
        from kedge.server.main import prepare, run_server

        prepare(options)
        options = replace(options, bind_address=self._address)
        run_server(self, options, lambda: models, [sys.executable, *sys.orig_argv[1:]])

    def bind(self) -> None:
        """Takes the ports, so that a port in use is told before a model is loaded."""
        self._door = Ports(self._address, *self._ports)

    async def serve(self, models: Sequence[Model]) -> None:
        """Loads `models`, listens, and returns when told to stop and idle."""
        running = self.running(models, heed_signals=True)
        del models
        async with running:
            await self._stop.wait()
            await self._drain()

    @asynccontextmanager
    async def running(
        self, models: Sequence[Model], *, heed_signals: bool = False
    ) -> AsyncIterator[None]:
        """Serves `models` within the block; as part of another program, signals are its affair."""
        loop = asyncio.get_running_loop()
        if self._door is None:
            self.bind()
        await self._load(models)
        del models  # One that is unloaded later is to be gone.
        if heed_signals:
            garbage.set_aside()
        for number in (signal.SIGTERM, signal.SIGINT) if heed_signals else ():
            loop.add_signal_handler(number, self._on_signal)
        if self._log is not None:
            self._log.start(loop)
        self._tick(loop)
        try:
            await self._open(loop)
            if self.dataplane.crew is None:
                phases.tell()
            yield
        finally:
            await self._close()

    async def _load(self, models: Sequence[Model]) -> None:
        for model in models:
            await self.load(model)

    async def load(self, model: Model) -> None:
        """Loads a model at the start; raises `ModelLoadFailed` where it cannot be served."""
        await self.repository.start(self._attach(model))
        if not model.ready:
            raise ModelLoadFailed(
                f"Model {model.name} is not ready after it was loaded.",
                fix="Set self.ready = True at the end of load.",
            )

    def join(self, door: Door, crew: Crew, changes: Changes) -> None:
        """Makes this one of several processes that answer as one server."""
        self._door = door
        self.dataplane.crew = crew
        self.repository.changes = changes

    def stop(self, *, now: bool = False) -> None:
        """Begins the orderly end, or ends without waiting for anyone."""
        if now:
            self._signals += 2
        self._stop.set()

    def _on_signal(self) -> None:
        self._signals += 1
        if self.dataplane.crew is not None:
            self.dataplane.crew.leaving()
        self._stop.set()

    async def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._door is not None
        self._begin_observing()
        if self.grpc_port is not None:
            from kedge.server.grpc.service import GrpcServer

            self._grpc = GrpcServer(self.dataplane, self._limits, self._observer)
            self._grpc.tick(loop.time())
            self._grpc.connections = self._door.connections()
        self._shared.state.connections = self._door.connections()
        connect = self._grpc.connect if self._grpc is not None else None
        await self._door.open(self._connections(loop), connect)
        logger.info(
            "serving %s on http port %d%s",
            ", ".join(self.repository.names()) or "no model yet",
            self.http_port,
            f" and grpc port {self.grpc_port}" if self._grpc is not None else "",
        )

    def _connections(self, loop: asyncio.AbstractEventLoop) -> Factory:
        if not self._access_format:
            return lambda: Connection(self._shared, loop)
        from kedge.server.http.access import AccessLog, LoggedConnection

        access = self._access = AccessLog(self._access_format, loop)
        return lambda: LoggedConnection(self._shared, loop, access)

    @property
    def http_port(self) -> int:
        assert self._door is not None
        return self._door.http_port

    @property
    def grpc_port(self) -> int | None:
        assert self._door is not None
        return self._door.grpc_port

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        self._shared.tick(now, formatdate(usegmt=True).encode())
        self.dataplane.statistics.glance(time.time())
        if self._grpc is not None:
            self._grpc.tick(now)
        self._ticking = loop.call_later(_TICK_SECONDS, self._tick, loop)

    def _idle(self) -> bool:
        return not self._shared.busy and (self._grpc is None or not self._grpc.busy)

    async def _drain(self) -> None:
        """Accepts and answers until idle for a moment, until grace ends, or a second signal."""
        loop = asyncio.get_running_loop()
        self._shared.draining = True
        if self._grpc is not None:
            self._grpc.drain()
        end = loop.time() + self._grace
        quiet_since, served = loop.time(), self.served()
        while loop.time() < end and self._signals < 2:
            await asyncio.sleep(0.02)
            if not self._idle() or self.served() != served:
                quiet_since, served = loop.time(), self.served()
            elif loop.time() - quiet_since >= self._idle_seconds:
                return
        logger.warning("stopping with requests unanswered: the grace of %gs is over", self._grace)

    def hand_back(self, count: int) -> None:
        """Asks the clients of so many connections to connect anew, without cutting a request."""
        http = list(self._shared.state.connections)
        grpc = list(self._grpc.connections) if self._grpc is not None else []
        part = count * len(grpc) // max(1, len(grpc) + len(http))
        for connection in grpc[:part]:
            connection.drain()
        for one in http[: count - part]:
            cast(Connection, one).hand_back()

    def served(self) -> int:
        """Requests answered since the start."""
        return self._shared.state.total_requests + (self._grpc.served if self._grpc else 0)

    async def _close(self) -> None:
        self._ticking.cancel()
        if self._door is not None:
            self._door.close()
        if self._grpc is not None:
            self._grpc.close()
        self._shared.close_idle()
        for connection in list(self._shared.state.connections):
            connection.transport.close()
        self.repository.stop()
        await self._predictors.close()
        if self._observer is not None:
            await self._observer.close()
        await self.dataplane.side.close()
        await asyncio.sleep(0)
        for log in (self._log, self._access):
            if log is not None:
                log.flush()
