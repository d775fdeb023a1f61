"""V1 predict and Open Inference infer: bodies to the data plane and back."""

from __future__ import annotations

import re
from collections.abc import Coroutine
from typing import Any
from urllib.parse import unquote

import orjson

from kedge.protocol import v1
from kedge.protocol.compression import decompress
from kedge.protocol.errors import InferenceError, InvalidInput, PayloadTooLarge, ServingError
from kedge.protocol.inference import InferRequest, InferResponse
from kedge.protocol.open_inference import rest
from kedge.server.batching import Job
from kedge.server.dataplane import DataPlane
from kedge.server.http import cloudevents
from kedge.server.http.cloudevents import Event
from kedge.server.http.heads import LENGTH, Facts, Fields, Headers, Target
from kedge.server.http.reply import BINARY, JSON, Reply, error_reply, named
from kedge.server.http.slices import ELEMENTS, is_large, json_pieces, response_pieces
from kedge.server.limits import Limits
from kedge.server.log import logger
from kedge.server.model import ArrayModel, Model, RequestHeaders
from kedge.server.repository import Entry
from kedge.server.request_id import chosen, passed_on
from kedge.server.side import SIDE_BYTES
from kedge.server.side.turns import in_turns
from kedge.server.side.wire import Question

_V2 = re.compile(rb"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer/?")
_V1 = re.compile(rb"/v1/models/([^/]+):predict")
_ORIGIN = re.compile(rb"^https?://[^/]*", re.IGNORECASE)
"""Clients of a proxy name the whole URL, and a proxy may leave it so."""
_OURS = frozenset(
    {"connection", "content-length", "content-type", "date", "transfer-encoding", "x-request-id",
     LENGTH.decode()}
)  # fmt: skip
_HEADER = re.compile(r"[\w!#$%&'*+.^`|~-]+: [^\r\n\0]*", re.ASCII)
_MANY_TARGETS = 1024


