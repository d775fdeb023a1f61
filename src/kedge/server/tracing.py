"""Spans of requests, by OpenTelemetry, where its standard environment variables ask for them.

The extra `otel` is imported by servers that trace only. Spans are exported over OTLP/HTTP in
batches, by a thread. A request's span is the child of the one its client names (W3C traceparent);
within it are `queue` and `predict`, or the steps of a model of one's own.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from kedge.server.batching import Job
from kedge.server.log import logger
from kedge.server.request_id import TracedId

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

    from kedge.server.observing import Fields

CLOSE_SECONDS = 5.0
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HTTP = "http/protobuf"
_FIXED_BY = "Fix: pip install 'kedge[otel]', or unset OTEL_EXPORTER_OTLP_ENDPOINT."
_PARENT = (b"traceparent", b"tracestate")


def is_asked_for(env: Mapping[str, str]) -> bool:
    """An endpoint or an exporter is named, and the SDK is not switched off."""
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = env.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter:
        return exporter != "none"
    return any(env.get(name) for name in _ENDPOINTS)


def start(env: Mapping[str, str]) -> Tracing | None:
    """Tracing as the environment has it; where that cannot be, a warning and none.

    A model that answers untraced is better than one that does not answer.
    """
    exporter = env.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower()
    if exporter != "otlp":
        logger.warning(
            "no tracing: OTEL_TRACES_EXPORTER is %r. Fix: set it to otlp, the one there is.",
            exporter,
        )
        return None
    protocol = next((env[name] for name in _PROTOCOLS if env.get(name)), _HTTP)
    if protocol != _HTTP:
        logger.warning(
            "no tracing: the OTLP protocol is %r. Fix: set OTEL_EXPORTER_OTLP_PROTOCOL to %s (the "
            "collector's port is then mostly 4318).",
            protocol,
            _HTTP,
        )
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        logger.warning("no tracing: OpenTelemetry is not installed (%s). %s", error, _FIXED_BY)
        return None
    return Tracing(OTLPSpanExporter(), _service(env))


def _service(env: Mapping[str, str]) -> str:
    """What the traces call this server, where the environment does not say."""
    if env.get("OTEL_SERVICE_NAME") or "service.name=" in env.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        return ""
    return env.get("INFERENCE_SERVICE_NAME") or "kedge"


class Tracing:
    """Begins a span per request."""

    def __init__(self, exporter: SpanExporter, service: str = "") -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = TracerProvider(
            resource=Resource.create({"service.name": service} if service else {}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            trace.set_tracer_provider(self._provider)  # For spans of a model's own.
        self._tracer = self._provider.get_tracer("kedge.server")
        self._propagator = TraceContextTextMapPropagator()
        self._kind = trace.SpanKind.SERVER
        self._current = trace.get_current_span

    def begin(
        self, name: str, model: str, fields: Fields, request_id: str, *, is_grpc: bool
    ) -> RequestSpan:
        carrier = {key.decode(): value.decode("latin-1") for key, value in fields if key in _PARENT}
        attributes = {"kedge.model": model, "kedge.request_id": request_id}
        if is_grpc:
            service, _, method = name.rpartition("/")
            attributes |= {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        else:
            verb, _, path = name.partition(" ")
            attributes |= {"http.request.method": verb, "url.path": path}
        span = self._tracer.start_span(
            name, self._propagator.extract(carrier), self._kind, attributes
        )
        return RequestSpan(self, span, request_id, is_grpc=is_grpc)

    def step(self, name: str, began: float, ended: float) -> None:
        """A step of the request that is current; times are of `time.perf_counter`."""
        if self._current().is_recording():
            zero = _zero()
            self.part(name, None, zero + _ns(began), zero + _ns(ended))

    def part(
        self,
        name: str,
        context: Context | None,
        began: int,
        ended: int,
        attributes: Mapping[str, int] | None = None,
    ) -> None:
        """A span that has ended; times in ns since 1970."""
        span = self._tracer.start_span(name, context, attributes=attributes, start_time=began)
        span.end(ended)

    async def close(self) -> None:
        """Exports what is left, within bounds."""
        thread = threading.Thread(target=self._provider.shutdown, daemon=True)
        thread.start()
        await asyncio.to_thread(thread.join, CLOSE_SECONDS)


class RequestSpan:
    """One request's span.

    Attributes:
        request_id: names the trace, too.
        traceparent: by which what the request leads to becomes a part of it.
    """

    __slots__ = ("_is_grpc", "_span", "_tracing", "request_id", "traceparent")

    def __init__(self, tracing: Tracing, span: Span, request_id: str, *, is_grpc: bool) -> None:
        self._tracing = tracing
        self._span = span
        self._is_grpc = is_grpc
        known = span.get_span_context()
        self.traceparent = f"00-{known.trace_id:032x}-{known.span_id:016x}-{known.trace_flags:02x}"
        self.request_id = TracedId(request_id, self.traceparent)

    def current(self) -> AbstractContextManager[Any]:
        from opentelemetry.trace import use_span

        return use_span(self._span, record_exception=False, set_status_on_exception=False)

    def end(self, code: int, error: str, job: Job | None) -> None:
        """The request is answered: with what code, and why that is an error."""
        from opentelemetry.trace import Status, StatusCode, set_span_in_context

        span = self._span
        if not span.is_recording():
            return
        if job is not None and job.began:
            context, zero = set_span_in_context(span), _zero()
            began, ended = zero + _ns(job.began), zero + _ns(job.began + job.seconds)
            self._tracing.part("queue", context, zero + _ns(job.queued), began)
            joined = {"kedge.batch.requests": job.joined}
            self._tracing.part("predict", context, began, ended, joined)
        kind = "rpc.grpc.status_code" if self._is_grpc else "http.response.status_code"
        span.set_attribute(kind, code)
        if error and (self._is_grpc or code >= 500):
            span.set_status(Status(StatusCode.ERROR, error))
        span.end()


def _zero() -> int:
    """`time.perf_counter`'s zero, in ns since 1970."""
    return time.time_ns() - time.perf_counter_ns()


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
