"""Models that are generators: events over REST, streams over gRPC."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from tests.integration.server_process import environment

from kedge.protocol.errors import InvalidInput
from kedge.protocol.inference import InferRequest, InferResponse, Tensor
from kedge.protocol.open_inference import grpc as codec
from kedge.protocol.open_inference import messages
from kedge.server import Model
from kedge.server.model import Headers
from kedge.testing import EchoModel, Refused, ServedModels, serve


def words(payload: Any) -> list[str]:
    if isinstance(payload, InferRequest):
        return payload.inputs[0].texts()[0].split()
    return [str(one) for one in payload["instances"]]


def said(model: Model, payload: Any, word: str) -> Any:
    if word == "wrong":
        raise InvalidInput("that word is wrong")
    if not isinstance(payload, InferRequest):
        return {"predictions": [word]}
    array = np.array([word.encode() + b" "], dtype=object)
    return InferResponse(model.name, [Tensor("text_output", "BYTES", (1,), array)])


class Teller(Model):
    """Says its input word by word."""

    def __init__(self, name: str, version: str = "") -> None:
        super().__init__(name, version)
        self.closed = asyncio.Event()

    async def predict(self, payload: Any, headers: Headers) -> AsyncIterator[Any]:
        try:
            for word in words(payload):
                if word == "forever":
                    await asyncio.Event().wait()
                yield said(self, payload, word)
        finally:
            self.closed.set()


class ThreadedTeller(Model):
    def predict(self, payload: Any, headers: Headers) -> Iterator[Any]:
        for word in words(payload):
            yield said(self, payload, word)


MODELS = [Teller, ThreadedTeller]


async def events(served: ServedModels, path: str, body: Any) -> list[Any]:
    async with served.http.post(served.url + path, json=body) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = await answer.text()
    return [json.loads(one.removeprefix("data: ")) for one in text.split("\n\n") if one]


def infer(text: str) -> dict[str, Any]:
    return {"id": "7", "inputs": [{"name": "t", "shape": [1], "datatype": "BYTES", "data": [text]}]}


@pytest.mark.parametrize("kind", MODELS)
async def test_v1_answers_are_events(kind: type[Model]) -> None:
    async with serve(kind("m")) as served:
        found = await events(served, "/v1/models/m:predict", {"instances": ["a", "b"]})
    assert found == [{"predictions": ["a"]}, {"predictions": ["b"]}]


@pytest.mark.parametrize("kind", MODELS)
async def test_infer_stream(kind: type[Model]) -> None:
    async with serve(kind("m")) as served:
        found = await events(served, "/v2/models/m/infer_stream", infer("a b"))
    assert [one["outputs"][0]["data"] for one in found] == [["a "], ["b "]]
    assert {one["id"] for one in found} == {"7"}


async def test_generate_and_its_stream() -> None:
    async with serve(Teller("m", "3")) as served:
        asked = {"text_input": "a b", "parameters": {"n": 1}, "id": "7"}
        path = "/v2/models/m/versions/3/generate"
        found = await events(served, f"{path}_stream", asked)
        whole = await served.json("POST", path, asked)
    named = {"model_name": "m", "model_version": "3", "id": "7"}
    assert found == [{**named, "text_output": "a "}, {**named, "text_output": "b "}]
    assert whole == {**named, "text_output": "a b "}


async def test_errors_before_and_within_a_stream() -> None:
    async with serve(Teller("m")) as served:
        with pytest.raises(Refused, match="wrong") as caught:
            await served.json("POST", "/v2/models/m/infer_stream", infer("wrong"))
        assert caught.value.status == 400
        found = await events(served, "/v2/models/m/infer_stream", infer("a wrong b"))
        with pytest.raises(Refused, match="infer_stream") as caught:
            await served.json("POST", "/v2/models/m/infer", infer("a"))
    assert found[1:] == [{"error": "that word is wrong"}]
    assert caught.value.status == 400


async def test_a_client_that_leaves_ends_the_generator() -> None:
    model = Teller("m")
    async with serve(model) as served:
        async with served.http.post(
            served.url + "/v2/models/m/infer_stream", json=infer("a forever")
        ) as answer:
            await answer.content.readuntil(b"\n\n")
        await asyncio.wait_for(model.closed.wait(), 10)


async def test_a_model_with_one_answer_streams_one() -> None:
    async with serve(EchoModel("m")) as served:
        assert len(await events(served, "/v2/models/m/infer_stream", infer("a"))) == 1


def request(text: str) -> messages.ModelInferRequest:
    made = InferRequest.from_json("m", {"t": ("BYTES", [1], [text])})
    made.id = text
    return codec.encode_request(made)


def stream_call(channel: grpc.aio.Channel) -> Any:
    return channel.stream_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer",
        request_serializer=messages.ModelInferRequest.SerializeToString,
        response_deserializer=messages.ModelStreamInferResponse.FromString,
    )


async def test_grpc_streams_both_ways() -> None:
    async with serve(Teller("m")) as served, grpc.aio.insecure_channel(served.grpc_target) as link:
        call = stream_call(link)()
        seen = []
        for text in ("a b", "wrong", "c"):
            await call.write(request(text))
        await call.done_writing()
        async for answer in call:
            found = answer.infer_response
            texts = codec.decode_response(found).outputs
            seen.append((found.id, answer.error_message, texts[0].data if texts else None))
        assert await call.code() is grpc.StatusCode.OK
    assert seen == [
        ("a b", "", ["a "]),
        ("a b", "", ["b "]),
        ("wrong", "that word is wrong", None),
        ("c", "", ["c "]),
    ]


async def test_large_messages_fit_any_window_both_ways() -> None:
    text = "x" * 3_000_000
    async with serve(Teller("m")) as served:
        options = [("grpc.max_receive_message_length", -1), ("grpc.http2.lookahead_bytes", 65535)]
        async with grpc.aio.insecure_channel(served.grpc_target, options=options) as link:
            call = stream_call(link)()
            for _ in range(3):
                await call.write(request(text))
            await call.done_writing()
            sizes = [len(one.infer_response.raw_output_contents[0]) async for one in call]
    assert sizes == [len(text) + 1 + 4] * 3


async def test_a_cancelled_stream_ends_the_generator() -> None:
    model = Teller("m")
    async with serve(model) as served, grpc.aio.insecure_channel(served.grpc_target) as link:
        call = stream_call(link)()
        await call.write(request("a forever"))
        await call.read()
        call.cancel()
        await asyncio.wait_for(model.closed.wait(), 10)


TRITON = """
import json, queue, sys
import numpy as np
import tritonclient.grpc as triton

client, answers = triton.InferenceServerClient(sys.argv[1]), queue.Queue()
client.start_stream(lambda result, error: answers.put((result, error)))
given = triton.InferInput("t", [1], "BYTES")
given.set_data_from_numpy(np.array([b"a b wrong"], dtype=object))
client.async_stream_infer("m", [given], request_id="7", enable_empty_final_response=True)
seen = []
while True:
    result, error = answers.get(timeout=20)
    if error is not None:
        seen.append(error.message())
        continue
    response = result.get_response()
    if response.parameters["triton_final_response"].bool_param:
        break
    seen.append([response.id, result.as_numpy("text_output").tolist()[0].decode()])
client.stop_stream()
print(json.dumps(seen))
"""


async def test_tritonclient_streams() -> None:
    async with serve(Teller("m")) as served:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "ignore", "-c", TRITON, served.grpc_target,
            env=environment(), stdout=-1, stderr=-1,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    assert json.loads(out) == [["7", "a "], ["7", "b "], "that word is wrong"]
