"""What the protocols offer beside predictions: statistics, versions, states, events."""

from __future__ import annotations

import re
from typing import Any

import grpc
import numpy as np
import orjson
import pytest
from google.protobuf import descriptor_pb2
from tests.unit.server.models import Doubler

from kedge.protocol.inference import InferRequest
from kedge.protocol.open_inference import messages
from kedge.server import Model
from kedge.testing import EchoModel, Refused, ServedModels, serve

EVENT = {"specversion": "1.0", "id": "7", "source": "/me", "type": "ask", "time": "2026-01-01"}
STRUCTURED = "application/cloudevents+json"


async def post(served: ServedModels, body: Any, **headers: str) -> tuple[Any, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    url = f"{served.url}/v1/models/echo:predict"
    async with served.http.post(url, data=orjson.dumps(body), headers=named) as answer:
        assert answer.status == 200, await answer.text()
        return answer.headers, orjson.loads(await answer.read())


async def test_an_event_in_headers_is_answered_in_headers() -> None:
    named = {f"ce-{name}": value for name, value in EVENT.items()}
    async with serve(EchoModel()) as served:
        headers, body = await post(
            served, {"instances": [1]}, content_type="application/json", **named
        )
    assert body == {"predictions": [1]}
    assert headers["content-type"] == "application/json"
    assert headers["ce-specversion"] == "1.0"
    assert headers["ce-type"] == "io.kserve.inference.response"
    assert headers["ce-source"] == "io.kserve.inference.echo"
    assert headers["ce-id"] != "7"


@pytest.mark.parametrize("content_type", [STRUCTURED, "application/json"])
async def test_an_event_in_the_body_is_answered_in_the_body(
    content_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CE_TYPE", "told")
    monkeypatch.setenv("CE_MERGE", "true")
    event = EVENT | {"subject": "s", "data": {"instances": [1]}}
    async with serve(EchoModel()) as served:
        headers, body = await post(served, event, content_type=content_type)
    assert headers["content-type"] == STRUCTURED
    assert body["data"] == {"predictions": [1]}
    assert (body["type"], body["subject"], body["specversion"]) == ("told", "s", "1.0")
    assert body["id"] != "7"


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ({"specversion": "1.0", "data": {}}, "missing attribute id, source, type"),
        (EVENT | {"specversion": "9", "data": {}}, "specversion '9'"),
        (EVENT | {"data": {"instances": 1}}, 'Expected "instances" to be a list'),
        (EVENT | {"data_base64": "?"}, "data_base64"),
        ([], "must be a JSON object"),
    ],
)
async def test_malformed_events(event: Any, why: str) -> None:
    async with serve(EchoModel()) as served:
        with pytest.raises(Refused) as caught:
            await served.json("POST", "/v1/models/echo:predict", event, content_type=STRUCTURED)
    assert caught.value.status == 400
    assert why in caught.value.body["error"]


async def test_explanations_are_events_too() -> None:
    class Explainer(Model):
        def explain(self, payload: Any, headers: Any) -> Any:
            return {"explanations": payload["instances"]}

    async with serve(Explainer("m")) as served:
        event = EVENT | {"data": {"instances": [1]}}
        body = await served.predict(event, verb="explain")
        url = f"{served.url}/v1/models/m:explain"
        named = {"x-request-id": "7"}
        async with served.http.post(url, json={"instances": [2]}, headers=named) as answer:
            assert answer.headers["x-request-id"] == "7"
            assert await answer.json() == {"explanations": [2]}
    assert body["data"] == {"explanations": [1]}


@pytest.mark.parametrize("path", ["", "/versions/3"])
async def test_versions_on_every_route(path: str) -> None:
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}
    async with serve(EchoModel("m", "3")) as served:
        base = f"/v2/models/m{path}"
        assert (await served.json("GET", base))["versions"] == ["3"]
        assert (await served.json("GET", f"{base}/ready"))["ready"] is True
        assert (await served.json("POST", f"{base}/infer", body))["model_version"] == "3"
        assert (await served.json("GET", f"{base}/stats"))["model_stats"][0]["version"] == "3"


@pytest.mark.parametrize("path", ["", "/ready", "/stats"])
async def test_a_version_that_is_not_there(path: str) -> None:
    async with serve(EchoModel("m", "3")) as served:
        with pytest.raises(Refused, match="has no version 4") as caught:
            await served.json("GET", f"/v2/models/m/versions/4{path}")
    assert caught.value.status == 404


