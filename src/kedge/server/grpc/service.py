"""The Open Inference methods, and gRPC's health check, over the data plane."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from kedge.protocol.errors import (
    InferenceError,
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    ServingError,
    grpc_code,
)
from kedge.protocol.inference import InferRequest
from kedge.protocol.open_inference import grpc as codec
from kedge.protocol.open_inference import messages
from kedge.server.batching import Job
from kedge.server.dataplane import DataPlane
from kedge.server.grpc import reflection
from kedge.server.grpc.connection import (
    Answer,
    GrpcConnection,
    GrpcFailure,
    Handler,
    Stream,
    StreamHandler,
)
from kedge.server.limits import Limits
from kedge.server.log import logger
from kedge.server.observing import Observer
from kedge.server.repository import Entry
from kedge.server.request_id import passed_on
from kedge.server.statistics import Duration

_SERVICE = "/inference.GRPCInferenceService/"
_HEALTH = "/grpc.health.v1.Health/"
_ASK_FINAL, _FINAL = "triton_enable_empty_final_response", "triton_final_response"

Request = TypeVar("Request", bound=Message)


class GrpcServer:
    """Its connections, and the table of methods.

    Attributes:
        methods: by path; a handler gives the serialized answer, or a coroutine of it.
        streams: by path; a handler gives answers to messages as they come.
        served: calls answered since the start.
        now: a coarse clock for idle connections.
    """

    def __init__(
        self, dataplane: DataPlane, limits: Limits, observer: Observer | None = None
    ) -> None:
        service = Service(dataplane)
        if observer is not None:
            from kedge.server.grpc.observed import ObservedService

            service = ObservedService(dataplane, observer)
        self.methods: dict[bytes, Handler] = {
            (prefix + name).encode(): handler for prefix, name, handler in service.table()
        }
        self.streams: dict[bytes, StreamHandler] = {
            (_SERVICE + "ModelStreamInfer").encode(): service.stream_infer,
            **{path.encode(): reflection.reflect for path in reflection.PATHS},
        }
        self.connections: set[GrpcConnection] = set()
        self.served = 0
        self.now = 0.0
        self._limits = limits

    def connect(self) -> GrpcConnection:
        """A connection that is about to be made."""
        return GrpcConnection(self, self._limits, asyncio.get_running_loop())

    @property
    def busy(self) -> bool:
        return any(connection.busy for connection in self.connections)

    def tick(self, now: float) -> None:
        self.now = now
        for connection in list(self.connections):
            connection.tick(now)

    def drain(self) -> None:
        for connection in list(self.connections):
            connection.drain()

    def close(self) -> None:
        for connection in list(self.connections):
            connection.close()


class Service:
    """One method per RPC: a message in, a message or a coroutine of one out."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane
        self._repository = dataplane.repository

    def table(self) -> list[tuple[str, str, Handler]]:
        m = messages
        return [
            (_SERVICE, "ModelInfer", self.infer),
            (_SERVICE, "ServerLive", _unary(m.ServerLiveRequest, self.server_live)),
            (_SERVICE, "ServerReady", _unary(m.ServerReadyRequest, self.server_ready)),
            (_SERVICE, "ModelReady", _unary(m.ModelReadyRequest, self.model_ready)),
            (_SERVICE, "ServerMetadata", _unary(m.ServerMetadataRequest, self.server_metadata)),
            (_SERVICE, "ModelMetadata", _unary(m.ModelMetadataRequest, self.model_metadata)),
            (_SERVICE, "ModelStatistics", _unary(m.ModelStatisticsRequest, self.statistics)),
            (_SERVICE, "RepositoryIndex", _unary(m.RepositoryIndexRequest, self.index)),
            (_SERVICE, "RepositoryModelLoad", _unary(m.RepositoryModelLoadRequest, self.load)),
            (
                _SERVICE,
                "RepositoryModelUnload",
                _unary(m.RepositoryModelUnloadRequest, self.unload),
            ),
            (_HEALTH, "Check", _unary(m.HealthCheckRequest, self.health)),
        ]

    # -- inference -------------------------------------------------------------------------------

    def infer(self, call: Stream, raw: memoryview) -> Answer:
        rest, tensors = codec.split_raw(raw)
        wire = _parse(messages.ModelInferRequest, rest)
        entry = self._dataplane.find(wire.model_name, wire.model_version)
        try:
            request = codec.decode_request(wire, tensors, call.request_id)
            headers = None if entry.plain else metadata(call)
            outcome = self._dataplane.begin(entry, request, call.request_id, headers)
            if isinstance(outcome, Job):
                outcome.encode = partial(_settled, entry)
                return outcome
            if isinstance(outcome, Coroutine):
                return self._infer_later(entry, request, outcome)
            return _encoded(entry, request, outcome)
        except ServingError as error:
            _count(entry, error)
            raise

    async def _infer_later(
        self, entry: Entry, request: InferRequest, outcome: Coroutine[Any, Any, Any]
    ) -> bytes:
        try:
            return _encoded(entry, request, await outcome)
        except ServingError as error:
            _count(entry, error)
            raise

    async def stream_infer(
        self, call: Stream, requests: AsyncGenerator[memoryview, None]
    ) -> AsyncGenerator[bytes, None]:
        """Every answer to every request, in order; an error ends its request, not the call."""
        async for raw in requests:
            wire = _parse(messages.ModelInferRequest, raw)
            wants_end = _wants_end(wire)
            try:
                async with aclosing(self._stream_one(call, wire)) as answers:
                    async for answer in answers:
                        yield _answer(answer)
            except ServingError as error:
                named = messages.ModelInferResponse(model_name=wire.model_name, id=wire.id)
                failed = messages.ModelStreamInferResponse(
                    error_message=str(error), infer_response=named
                )
                yield failed.SerializeToString()
            if wants_end:
                last = messages.ModelInferResponse(model_name=wire.model_name, id=wire.id)
                last.parameters[_FINAL].bool_param = True
                yield _answer(last)

    async def _stream_one(
        self, call: Stream, wire: messages.ModelInferRequest
    ) -> AsyncGenerator[messages.ModelInferResponse, None]:
        entry = self._dataplane.find(wire.model_name, wire.model_version)
        try:
            request = codec.decode_request(wire, None, call.request_id)
            found = self._dataplane.stream(entry, request, call.request_id, metadata(call))
            async with aclosing(found) as answers:
                async for answer in answers:
                    yield _message(entry, request, answer)
        except ServingError as error:
            _count(entry, error)
            raise
        entry.metrics.requests["grpc", 0] += 1

    # -- what is here ----------------------------------------------------------------------------

    def server_live(self, request: messages.ServerLiveRequest) -> Message:
        return messages.ServerLiveResponse(live=True)

    async def server_ready(self, request: messages.ServerReadyRequest) -> Message:
        return messages.ServerReadyResponse(ready=await self._dataplane.whole_ready())

    async def model_ready(self, request: messages.ModelReadyRequest) -> Message:
        try:
            await self._dataplane.check_ready(request.name, request.version)
        except ModelNotReady:
            return messages.ModelReadyResponse(ready=False)
        return messages.ModelReadyResponse(ready=True)

    def server_metadata(self, request: messages.ServerMetadataRequest) -> Message:
        about = self._dataplane.server_metadata()
        return messages.ServerMetadataResponse(
            name=about.name, version=about.version, extensions=about.extensions
        )

    def model_metadata(self, request: messages.ModelMetadataRequest) -> Message:
        return codec.encode_metadata(self._dataplane.model_metadata(request.name, request.version))

    async def statistics(self, request: messages.ModelStatisticsRequest) -> Message:
        answer = messages.ModelStatisticsResponse()
        for one in await self._dataplane.model_statistics(request.name, request.version):
            wire = answer.model_stats.add(
                name=one.name,
                version=one.version,
                last_inference=one.last_inference,
                inference_count=one.inference_count,
                execution_count=one.execution_count,
            )
            _tell(wire.inference_stats, one.durations)
            for rows, durations in sorted(one.batches.items()):
                _tell(wire.batch_stats.add(batch_size=rows), durations)
        return answer

    def health(self, request: messages.HealthCheckRequest) -> Message:
        """The server as a whole, the service, or a model by its name."""
        statuses = messages.HealthCheckResponse
        if request.service in ("", "inference.GRPCInferenceService"):
            ready = self._dataplane.ready()
        else:
            try:
                ready = self._repository.find(request.service).model.ready
            except ModelNotFound as error:
                raise GrpcFailure(grpc_code(error), str(error)) from error
        return statuses(status=statuses.SERVING if ready else statuses.NOT_SERVING)

    # -- the repository --------------------------------------------------------------------------

    def index(self, request: messages.RepositoryIndexRequest) -> Message:
        rows = self._repository.index(only_ready=request.ready)
        one = messages.RepositoryIndexResponse.ModelIndex
        return messages.RepositoryIndexResponse(
            models=[
                one(
                    name=row["name"],
                    version=row.get("version", ""),
                    state=row["state"],
                    reason=row["reason"],
                )
                for row in rows
            ]
        )

    async def load(self, request: messages.RepositoryModelLoadRequest) -> Message:
        name = request.model_name or request.repository_name
        try:
            entry = await self._repository.load(name)
        except ServingError:
            raise
        except Exception as error:
            raise ModelNotReady(name, str(error)) from error
        return messages.RepositoryModelLoadResponse(model_name=name, isLoaded=entry.model.ready)

    async def unload(self, request: messages.RepositoryModelUnloadRequest) -> Message:
        name = request.model_name or request.repository_name
        await self._repository.unload(name)
        return messages.RepositoryModelUnloadResponse(model_name=name, isUnloaded=True)


