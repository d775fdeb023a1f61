"""Places at a model: streams take them too, and whoever leaves or is late gives them back."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc.aio
import pytest

from kedge.protocol.inference import InferRequest, InferResponse, Tensor, object_array
from kedge.protocol.open_inference import grpc as codec
from kedge.protocol.open_inference import messages
from kedge.server import Model
from kedge.server.limits import Limits
from kedge.server.model import Headers
from kedge.testing import Refused, ServedModels, serve

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
INFER = "/inference.GRPCInferenceService/ModelInfer"
ONE_PLACE = Limits(concurrency=1, waiting=1)
IMPATIENT = Limits(concurrency=1, waiting=1, request_seconds=0.3)


class Gated(Model):
    """Answers "begun", and the rest when told to.

    Attributes:
        inside: requests under way.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.inside = 0
        self.go = asyncio.Event()

    async def predict(self, payload: Any, headers: Headers) -> Any:
        self.inside += 1
        try:
            yield answer(self.name, "begun")
            await self.go.wait()
            yield answer(self.name, "ended")
        finally:
            self.inside -= 1


class Waiting(Gated):
    """One answer, when told to."""

    async def predict(self, payload: Any, headers: Headers) -> Any:
        self.inside += 1
        try:
            await self.go.wait()
        finally:
            self.inside -= 1
        return answer(self.name, "ended")

    async def explain(self, payload: Any, headers: Headers) -> Any:
        return await self.predict(payload, headers)


