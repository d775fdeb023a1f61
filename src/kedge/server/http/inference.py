"""V1 predict and Open Inference infer: bodies to the data plane and back."""

from __future__ import annotations

import re
import zlib
from collections.abc import Coroutine
from typing import Any
from urllib.parse import unquote

import orjson

from kedge.protocol import v1
from kedge.protocol.errors import InferenceError, InvalidInput, PayloadTooLarge, ServingError
from kedge.protocol.inference import InferRequest, InferResponse
from kedge.protocol.open_inference import rest
from kedge.server.batching import Job
from kedge.server.dataplane import DataPlane
from kedge.server.http import cloudevents
from kedge.server.http.cloudevents import Event
from kedge.server.http.heads import LENGTH, Fields, Headers, Target
from kedge.server.http.reply import BINARY, JSON, Reply, error_reply, named
from kedge.server.limits import MIB, Limits
from kedge.server.log import logger
from kedge.server.repository import Entry
from kedge.server.request_id import chosen, passed_on

_V2 = re.compile(rb"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer/?")
_V1 = re.compile(rb"/v1/models/([^/]+):predict")
_ORIGIN = re.compile(rb"^https?://[^/]*", re.IGNORECASE)
"""Clients of a proxy name the whole URL, and a proxy may leave it so."""
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
        self, target: Target, headers: Headers, body: bytes, request_id: str = ""
    ) -> Reply | Job | Coroutine[Any, Any, Reply]:
        """The reply, a job whose `encode` gives it, or a coroutine that does; never raises."""
        facts = headers.read()
        request_id = request_id or chosen(facts.request_id)
        try:
            entry = self._dataplane.find(target.model, target.version)
        except ServingError as error:
            return named(error_reply(error), request_id)
        call = _Call(entry, target, request_id)
        try:
            if facts.content_encoding and facts.content_encoding != b"identity":
                body = decompress(body, facts.content_encoding, self.body_limit(target, headers))
            if target.protocol == "v2":
                length = None if facts.json_length is None else _number(facts.json_length)
                payload: Any = rest.decode_request(
                    body, target.model, target.version, length, request_id
                )
            else:
                payload = v1.decode_request(body, facts.content_type)
                if (
                    facts.is_event
                    or (isinstance(payload, dict) and "specversion" in payload)
                    or facts.content_type.startswith(cloudevents.STRUCTURED)
                ):
                    call.event = cloudevents.read(text_headers(headers), payload)
                    payload = call.event.data if call.event is not None else payload
            model_headers = None
            if not entry.plain:
                model_headers = text_headers(headers) | passed_on(request_id)
            outcome = self._dataplane.begin(entry, payload, request_id, model_headers)
            if isinstance(outcome, Job):
                outcome.encode = call.settled
                return outcome
            if isinstance(outcome, Coroutine):
                return call.later(payload, outcome)
            return call.encode(payload, outcome)
        except Exception as error:
            return call.failed(error)


class _Call:
    """One request of a model, and how its answer is sent."""

    __slots__ = ("entry", "event", "request_id", "target")

    def __init__(self, entry: Entry, target: Target, request_id: str) -> None:
        self.entry = entry
        self.target = target
        self.request_id = request_id
        self.event: Event | None = None

    def settled(self, job: Job) -> Reply:
        try:
            if job.error is not None:
                raise job.error
            if job.answer is None and self.target.protocol == "v2":
                model = self.entry.model
                body = rest.encode_results(model.name, model.version, job.payload, job.results)
                if body is not None:
                    return self._good([body], JSON, b"")
            return self.encode(job.payload, job.given())
        except Exception as error:
            return self.failed(error)

    async def later(self, payload: Any, outcome: Coroutine[Any, Any, Any]) -> Reply:
        try:
            return self.encode(payload, await outcome)
        except Exception as error:
            return self.failed(error)

    def encode(self, payload: Any, outcome: Any) -> Reply:
        content_type, extra = JSON, b""
        if self.target.protocol == "v2":
            request = payload if isinstance(payload, InferRequest) else None
            body, json_length = rest.encode_response(outcome, request)
            if json_length is not None:
                content_type = BINARY
                extra = b"%s: %d\r\n" % (LENGTH, json_length)
        elif self.event is not None:
            raw, named = cloudevents.answer(self.event, self.target.model, _event_data(outcome))
            body, content_type = [raw], named.pop("content-type").encode()
            extra = "".join(f"{name}: {value}\r\n" for name, value in named.items()).encode()
        else:
            body = [encode_v1(outcome)]
        return self._good(body, content_type, extra)

    def _good(self, body: list[bytes], content_type: bytes, extra: bytes) -> Reply:
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


def decompress(body: bytes, encoding: bytes, limit: int) -> bytes:
    """The body behind `content-encoding`; bounded, whatever the compressed size promises."""
    if encoding.lower() not in (b"gzip", b"x-gzip", b"deflate"):
        raise InvalidInput(
            f"content-encoding {encoding[:40].decode('latin-1')!r} is not understood.",
            fix="Send the body as it is, or with gzip or deflate.",
        )
    unpacker = zlib.decompressobj(wbits=47)
    try:
        plain = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidInput(f"The body is not valid {encoding.decode('latin-1')}.") from error
    if len(plain) > limit:
        raise too_large(limit, limit + 1, "unpacked body")
    if not unpacker.eof:
        raise InvalidInput("The compressed body ends too early.")
    return plain


def too_large(limit: int, size: int | None, what: str = "body") -> PayloadTooLarge:
    found = f"has {size} bytes" if size is not None else "goes on"
    return PayloadTooLarge(
        f"The {what} {found}, but this server takes {limit // MIB} MiB.",
        fix="Send large tensors in binary form (Inference-Header-Content-Length) or over gRPC.",
    )