class Inference:
    """The adapter between HTTP bodies and the data plane."""

    def __init__(self, dataplane: DataPlane, limits: Limits) -> None:
        self._dataplane = dataplane
        self._limits = limits
        self._targets: dict[bytes, Target] = {}

    def target(self, url: bytes) -> Target | None:
        """What a POST to `url` asks for, when it asks for a prediction."""
        found = self._targets.get(url)
        if found is not None:
            return None if self._streams(found) else found
        path = _ORIGIN.sub(b"", url.partition(b"?")[0])
        if match := _V2.fullmatch(path):
            found = Target("v2", _text(match[1]), _text(match[2] or b""))
        elif match := _V1.fullmatch(path):
            found = Target("v1", _text(match[1]), "")
        if found is not None:
            if len(self._targets) >= _MANY_TARGETS:
                self._targets.clear()
            self._targets[url] = found
            return None if self._streams(found) else found
        return None

    def _streams(self, target: Target) -> bool:
        """V1 answers of a generator are events, which ASGI sends."""
        streaming = self._dataplane.repository.streaming
        return bool(streaming) and target.protocol == "v1" and target.model in streaming

    def body_limit(self, target: Target, headers: Fields) -> int:
        binary = target.protocol == "v2" and any(name == LENGTH for name, _ in headers)
        return self._limits.binary_bytes if binary else self._limits.json_bytes

    def answer(
        self,
        target: Target,
        headers: Headers,
        body: bytes | list[bytes],
        request_id: str = "",
    ) -> Reply | Job | Coroutine[Any, Any, Reply]:
        """The reply, a job whose `encode` gives it, or a coroutine that does; never raises.

        Of a large body, which may come in pieces, the JSON is read by the side process.
        """
        facts = headers.read()
        request_id = request_id or chosen(facts.request_id)
        try:
            entry = self._dataplane.find(target.model, target.version)
        except ServingError as error:
            return named(error_reply(error), request_id)
        call = Call(entry, target, request_id)
        try:
            length = None if facts.json_length is None else _number(facts.json_length)
            if isinstance(body, list) or len(body) > SIDE_BYTES:
                if length is None or length > SIDE_BYTES:
                    return self._aside(call, headers, body)
                body = b"".join(body) if isinstance(body, list) else body
            if facts.content_encoding and facts.content_encoding != b"identity":
                limit = self.body_limit(target, headers)
                try:
                    body = decompress(body, facts.content_encoding, min(limit, SIDE_BYTES))
                except PayloadTooLarge:
                    if limit <= SIDE_BYTES:
                        raise
                    return self._aside(call, headers, body)
            if target.protocol == "v2":
                payload: Any = rest.decode_request(
                    body, target.model, target.version, length, request_id
                )
            else:
                payload = _unwrapped(call, headers, v1.decode_request(body, facts.content_type))
            outcome = self._begin(call, headers, payload)
            if isinstance(outcome, Job):
                outcome.encode = call.settled
                return outcome
            if isinstance(outcome, Coroutine):
                return call.later(payload, outcome)
            return call.encode(payload, outcome)
        except Exception as error:
            return call.failed(error)

    def _begin(
        self, call: Call, headers: Headers, payload: Any
    ) -> Any | Job | Coroutine[Any, Any, Any]:
        model_headers = None
        if not call.entry.plain:
            model_headers = text_headers(headers) | passed_on(call.request_id)
            if call.entry.model.return_response_headers:
                model_headers = RequestHeaders(model_headers)
                call.told = model_headers.response
        return self._dataplane.begin(call.entry, payload, call.request_id, model_headers)

    async def _aside(self, call: Call, headers: Headers, body: bytes | list[bytes]) -> Reply:
        """A large body is read by the side process; a model swapped meanwhile is heeded."""
        target = call.target
        try:
            payload = await self._read_aside(call, headers, body)
            while call.entry is not (now := self._dataplane.find(target.model, target.version)):
                call.entry = now
                payload = await self._read_aside(call, headers, body)
            payload = _unwrapped(call, headers, payload)
            outcome = self._begin(call, headers, payload)
            if isinstance(outcome, Job):
                outcome = outcome.wait()
            given = await outcome if isinstance(outcome, Coroutine) else outcome
            reply = call.encode(payload, given)
            return await reply if isinstance(reply, Coroutine) else reply
        except Exception as error:
            return call.failed(error)

    async def _read_aside(self, call: Call, headers: Headers, body: bytes | list[bytes]) -> Any:
        facts, target, entry = headers.read(), call.target, call.entry
        rows = entry.plain and isinstance(entry.model, ArrayModel) and entry.model.reads_rows()
        encoding = facts.content_encoding.decode("latin-1")
        question = Question(
            target.protocol,
            target.model,
            target.version,
            facts.content_type,
            encoding if encoding != "identity" else "",
            self.body_limit(target, headers),
            None if facts.json_length is None else _number(facts.json_length),
            call.request_id,
            rows and not facts.is_event and not _is_structured(facts),
            _columns(entry.model),
        )
        return await self._dataplane.side.read(question, body if isinstance(body, list) else [body])


class Call:
    """One request of a model, and how its answer is sent."""

    __slots__ = ("entry", "event", "request_id", "target", "told")

    def __init__(self, entry: Entry, target: Target, request_id: str) -> None:
        self.entry = entry
        self.target = target
        self.request_id = request_id
        self.event: Event | None = None
        self.told: dict[str, str] | None = None

    def settled(self, job: Job) -> Reply | Coroutine[Any, Any, Reply]:
        try:
            if job.error is not None:
                raise job.error
            if job.answer is None and self.target.protocol == "v2":
                body = rest.encode_results(
                    self.entry.model.name,
                    self.entry.model.version,
                    job.payload,
                    job.results,
                    most=ELEMENTS,
                )
                if body is not None:
                    return self._good([body])
            return self.encode(job.payload, job.given())
        except Exception as error:
            return self.failed(error)

    async def later(self, payload: Any, outcome: Coroutine[Any, Any, Any]) -> Reply:
        try:
            reply = self.encode(payload, await outcome)
            return await reply if isinstance(reply, Coroutine) else reply
        except Exception as error:
            return self.failed(error)

    def encode(self, payload: Any, outcome: Any) -> Reply | Coroutine[Any, Any, Reply]:
        """The reply; a coroutine of it where there is much to encode."""
        if self.event is not None:
            raw, named = cloudevents.answer(self.event, self.target.model, _event_data(outcome))
            content_type = named.pop("content-type").encode()
            extra = "".join(f"{name}: {value}\r\n" for name, value in named.items()).encode()
            return self._good([raw], content_type=content_type, extra=extra)
        request = payload if isinstance(payload, InferRequest) else None
        if is_large(outcome):
            return self._encode_in_turns(request, outcome)
        if self.target.protocol == "v2":
            return self._good(*rest.encode_response(outcome, request))
        return self._good([encode_v1(outcome)])

    async def _encode_in_turns(self, request: InferRequest | None, outcome: Any) -> Reply:
        try:
            if isinstance(outcome, InferResponse):
                return self._good(*await in_turns(response_pieces(outcome, request)))
            return self._good(await in_turns(json_pieces(outcome)))
        except Exception as error:
            return self.failed(error)

    def _good(
        self,
        body: list[bytes],
        json_length: int | None = None,
        *,
        content_type: bytes = JSON,
        extra: bytes = b"",
    ) -> Reply:
        if json_length is not None:
            content_type, extra = BINARY, b"%s: %d\r\n" % (LENGTH, json_length)
        if self.told:
            extra += header_lines(self.told)
            if self.target.protocol == "v1":
                content_type = said_type(self.told) or content_type
        self.entry.metrics.requests[self.target.protocol, 200] += 1
        extra += b"x-request-id: %b\r\n" % self.request_id.encode("latin-1")
        return Reply(200, body, content_type, extra)

    def failed(self, error: Exception) -> Reply:
        entry, target = self.entry, self.target
        if not isinstance(error, ServingError):
            logger.error(
                "model %s: its answer cannot be sent (request %s)",
                entry.model.name,
                self.request_id,
                exc_info=error,
                extra={"request": self.request_id},
            )
            error = InferenceError(
                f"Model {entry.model.name} gave an answer that {target.protocol.upper()} "
                "cannot carry; its log tells why."
            )
        reply = error_reply(error)
        entry.metrics.requests[target.protocol, reply.status] += 1
        entry.metrics.errors[error.reason] += 1
        return named(reply, self.request_id)


