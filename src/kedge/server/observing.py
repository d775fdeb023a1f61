"""What is noted of single requests, besides their figures: payloads and spans.

A transport that observes begins an `Observation` per inference and ends it with the answer. Those
that do not are other classes, so that what is off costs nothing.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from kedge.server.batching import Job
from kedge.server.request_id import NAME, chosen

if TYPE_CHECKING:
    from kedge.server.metrics import Metrics
    from kedge.server.payloads.log import PayloadLog
    from kedge.server.payloads.options import PayloadOptions
    from kedge.server.payloads.records import Kind
    from kedge.server.tracing import RequestSpan, Tracing

DID_NOT_WAIT = "The client did not wait."

Fields = Iterable[tuple[bytes, bytes]]
"""Headers or metadata, with lower-case names."""


class Observer:
    """Begins observations; at least one of its parts is there."""

    def __init__(self, payloads: PayloadLog | None, tracing: Tracing | None) -> None:
        self.payloads = payloads
        self._tracing = tracing
        names = payloads.options.metadata_headers if payloads is not None else ()
        self._metadata = frozenset(name.lower().encode("latin-1") for name in names)

    def begin(
        self,
        name: str,
        model: str,
        fields: Fields,
        body: bytes | memoryview,
        *,
        content_type: str = "",
        encoding: bytes = b"",
        json_length: int | None = None,
        request_id: str = "",
        is_grpc: bool = False,
    ) -> Observation:
        """A request has arrived.

        Args:
            name: of the operation, as spans are called.
            request_id: where the transport has one; else it is read from `fields`.
        """
        event_id = sent = b""
        metadata: dict[str, list[str]] = {}
        for key, value in fields:
            if key == b"ce-id":
                event_id = value
            elif key == NAME:
                sent = value
            if key in self._metadata:
                metadata.setdefault(key.decode("latin-1"), []).append(value.decode("latin-1"))
        known = request_id or chosen(sent)
        span = None
        if self._tracing is not None:
            span = self._tracing.begin(name, model, fields, known, is_grpc=is_grpc)
            known = span.request_id
        seen = Observation(
            self.payloads, span, known, event_id.decode("latin-1"), metadata, is_grpc
        )
        if self.payloads is not None and self.payloads.options.wants("request"):
            seen.record("request", body, content_type, json_length, encoding)
        return seen

    async def close(self) -> None:
        """Tells what has not been told yet, within bounds."""
        if self.payloads is not None:
            await self.payloads.close()
        if self._tracing is not None:
            await self._tracing.close()


class Observation:
    """One request, until it is answered.

    Attributes:
        request_id: the client's, or a new one; names its trace where there is one.
    """

    __slots__ = ("_event_id", "_is_grpc", "_metadata", "_payloads", "request_id", "span")

    def __init__(
        self,
        payloads: PayloadLog | None,
        span: RequestSpan | None,
        request_id: str,
        event_id: str,
        metadata: dict[str, list[str]],
        is_grpc: bool,
    ) -> None:
        self._payloads = payloads
        self.span = span
        self.request_id = request_id
        self._event_id = event_id or (str(uuid.uuid4()) if payloads is not None else "")
        self._metadata = metadata
        self._is_grpc = is_grpc

    def current(self) -> AbstractContextManager[object]:
        """Within it, what a model traces of its own belongs to this request."""
        return self.span.current() if self.span is not None else nullcontext()

    @property
    def wants_answer(self) -> bool:
        return self._payloads is not None and self._payloads.options.wants("response")

    def record(
        self,
        kind: Kind,
        body: bytes | memoryview,
        content_type: str,
        json_length: int | None = None,
        encoding: bytes = b"",
    ) -> None:
        """Hands a payload to the log."""
        from kedge.server.payloads.records import Record

        assert self._payloads is not None
        self._payloads.offer(
            Record(
                kind,
                self._event_id,
                self.request_id,
                time.time(),
                content_type,
                body,
                self._metadata,
                json_length,
                self.span.traceparent if self.span is not None else "",
                self._is_grpc,
                encoding,
            )
        )

    def answered(
        self,
        body: bytes,
        content_type: str = "",
        json_length: int | None = None,
        *,
        job: Job | None = None,
        code: int = 200,
    ) -> None:
        """The answer is made; `code` is what its protocol calls success."""
        if self.wants_answer:
            self.record("response", body, content_type, json_length)
        if self.span is not None:
            self.span.end(code, "", job)

    def failed(self, code: int, error: str, *, job: Job | None = None) -> None:
        """There is an error in place of an answer, or nobody to take it (499)."""
        if self.span is not None:
            self.span.end(code, error, job)


class Ending:
    """A job's `encode`, observed; or `gone`, where its client did not wait."""

    __slots__ = ("_code", "_encode", "_seen")

    def __init__(self, seen: Observation, encode: Callable[[Job], Any], code: int) -> None:
        self._seen = seen
        self._encode = encode
        self._code = code

    def __call__(self, job: Job) -> Any:
        return self._encode(job)

    def gone(self, job: Job) -> None:
        self._seen.failed(self._code, DID_NOT_WAIT, job=job)


def observe(
    payloads: PayloadOptions | None, tracing: Tracing | None, metrics: Metrics
) -> Observer | None:
    """What is to be noted; None when that is nothing."""
    log = None
    if payloads is not None:
        from kedge.server.payloads.log import PayloadLog

        log = PayloadLog(payloads, metrics.payloads)
    return Observer(log, tracing) if log is not None or tracing is not None else None
