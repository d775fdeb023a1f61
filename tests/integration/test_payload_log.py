"""Payload logging by a served model: to a real receiver, over every protocol, to the end."""

from __future__ import annotations

import gzip
import json
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson
import pytest
from tests.integration import trained
from tests.integration.receiver import Received, Receiver, receiving
from tests.integration.server_process import failed_start, serving

from kedge.server import Model
from kedge.server.model import Headers
from kedge.server.payloads.options import Mode, PayloadOptions
from kedge.testing import EchoModel, Refused, serve


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


class Teller(Model):
    """One answer per instance."""

    async def predict(self, payload: Any, headers: Headers) -> AsyncIterator[Any]:
        for one in payload["instances"]:
            yield {"predictions": [one]}

    def explain(self, payload: Any, headers: Headers) -> Any:
        return {"explanations": payload["instances"]}


def to(receiver: Receiver, mode: Mode = "all", **more: Any) -> PayloadOptions:
    return PayloadOptions(receiver.url + "/sink?a=b", mode, **more)


def pairs(received: list[Received]) -> list[tuple[str, Any]]:
    """Kind and JSON body, requests before answers."""
    found = [(one.headers["ce-type"].rpartition(".")[2], one.body) for one in received]
    return [(kind, orjson.loads(body)) for kind, body in sorted(found)]


async def test_v1_as_an_event_each_way(receiver: Receiver) -> None:
    options = to(
        receiver,
        source="pod-1",
        inference_service="iris",
        component="predictor",
        metadata_headers=("X-User",),
        annotations=(("team", "a"),),
    )
    async with serve(EchoModel(), payloads=options) as served:
        await served.predict({"instances": [1]}, x_user="me", x_request_id="r-1")
    asked, answered = sorted(receiver.wait_for(2), key=lambda one: one.headers["ce-type"])
    assert asked.path == "/sink?a=b"
    assert orjson.loads(asked.body) == {"instances": [1]}
    assert orjson.loads(answered.body) == {"predictions": [1]}
    assert asked.headers["ce-type"] == "org.kubeflow.serving.inference.request"
    assert answered.headers["ce-type"] == "org.kubeflow.serving.inference.response"
    assert asked.headers["ce-id"] == answered.headers["ce-id"]
    for one in (asked, answered):
        assert one.headers["ce-source"] == "pod-1"
        assert one.headers["ce-inferenceservicename"] == "iris"
        assert one.headers["ce-component"] == "predictor"
        assert one.headers["ce-requestid"] == "r-1"
        assert json.loads(one.headers["ce-metadata"]) == {"x-user": ["me"]}
        assert json.loads(one.headers["ce-annotations"]) == {"team": "a"}
        assert one.headers["content-type"] == "application/json"


async def test_the_clients_event_id_is_kept_and_gzip_undone(receiver: Receiver) -> None:
    async with serve(EchoModel(), payloads=to(receiver, "request")) as served:
        body = gzip.compress(b'{"instances":[1]}')
        await served.json(
            "POST", "/v1/models/echo:predict", body, content_encoding="gzip", ce_id="mine"
        )
    (one,) = receiver.wait_for(1)
    assert (one.headers["ce-id"], one.body) == ("mine", b'{"instances":[1]}')


@pytest.mark.parametrize("transport", ["rest", "grpc"])
async def test_open_inference_is_json_over_either_transport(
    receiver: Receiver, transport: Any
) -> None:
    async with serve(EchoModel(), payloads=to(receiver)) as served:
        await served.infer({"x": np.array([[1, 2]], dtype=np.int32)}, transport=transport)
    (kind, asked), (_, answered) = pairs(receiver.wait_for(2))
    assert kind == "request"
    assert asked["inputs"][0]["datatype"] == "INT32"
    assert answered["outputs"][0]["data"] == [1, 2]


async def test_binary_tensors_say_where_they_begin(receiver: Receiver) -> None:
    async with serve(EchoModel(), payloads=to(receiver, "request")) as served:
        await served.infer({"x": np.array([1.5], dtype=np.float32)}, binary=True)
    (one,) = receiver.wait_for(1)
    header = orjson.loads(one.body[: int(one.headers["ce-jsonlength"])])
    assert header["inputs"][0]["parameters"] == {"binary_data_size": 4}


async def test_errors_have_no_answer_to_log(receiver: Receiver) -> None:
    async with serve(EchoModel(), payloads=to(receiver)) as served:
        with pytest.raises(Refused):
            await served.predict({"instances": 1})
        with pytest.raises(Refused):
            await served.infer({"x": np.array([1])}, model="none", transport="grpc")
    assert [kind for kind, _ in pairs(receiver.wait_for(2))] == ["request", "request"]


async def test_explanations_and_streams(receiver: Receiver) -> None:
    async with serve(Teller("t"), payloads=to(receiver)) as served:
        await served.predict({"instances": [1]}, verb="explain")
        url = f"{served.url}/v1/models/t:predict"
        async with served.http.post(url, json={"instances": [1, 2]}) as answer:
            await answer.read()
    received = receiver.wait_for(4)
    texts = sorted(one.body for one in received if one.headers["ce-type"].endswith("response"))
    assert texts == [
        b'data: {"predictions":[1]}\n\ndata: {"predictions":[2]}\n\n',
        b'{"explanations":[1]}',
    ]