def is_inference(path: str) -> bool:
    """Whether a POST there would be answered by `Inference`."""
    return _V2.fullmatch(path.encode()) is not None


def _is_structured(facts: Facts) -> bool:
    return facts.content_type.startswith(cloudevents.STRUCTURED)


def _unwrapped(call: Call, headers: Headers, payload: Any) -> Any:
    """The payload of a V1 request that is an event."""
    facts = headers.read()
    if isinstance(payload, InferRequest) or not (
        facts.is_event
        or (isinstance(payload, dict) and "specversion" in payload)
        or _is_structured(facts)
    ):
        return payload
    call.event = cloudevents.read(text_headers(headers), payload)
    return call.event.data if call.event is not None else payload


def _columns(model: Model) -> list[str] | None:
    columns = model.columns() if isinstance(model, ArrayModel) else None
    return list(columns) if columns is not None else None


def _event_data(outcome: Any) -> Any:
    return orjson.loads(encode_v1(outcome)) if isinstance(outcome, InferResponse) else outcome


def encode_v1(outcome: Any) -> bytes:
    """V1 answers are any JSON value; bytes and text are sent as they are."""
    if isinstance(outcome, bytes):
        return outcome
    if isinstance(outcome, str):
        return outcome.encode("utf-8")
    if isinstance(outcome, InferResponse):
        return b"".join(rest.encode_response(outcome)[0])
    return v1.encode_response(outcome)


def header_lines(told: dict[str, str]) -> bytes:
    """Headers that a model wants its answer to have; what the connection says stays its own."""
    lines = [
        f"{name}: {value}\r\n"
        for name, value in told.items()
        if name.lower() not in _OURS and _HEADER.fullmatch(f"{name}: {value}")
    ]
    return "".join(lines).encode("latin-1", "replace")


def said_type(told: dict[str, str]) -> bytes:
    """The content type that a model wants its answer to have; empty when it says none."""
    found = next((value for name, value in told.items() if name.lower() == "content-type"), "")
    return (
        found.encode("latin-1", "replace") if _HEADER.fullmatch(f"content-type: {found}") else b""
    )


def text_headers(headers: Fields) -> dict[str, str]:
    """The headers as a model sees them: lower-case names, and its own to change."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


def _text(raw: bytes) -> str:
    text = raw.decode("latin-1")
    return unquote(text) if "%" in text else text


def _number(raw: bytes) -> int:
    if not raw.isdigit() or len(raw) > 18:
        raise InvalidInput(
            f"{rest.LENGTH_HEADER} must be a whole number of bytes, not "
            f"{raw[:40].decode('latin-1')!r}."
        )
    return int(raw)