async def test_statistics_over_both_transports() -> None:
    async with serve(EchoModel("m"), EchoModel("other")) as served:
        await served.infer({"x": np.zeros(1)})
        await served.predict({"instances": [1]})
        with pytest.raises(Refused):
            await served.infer({"x": np.zeros(1)}, model="m2")
        with pytest.raises(Refused):
            await served.json("POST", "/v2/models/m/infer", {})
        (one,) = (await served.json("GET", "/v2/models/m/stats"))["model_stats"]
        everyone = await served.json("GET", "/v2/models/stats")
        async with grpc.aio.insecure_channel(served.grpc_target) as link:
            call = link.unary_unary(
                "/inference.GRPCInferenceService/ModelStatistics",
                request_serializer=messages.ModelStatisticsRequest.SerializeToString,
                response_deserializer=messages.ModelStatisticsResponse.FromString,
            )
            answer = await call(messages.ModelStatisticsRequest(name="m"))
    assert (one["inference_count"], one["execution_count"]) == (2, 2)
    assert one["inference_stats"]["fail"]["count"] == 1
    assert one["inference_stats"]["success"]["ns"] > 0
    assert [each["name"] for each in everyone["model_stats"]] == ["m", "other"]
    assert answer.model_stats[0].inference_stats.compute_infer.count == 2


async def test_batches_are_told_by_their_rows() -> None:
    async with serve(Doubler("m")) as served:
        await served.infer({"input-0": np.zeros((3, 2))})
        await served.infer({"input-0": np.zeros((3, 2))}, transport="grpc")
        await served.predict({"instances": [[1, 2]]})
        (one,) = (await served.json("GET", "/v2/models/m/stats"))["model_stats"]
    assert (one["inference_count"], one["execution_count"]) == (7, 3)
    runs = {each["batch_size"]: each["compute_infer"]["count"] for each in one["batch_stats"]}
    assert runs == {1: 1, 3: 2}
    assert one["inference_stats"]["queue"]["count"] <= 3


async def test_the_index_tells_states() -> None:
    model = EchoModel("m", "3")
    async with serve(model, EchoModel("n")) as served:
        model.ready = False
        await served.json("POST", "/v2/repository/models/n/unload")
        index = await served.json("POST", "/v2/repository/index", {})
        ready = await served.json("POST", "/v2/repository/index", {"ready": True})
    assert index == [
        {"name": "m", "state": "UNAVAILABLE", "reason": "", "version": "3"},
        {"name": "n", "state": "UNAVAILABLE", "reason": "unloaded"},
    ]
    assert ready == []


def test_whole_numbers_of_any_size_are_exact() -> None:
    request = InferRequest.from_json("m", {"x": ("UINT64", [2], [0, 2**63 + 1])})
    assert request.inputs[0].data == [0, 2**63 + 1]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_names_services_and_their_messages(version: str) -> None:
    ask = messages.ServerReflectionRequest
    symbols = ["inference.GRPCInferenceService", "grpc.health.v1.HealthCheckRequest", "no"]
    questions = [ask(file_containing_symbol=symbol) for symbol in symbols]
    async with (
        serve(EchoModel()) as served,
        grpc.aio.insecure_channel(served.grpc_target) as link,
    ):
        call = link.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=messages.ServerReflectionRequest.SerializeToString,
            response_deserializer=messages.ServerReflectionResponse.FromString,
        )
        asked = call(iter([*questions, ask(list_services="*")]))
        *files, unknown, listed = [one async for one in asked]
    found = [one.file_descriptor_response.file_descriptor_proto[0] for one in files]
    names = [descriptor_pb2.FileDescriptorProto.FromString(one).name for one in found]
    assert names == ["inference.proto", "health.proto"]
    assert unknown.error_response.error_code == 5
    assert [one.name for one in listed.list_services_response.service] == [
        "inference.GRPCInferenceService",
        "grpc.health.v1.Health",
    ]


async def test_the_document_names_every_route_and_the_page_needs_no_one() -> None:
    async with serve(EchoModel("<m>")) as served:
        described = await served.json("GET", "/openapi.json")
        async with served.http.get(served.url + "/docs") as answer:
            assert answer.headers["content-type"].startswith("text/html")
            page = await answer.text()
    paths = described["paths"]
    assert {"/v1/models/{name}:predict", "/v2/models/{name}/infer", "/metrics"} <= set(paths)
    ids = [one["operationId"] for verbs in paths.values() for one in verbs.values()]
    assert len(ids) == len(set(ids))
    schemas = described["components"]["schemas"]
    named = re.findall(r"#/components/schemas/(\w+)", orjson.dumps(described).decode())
    assert set(named) <= set(schemas)
    assert "&lt;m&gt;" in page
    assert not re.search("https?://|src=", page)
