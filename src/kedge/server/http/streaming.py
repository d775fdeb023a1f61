"""Answers that come one after the other: server-sent events.

What goes wrong before the first answer is an ordinary error with its status; afterwards it is the
last event, `{"error": ...}`. Closing the connection ends the model's generator.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from kedge.protocol import v1
from kedge.protocol.errors import InferenceError, InvalidInput, ServingError, rest_status
from kedge.protocol.inference import (
    InferRequest,
    InferResponse,
    Parameters,
    Tensor,
    object_array,
)
from kedge.protocol.open_inference import rest
from kedge.server.dataplane import DataPlane
from kedge.server.http.bodies import Bodies
from kedge.server.http.inference import encode_v1
from kedge.server.http.presence import while_present
from kedge.server.log import logger
from kedge.server.repository import Entry

TEXT_IN, TEXT_OUT = "text_input", "text_output"

Encode = Callable[[Any], bytes]


class Streaming:
    """The endpoints whose answers are many."""

    def __init__(self, dataplane: DataPlane, bodies: Bodies) -> None:
        self._dataplane = dataplane
        self._bodies = bodies

    async def predict(self, request: Request) -> Response:
        """V1: each item is an event; what a server cannot stream never comes here."""
        entry = self._find(request)
        payload = await self._bodies.json(request)
        return await self._events(request, entry, "v1", payload, encode_v1)

    async def infer_stream(self, request: Request) -> Response:
        entry = self._find(request)
        payload = await self._bodies.open_inference(request)
        return await self._events(request, entry, "v2", payload, _encode_v2)

    async def generate_stream(self, request: Request) -> Response:
        entry = self._find(request)
        payload, encode = await self._question(request)
        return await self._events(request, entry, "v2", payload, encode)

    async def generate(self, request: Request) -> Response:
        """One answer: the texts of a stream joined, of other outputs the last."""
        entry = self._find(request)
        payload, _ = await self._question(request)
        whole = await while_present(request, self._whole(request, entry, payload))
        return Response(v1.encode_response(whole), media_type="application/json")

    async def _whole(self, request: Request, entry: Entry, payload: Any) -> dict[str, Any]:
        whole: dict[str, Any] = {}
        async with aclosing(self._answers(request, entry, "v2", payload)) as answers:
            async for answer in answers:
                one = _plain(answer)
                text = whole.get(TEXT_OUT, "")
                whole |= one
                if isinstance(one.get(TEXT_OUT), str):
                    whole[TEXT_OUT] = text + one[TEXT_OUT]
        return whole

    # -- the question ----------------------------------------------------------------------------

    def _find(self, request: Request) -> Entry:
        params = request.path_params
        return self._dataplane.find(params["name"], params.get("version", ""))

    async def _question(self, request: Request) -> tuple[InferRequest, Encode]:
        """`{"text_input": ..., "parameters"?: {...}}`, or an Open Inference request."""
        asked = await self._bodies.json(request)
        if not isinstance(asked, dict) or TEXT_IN not in asked:
            return await self._bodies.open_inference(request), _encode_v2
        texts = asked[TEXT_IN]
        texts = texts if isinstance(texts, list) else [texts]
        if not texts or not all(isinstance(one, str) for one in texts):
            raise InvalidInput(f'"{TEXT_IN}" must be a string or a list of strings.')
        array = object_array([one.encode() for one in texts])
        tensor = Tensor(TEXT_IN, "BYTES", array.shape, array)
        made = InferRequest(
            request.path_params["name"],
            [tensor],
            id=str(asked.get("id", "")),
            model_version=request.path_params.get("version", ""),
            parameters=_parameters(asked),
        )
        return made, lambda answer: v1.encode_response(_plain(answer))

    # -- the answers -----------------------------------------------------------------------------

    async def _answers(
        self, request: Request, entry: Entry, protocol: str, payload: Any
    ) -> AsyncGenerator[Any, None]:
        """Counted, and any failure as a `ServingError`."""
        request_id = request.scope["request_id"]
        metrics = entry.metrics
        try:
            async with aclosing(
                self._dataplane.stream(entry, payload, request_id, dict(request.headers))
            ) as answers:
                async for answer in answers:
                    yield answer
        except ServingError as error:
            metrics.errors[error.reason] += 1
            metrics.requests[protocol, rest_status(error)] += 1
            raise
        metrics.requests[protocol, 200] += 1

    async def _events(
        self, request: Request, entry: Entry, protocol: str, payload: Any, encode: Encode
    ) -> Response:
        answers = self._answers(request, entry, protocol, payload)
        try:
            first = await while_present(request, _first(answers))
        except BaseException:
            await answers.aclose()
            raise
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        return StreamingResponse(
            _written(entry, first, answers, encode),
            media_type="text/event-stream",
            headers=headers,
        )


async def _first(answers: AsyncGenerator[Any, None]) -> list[Any]:
    async for answer in answers:
        return [answer]
    return []


async def _written(
    entry: Entry, first: list[Any], answers: AsyncGenerator[Any, None], encode: Encode
) -> AsyncIterator[bytes]:
    async with aclosing(answers):
        try:
            for answer in first:
                yield _event(encode(answer))
            async for answer in answers:
                yield _event(encode(answer))
        except ServingError as error:
            yield _event(orjson.dumps({"error": str(error)}))
        except Exception as error:
            logger.error("model %s: an answer cannot be sent", entry.model.name, exc_info=error)
            failed = InferenceError(f"Model {entry.model.name} gave an answer that cannot be sent.")
            yield _event(orjson.dumps({"error": str(failed)}))


def _event(data: bytes) -> bytes:
    """One event; a line break within the data needs its own `data:`."""
    return b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n"


def _encode_v2(answer: InferResponse) -> bytes:
    return b"".join(rest.encode_response(answer)[0])


def _plain(answer: InferResponse) -> dict[str, Any]:
    """An answer as `generate` words it: outputs by name, one element as itself."""
    body: dict[str, Any] = {"model_name": answer.model_name}
    if answer.model_version:
        body["model_version"] = answer.model_version
    if answer.id:
        body["id"] = answer.id
    for tensor in answer.outputs:
        values = tensor.data
        body[tensor.name] = values[0] if len(values) == 1 else values
    return body


def _parameters(asked: dict[str, Any]) -> Parameters:
    """`parameters`, and whatever else stands beside the text."""
    beside = {key: asked[key] for key in asked if key not in (TEXT_IN, "parameters", "id")}
    given = asked.get("parameters", {})
    if not isinstance(given, dict):
        raise InvalidInput('"parameters" must be an object.')
    parameters = beside | given
    for key, value in parameters.items():
        if not isinstance(value, (str, int, float)):
            raise InvalidInput(f"Parameter '{key}' must be a string, a number, true or false.")
    return parameters