def _tell(wire: Any, durations: dict[str, Duration]) -> None:
    for name, duration in durations.items():
        told = getattr(wire, name)
        told.count, told.ns = duration.count, duration.ns


def metadata(call: Stream) -> dict[str, str]:
    """A call's headers as a model sees them."""
    return call.head.metadata() | passed_on(call.request_id)


def _wants_end(wire: messages.ModelInferRequest) -> bool:
    """Whether the client asked to be told when a request has had its last answer."""
    if _ASK_FINAL not in wire.parameters:
        return False
    asked = wire.parameters[_ASK_FINAL].bool_param
    del wire.parameters[_ASK_FINAL]
    return bool(asked)


def _answer(response: messages.ModelInferResponse) -> bytes:
    return messages.ModelStreamInferResponse(infer_response=response).SerializeToString()


def _encoded(entry: Entry, request: InferRequest, outcome: Any) -> bytes:
    message = _message(entry, request, outcome)
    entry.metrics.requests["grpc", 0] += 1
    return message.SerializeToString()


def _message(entry: Entry, request: InferRequest, outcome: Any) -> messages.ModelInferResponse:
    try:
        return codec.encode_response(outcome, raw=request.raw)
    except Exception as error:
        raise _unsendable(entry, error) from error


def _unsendable(entry: Entry, error: Exception) -> ServingError:
    if isinstance(error, ServingError):
        return error
    name = entry.model.name
    logger.error("model %s: its answer cannot be sent", name, exc_info=error)
    return InferenceError(f"Model {name} gave an answer that gRPC cannot carry; its log tells why.")


def _settled(entry: Entry, job: Job) -> bytes:
    try:
        if job.error is not None:
            raise job.error
        return _encoded(entry, job.payload, job.given())
    except Exception as error:
        told = _unsendable(entry, error)
        _count(entry, told)
        raise told from error


def _count(entry: Entry, error: ServingError) -> None:
    entry.metrics.requests["grpc", int(grpc_code(error))] += 1
    entry.metrics.errors[error.reason] += 1


def _parse(kind: type[Request], raw: bytes | memoryview) -> Request:
    message = kind()
    try:
        message.ParseFromString(raw)  # type: ignore[arg-type]  # takes any buffer
    except DecodeError as error:
        raise InvalidInput(f"The message is not a {kind.__name__}: {error}") from error
    return message


def _unary(
    kind: type[Request], method: Callable[[Request], Message | Coroutine[Any, Any, Message]]
) -> Handler:
    """From messages to bytes."""

    def handle(call: Stream, raw: memoryview) -> Answer:
        outcome = method(_parse(kind, raw))
        if isinstance(outcome, Coroutine):
            return _later(outcome)
        return outcome.SerializeToString()

    return handle


async def _later(outcome: Coroutine[Any, Any, Message]) -> bytes:
    return (await outcome).SerializeToString()