class Threaded(Model):
    """A plain generator, and it hangs in its thread until `free` is set."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.free = threading.Event()
        self.closed = threading.Event()

    def predict(self, payload: Any, headers: Headers) -> Iterator[Any]:
        try:
            yield answer(self.name, "begun")
            if payload.inputs[0].texts() == ["hang"]:
                self.free.wait()
            yield answer(self.name, "ended")
        finally:
            self.closed.set()


def answer(name: str, text: str) -> InferResponse:
    array = object_array([text.encode()])
    return InferResponse(name, [Tensor("text_output", "BYTES", array.shape, array)])


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - of models and gates, which signal nothing
            await asyncio.sleep(0.005)


@asynccontextmanager
async def opened(one: ServedModels, path: str, body: Any) -> AsyncIterator[asyncio.StreamReader]:
    """A connection on which `body` was posted; closed as a client that cancels closes it."""
    raw = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(one.url.rpartition(":")[2]))
    writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n\r\n".encode())
    writer.write(raw)
    try:
        yield reader
    finally:
        writer.close()


def message(text: str = "x") -> bytes:
    array = object_array([text.encode()])
    request = InferRequest("m", [Tensor("text_input", "BYTES", array.shape, array)])
    return bytes(codec.encode_request(request).SerializeToString())


GENERATE = "/v2/models/m/generate_stream"
TEXT = {"text_input": "x"}


async def test_streams_wait_for_their_place_and_are_refused_beyond_the_queue() -> None:
    model = Gated("m")
    async with serve(model, limits=ONE_PLACE) as one, opened(one, GENERATE, TEXT) as first:
        assert b"begun" in await first.readuntil(b"begun")
        async with opened(one, GENERATE, TEXT) as second:
            gate = one.server.repository.find("m").gate
            assert gate is not None
            await until(lambda: gate.waiting == 1)
            with pytest.raises(Refused) as refused:
                await one.json("POST", GENERATE, TEXT)
            assert refused.value.status == 503
            assert model.inside == 1
            model.go.set()
            await second.readuntil(b"ended")
        await until(lambda: model.inside == 0 and gate.free == 1)


@pytest.mark.parametrize(
    ("path", "streams"),
    [
        (GENERATE, True),
        ("/v2/models/m/generate", False),
        ("/v2/models/m/infer", False),
        ("/v1/models/m:explain", False),
        ("/v1/models/m:predict", True),
    ],
)
async def test_a_client_that_leaves_gives_back_its_place(path: str, streams: bool) -> None:
    """Working or waiting; before the first byte of its answer, or after."""
    model = Gated("m") if streams else Waiting("m")
    inputs = [{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["x"]}]
    body = TEXT | {"inputs": inputs} if "generate" not in path else TEXT
    async with serve(model, limits=ONE_PLACE) as one:
        gate = one.server.repository.find("m").gate
        assert gate is not None
        async with opened(one, path, body):
            await until(lambda: model.inside == 1)
            async with opened(one, path, body):
                await until(lambda: gate.waiting == 1)
            await until(lambda: gate.waiting == 0)
            assert model.inside == 1
        await until(lambda: model.inside == 0 and gate.free == 1)
        assert one.server.metrics.model("m").in_flight == 0


@pytest.mark.parametrize("path", [INFER, STREAM])
async def test_a_cancelled_call_gives_back_its_place(path: str) -> None:
    model = Gated("m") if path == STREAM else Waiting("m")
    async with (
        serve(model, limits=ONE_PLACE) as one,
        grpc.aio.insecure_channel(one.grpc_target) as link,
    ):
        gate = one.server.repository.find("m").gate
        assert gate is not None
        first = begun(link, path)
        await until(lambda: model.inside == 1)
        second = begun(link, path)
        await until(lambda: gate.waiting == 1)
        second.cancel()
        await until(lambda: gate.waiting == 0)
        assert model.inside == 1
        first.cancel()
        await until(lambda: model.inside == 0 and gate.free == 1)


def begun(link: grpc.aio.Channel, path: str) -> asyncio.Future[Any]:
    """A call that waits for its answer; cancelled with it."""

    async def ask() -> Any:
        if path == STREAM:
            call = link.stream_stream(path, None, None)(once())
            try:
                await call.read()
                await call.read()
            finally:
                call.cancel()
        else:
            await link.unary_unary(path, None, None)(message())

    return asyncio.ensure_future(ask())


async def once() -> AsyncGenerator[bytes, None]:
    yield message()
    await asyncio.Event().wait()


async def test_a_stream_that_takes_too_long_says_so_and_gives_back_its_place() -> None:
    model = Gated("m")
    async with serve(model, limits=IMPATIENT) as one:
        async with opened(one, GENERATE, TEXT) as reader:
            told = await asyncio.wait_for(reader.readuntil(b'0.3 s."}\n\n'), 20)
            assert b"200 OK" in told and b"begun" in told
        await until(lambda: model.inside == 0)
        async with grpc.aio.insecure_channel(one.grpc_target) as link:
            call = link.stream_stream(STREAM, None, None)(once())
            await call.read()
            last = messages.ModelStreamInferResponse()
            last.MergeFromString(cast(bytes, await call.read()))
            assert "did not answer within 0.3 s" in last.error_message
            call.cancel()
        gate = one.server.repository.find("m").gate
        await until(lambda: gate is not None and gate.free == 1)


async def test_a_place_is_not_kept_for_a_client_that_does_not_read() -> None:
    class Endless(Gated):
        async def predict(self, payload: Any, headers: Headers) -> AsyncIterator[Any]:
            self.inside += 1
            try:
                while True:
                    yield answer(self.name, "x" * 100_000)
            finally:
                self.inside -= 1

    model = Endless("m")
    async with serve(model, limits=IMPATIENT) as one, opened(one, GENERATE, TEXT):
        await until(lambda: model.inside == 1)
        gate = one.server.repository.find("m").gate
        await until(lambda: model.inside == 0 and gate is not None and gate.free == 1)


async def test_a_thread_that_hangs_in_a_stream_is_left_behind() -> None:
    model = Threaded("m")
    async with serve(model, limits=IMPATIENT) as one:
        async with opened(one, GENERATE, {"text_input": "hang"}) as reader:
            await asyncio.wait_for(reader.readuntil(b'0.3 s."}\n\n'), 20)
        assert not model.closed.is_set()
        told = await one.json("POST", "/v2/models/m/generate", TEXT)
        assert told["text_output"] == "begunended"
        model.closed.clear()
        model.free.set()
        await until(model.closed.is_set)


async def test_a_model_that_hangs_in_its_thread_is_left_behind() -> None:
    class Slow(Model):
        free = threading.Event()

        def predict(self, payload: Any, headers: Headers) -> Any:
            if payload["instances"] == ["hang"]:
                self.free.wait()
            return {"predictions": payload["instances"]}

    async with serve(Slow("m"), limits=IMPATIENT) as one:
        with pytest.raises(Refused) as refused:
            await one.predict({"instances": ["hang"]})
        assert refused.value.status == 504
        assert await one.predict({"instances": [1]}) == {"predictions": [1]}
        Slow.free.set()
