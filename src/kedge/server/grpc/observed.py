"""gRPC inference that is observed: its payloads are logged, its calls traced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, cast

from kedge.protocol.errors import GrpcCode, ServingError, grpc_code
from kedge.protocol.open_inference import messages
from kedge.server.batching import Job
from kedge.server.dataplane import DataPlane
from kedge.server.grpc.connection import Answer, Stream
from kedge.server.grpc.service import Service
from kedge.server.observing import DID_NOT_WAIT, Ending, Observation, Observer

_OK = 0
_INFER = "inference.GRPCInferenceService/ModelInfer"
_STREAM = "inference.GRPCInferenceService/ModelStreamInfer"


class ObservedService(Service):
    """Observes what the parent answers."""

    def __init__(self, dataplane: DataPlane, observer: Observer) -> None:
        super().__init__(dataplane)
        self._observer = observer

    def infer(self, call: Stream, raw: memoryview) -> Answer:
        seen = self._begin(_INFER, call, raw, _model_of(raw))
        try:
            with seen.current():
                outcome = super().infer(call, raw)
        except ServingError as error:
            seen.failed(int(grpc_code(error)), str(error))
            raise
        if isinstance(outcome, bytes):
            seen.answered(outcome, code=_OK)
            return outcome
        if isinstance(outcome, Job):
            _observe(seen, outcome)
            return outcome
        return _later(seen, outcome)

    def _begin(self, name: str, call: Stream, raw: bytes | memoryview, model: str) -> Observation:
        seen = self._observer.begin(
            name, model, call.head.fields, raw, request_id=call.request_id, is_grpc=True
        )
        call.request_id = seen.request_id
        return seen

    async def _stream_one(
        self, call: Stream, wire: messages.ModelInferRequest
    ) -> AsyncGenerator[messages.ModelInferResponse, None]:
        """One request of a conversation; each of its answers is a payload."""
        seen = self._begin(_STREAM, call, wire.SerializeToString(), wire.model_name)
        try:
            async with aclosing(super()._stream_one(call, wire)) as answers:
                async for answer in answers:
                    if seen.wants_answer:
                        seen.record("response", answer.SerializeToString(), "")
                    yield answer
        except ServingError as error:
            seen.failed(int(grpc_code(error)), str(error))
            raise
        if seen.span is not None:
            seen.span.end(_OK, "", None)


def _observe(seen: Observation, job: Job) -> None:
    encode = job.encode
    assert encode is not None

    def observed(job: Job) -> bytes:
        try:
            message = cast(bytes, encode(job))
        except ServingError as error:
            seen.failed(int(grpc_code(error)), str(error), job=job)
            raise
        seen.answered(message, job=job, code=_OK)
        return message

    job.encode = Ending(seen, observed, int(GrpcCode.CANCELLED))


async def _later(seen: Observation, outcome: Coroutine[Any, Any, bytes]) -> bytes:
    with seen.current():
        try:
            message = await outcome
        except ServingError as error:
            seen.failed(int(grpc_code(error)), str(error))
            raise
        except asyncio.CancelledError:
            seen.failed(int(GrpcCode.CANCELLED), DID_NOT_WAIT)
            raise
    seen.answered(message, code=_OK)
    return message


def _model_of(raw: memoryview) -> str:
    """The model's name, which is the message's first field where clients follow the protocol."""
    if len(raw) > 2 and raw[0] == 0x0A and raw[1] < 0x80:
        return bytes(raw[2 : 2 + raw[1]]).decode("utf-8", "replace")
    return ""