async def test_a_conversation_over_grpc(receiver: Receiver) -> None:
    from kedge.protocol.inference import InferRequest
    from kedge.protocol.open_inference import grpc as codec
    from kedge.protocol.open_inference import messages

    asked = codec.encode_request(InferRequest.from_json("echo", {"x": ("INT32", [1], [1])}))

    async def twice() -> AsyncIterator[Any]:
        yield asked
        yield asked

    async with (
        serve(EchoModel(), payloads=to(receiver)) as served,
        grpc.aio.insecure_channel(
            served.grpc_target, options=[("grpc.enable_http_proxy", 0)]
        ) as channel,
    ):
        call = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelStreamInferResponse.FromString,
        )(twice())
        assert len([one async for one in call]) == 2
    kinds = [kind for kind, _ in pairs(receiver.wait_for(4))]
    assert kinds == ["request", "request", "response", "response"]


async def test_a_receiver_that_hangs_delays_no_prediction(receiver: Receiver) -> None:
    hold = threading.Event()
    receiver.status = lambda: 200 if hold.wait(30) else 500
    options = to(receiver, "request", records=3, senders=1)
    async with serve(EchoModel(), payloads=options) as served:
        for _ in range(10):
            await served.predict({"instances": [1]})
        async with served.http.get(f"{served.url}/metrics") as answer:
            page = await answer.text()
        assert 'payload_log_records_total{outcome="dropped"} 7.0' in page
        hold.set()
        receiver.wait_for(3)


async def test_a_receiver_that_is_busy_is_asked_again(receiver: Receiver) -> None:
    calls = count()
    receiver.status = lambda: 503 if next(calls) < 1 else 200
    async with serve(EchoModel(), payloads=to(receiver, "request")) as served:
        await served.predict({"instances": [1]})
        receiver.wait_for(1)


def slowly() -> int:
    time.sleep(0.05)
    return 200


def test_what_waits_at_sigterm_is_sent(receiver: Receiver, tmp_path: Path) -> None:
    folder = trained.sklearn_classifier(tmp_path)
    receiver.status = slowly
    arguments = (f"--log-url={receiver.url}", "--log-mode=all", "--namespace=ml")
    with serving("sklearn", folder, tmp_path / "log", *arguments) as served:
        for _ in range(20):
            assert served.post("/v1/models/m:predict", {"instances": trained.ROWS})[0] == 200
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(20) == 0
    assert len(receiver.got) == 40
    assert {one.headers["ce-namespace"] for one in receiver.got} == {"ml"}
    assert receiver.got[0].headers["ce-source"].startswith("http://")


def test_workers_share_a_file(tmp_path: Path) -> None:
    folder = trained.sklearn_classifier(tmp_path)
    path = tmp_path / "payloads" / "log.jsonl"
    flags = ("--workers=2", "--preload=true", f"--log-url=file://{path}", "--log-mode=request")
    with serving("sklearn", folder, tmp_path / "log", *flags) as served:
        for _ in range(20):
            served.connection.close()  # The next connection may be the other worker's.
            assert served.post("/v1/models/m:predict", {"instances": trained.ROWS})[0] == 200
        status, _, page = served.request("GET", "/metrics")
        assert status == 200
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(30) == 0
    assert b"payload_log_records_total" in page
    assert len([orjson.loads(line) for line in path.read_bytes().splitlines()]) == 20


@pytest.mark.parametrize("workers", [1, 2])
def test_a_log_that_cannot_be_is_told_before_the_model(workers: int, tmp_path: Path) -> None:
    folder = trained.sklearn_classifier(tmp_path)
    flags = (f"--workers={workers}", "--log-url=file:///proc/nowhere/log")
    code, line = failed_start("sklearn", folder, *flags)
    assert code == 1
    assert line.startswith("BadUsage: Payloads cannot be logged to /proc/nowhere/log: ")


def test_payloads_to_a_file(tmp_path: Path) -> None:
    folder = trained.sklearn_classifier(tmp_path)
    path = tmp_path / "payloads" / "log.jsonl"
    with serving("sklearn", folder, tmp_path / "log", f"--log-url=file://{path}") as served:
        status, body = served.post("/v1/models/m:predict", {"instances": trained.ROWS})
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(20) == 0
    asked, answered = (orjson.loads(line) for line in path.read_bytes().splitlines())
    assert asked["data"] == {"instances": trained.ROWS}
    assert (status, answered["data"]) == (200, body)
    assert asked["id"] == answered["id"]


async def test_names_of_the_cluster_are_reached_by_the_proxy(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", receiver.url)
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.0/8")
    options = PayloadOptions("http://sink.default/in", "request")
    async with serve(EchoModel(), payloads=options) as served:
        await served.predict({"instances": [1]})
    (one,) = receiver.wait_for(1)
    assert (one.path, one.headers["host"]) == ("http://sink.default/in", "sink.default")
