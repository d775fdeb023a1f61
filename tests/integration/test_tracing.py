"""Traces, as a real OTLP/HTTP receiver gets them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from tests.integration import trained
from tests.integration.receiver import Receiver, receiving
from tests.integration.server_process import serving

from kedge.server import Model, PredictorConfig
from kedge.server.model import Headers
from kedge.testing import EchoModel, Refused, serve

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiving() as one:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", one.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield one


def exported(receiver: Receiver) -> list[tuple[str, Span]]:
    """Every span that came, with its service's name; first begun first."""
    found = []
    for one in receiver.got:
        assert one.path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(one.body).resource_spans:
            named = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                found += [(named["service.name"], span) for span in scope.spans]
    return sorted(found, key=lambda pair: pair[1].start_time_unix_nano)


def named(receiver: Receiver) -> dict[str, Span]:
    return {span.name: span for _, span in exported(receiver)}


def attributes(span: Span) -> dict[str, Any]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


async def test_a_request_and_its_steps(receiver: Receiver) -> None:
    async with serve(EchoModel(), tracing=True) as served:
        await served.predict({"instances": [1]}, traceparent=PARENT, x_request_id="r")
    spans = named(receiver)
    request = spans["POST /v1/models/echo:predict"]
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT[36:52])
    assert request.kind == Span.SPAN_KIND_SERVER
    told = attributes(request)
    assert told["http.response.status_code"] == 200
    assert (told["kedge.model"], told["kedge.request_id"]) == ("echo", "r")
    for step in ("preprocess", "predict", "postprocess"):
        assert spans[step].parent_span_id == request.span_id
        assert spans[step].start_time_unix_nano >= request.start_time_unix_nano - 1000
        assert spans[step].end_time_unix_nano <= request.end_time_unix_nano + 1000


async def test_a_call(receiver: Receiver) -> None:
    async with serve(EchoModel(), tracing=True) as served:
        await served.infer({"x": np.array([1])}, transport="grpc", traceparent=PARENT)
        with pytest.raises(Refused):
            await served.infer({"x": np.array([1])}, transport="grpc", model="none")
    calls = [span for _, span in exported(receiver) if span.kind == Span.SPAN_KIND_SERVER]
    assert {span.name for span in calls} == {"inference.GRPCInferenceService/ModelInfer"}
    assert calls[0].trace_id.hex() == TRACE
    assert attributes(calls[0])["rpc.system"] == "grpc"
    assert attributes(calls[1])["rpc.grpc.status_code"] == 5
    assert calls[1].status.code == Status.STATUS_CODE_ERROR


async def test_a_failure_and_an_explanation(receiver: Receiver) -> None:
    broken = EchoModel()
    broken.fail = ValueError("x")
    async with serve(broken, tracing=True) as served:
        with pytest.raises(Refused):
            await served.predict({"instances": [1]})
        with pytest.raises(Refused):
            await served.predict({"instances": [1]}, verb="explain")
    spans = named(receiver)
    assert spans["POST /v1/models/echo:predict"].status.code == Status.STATUS_CODE_ERROR
    assert attributes(spans["POST /v1/models/echo:explain"])["http.response.status_code"] == 501


async def test_a_transformer_s_predictor_belongs_to_its_trace(receiver: Receiver) -> None:
    class Transformer(Model):
        def preprocess(self, payload: Any, headers: Headers) -> Any:
            return payload

    async with serve(EchoModel("m"), tracing=True) as behind:
        config = PredictorConfig(behind.url.removeprefix("http://"))
        async with serve(Transformer("m"), predictor=config, tracing=True) as front:
            await front.predict({"instances": [1]})
    first, second = (span for _, span in exported(receiver) if span.kind == Span.SPAN_KIND_SERVER)
    assert second.trace_id == first.trace_id
    assert second.parent_span_id == first.span_id


def test_a_batch_in_a_real_server(receiver: Receiver, tmp_path: Path) -> None:
    folder = trained.sklearn_classifier(tmp_path)
    log = tmp_path / "log"
    with serving("sklearn", folder, log, INFERENCE_SERVICE_NAME="iris") as served:
        headers = {"content_type": "application/json", "traceparent": PARENT}
        body = b'{"instances":[[6.8,2.8,4.8,1.4]]}'
        assert served.request("POST", "/v1/models/m:predict", body, **headers)[0] == 200
        assert served.request("POST", "/v1/models/m:predict", body, traceparent=PARENT[:-1] + "0")
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(20) == 0
    assert {service for service, _ in exported(receiver)} == {"iris"}
    assert len(exported(receiver)) == 3, "the second is not sampled"
    spans = named(receiver)
    assert set(spans) == {"POST /v1/models/m:predict", "queue", "predict"}
    assert attributes(spans["predict"])["kedge.batch.requests"] == 1
    assert spans["queue"].end_time_unix_nano == spans["predict"].start_time_unix_nano
    assert f"traceId: {TRACE}" in log.read_text()


def test_workers_that_were_forked_trace_too(receiver: Receiver, tmp_path: Path) -> None:
    folder = trained.sklearn_classifier(tmp_path)
    log = tmp_path / "log"
    with serving("sklearn", folder, log, "--workers=2", "--preload=true") as served:
        for _ in range(10):
            served.connection.close()
            assert served.post("/v1/models/m:predict", {"instances": trained.ROWS})[0] == 200
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(30) == 0
    requests = [span for _, span in exported(receiver) if span.kind == Span.SPAN_KIND_SERVER]
    assert len(requests) == len({span.span_id for span in requests}) == 10
    assert "threads running" not in log.read_text()


@pytest.mark.parametrize(
    ("env", "text"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "the OTLP protocol is 'grpc'. Fix:"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is 'zipkin'. Fix:"),
        ({"OTEL_TRACES_EXPORTER": "none"}, ""),
    ],
)
def test_what_cannot_be_traced_is_served(
    env: dict[str, str], text: str, receiver: Receiver, tmp_path: Path
) -> None:
    folder = trained.sklearn_classifier(tmp_path)
    log = tmp_path / "log"
    with serving("sklearn", folder, log, **env) as served:
        assert served.post("/v1/models/m:predict", {"instances": trained.ROWS})[0] == 200
        served.process.send_signal(signal.SIGTERM)
        served.process.wait(20)
    assert text in log.read_text()
    assert receiver.got == []
