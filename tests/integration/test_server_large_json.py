"""Large JSON goes through the side process, and says and gets what small JSON does."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import orjson
import pytest
from tests.unit.server.models import Doubler, Echo

from kedge.protocol.errors import DecodingFailed, InvalidInput, Overloaded
from kedge.protocol.inference import InferRequest, InferResponse
from kedge.server import Model
from kedge.server.limits import Limits
from kedge.server.model import Headers
from kedge.server.side.process import SideProcess
from kedge.server.side.wire import Question
from kedge.testing import Refused, ServedModels, serve

ROWS = 50_000
NUMBERS = np.arange(ROWS * 2, dtype=float).reshape(ROWS, 2) / 7
WORDS = [f"größe {index}" for index in range(ROWS)]


class Lengths(Model):
    """The number of characters of each text."""

    async def predict(self, payload: Any, headers: Headers) -> Any:
        if isinstance(payload, InferRequest):
            words = np.array([len(one) for one in payload.inputs[0].texts()])
            assert [len(one.decode()) for one in payload.inputs[0].array.ravel()] == words.tolist()
            return InferResponse.from_arrays(self.name, {"lengths": words})
        return {"predictions": [len(one) for one in payload["instances"]]}


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - of processes, which signal nothing
            await asyncio.sleep(0.001)


@asynccontextmanager
async def served() -> AsyncIterator[ServedModels]:
    async with serve(Doubler("m"), Echo("echo"), Lengths("lengths")) as one:
        yield one
        assert one.server.dataplane.side.held == 0


def side(one: ServedModels) -> SideProcess:
    return one.server.dataplane.side


def v2(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "x", "shape": [ROWS, 2], "datatype": "FP64", "data": NUMBERS.tolist()}
    return {"id": "7", "inputs": [tensor | changes]}


async def test_rows_of_numbers() -> None:
    async with served() as one:
        told = await one.predict({"instances": NUMBERS.tolist()})
        assert np.array_equal(told["predictions"], NUMBERS * 2)
        told = await one.json("POST", "/v2/models/m/infer", v2())
        assert told["id"] == "7" and told["outputs"][0]["shape"] == [ROWS, 2]
        assert np.array_equal(told["outputs"][0]["data"], NUMBERS.ravel() * 2)
        assert side(one).pid is not None


async def test_other_json_is_what_it_would_be() -> None:
    rows = [{"a": index, "b": [1.5, None, True], "c": {"d": "é" * 5}} for index in range(20_000)]
    body = {"instances": rows, "big": 2**63, "deep": [[list(range(200_000))], "x" * 300_000]}
    async with served() as one:
        told = await one.predict(body, model="echo")
        assert told["predictions"] == rows
        told = await one.predict(body, model="echo", verb="explain")
        assert told["explanations"] == rows


async def test_columns() -> None:
    rows = [{"a": index, "b": index / 2} for index in range(ROWS)]
    async with served() as one:
        told = await one.predict({"instances": rows})
        assert told["predictions"][3] == [6, 3.0]
        assert len(told["predictions"]) == ROWS


async def test_texts() -> None:
    async with served() as one:
        lengths = [len(word) for word in WORDS]
        told = await one.predict({"instances": WORDS}, model="lengths")
        assert told["predictions"] == lengths
        body = v2(shape=[ROWS], datatype="BYTES", data=WORDS)
        told = await one.json("POST", "/v2/models/lengths/infer", body)
        assert told["outputs"][0]["data"] == lengths
        told = await one.json("POST", "/v2/models/echo/infer", body)
        assert told["outputs"][0]["data"] == WORDS
        raw = orjson.dumps(body)
        url = one.url + "/v2/models/echo/infer_stream"
        async with one.http.post(url, data=io.BytesIO(raw)) as answer:
            line = await answer.content.read()
        assert orjson.loads(line.removeprefix(b"data: "))["outputs"][0]["data"] == WORDS


async def test_a_compressed_body_is_unpacked_aside() -> None:
    raw = gzip.compress(orjson.dumps(v2()), 1)
    async with served() as one:
        told = await one.json("POST", "/v2/models/m/infer", raw, content_encoding="gzip")
        assert np.array_equal(told["outputs"][0]["data"], NUMBERS.ravel() * 2)
        bomb = gzip.compress(b" " * (17 << 20))
        with pytest.raises(Refused) as refused:
            await one.json("POST", "/v2/models/m/infer", bomb, content_encoding="gzip")
        assert refused.value.status == 413


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/v2/models/m/infer", v2(shape=[ROWS, 3]), "its shape [50000, 3] needs 150000"),
        ("/v2/models/m/infer", v2(datatype="INT32"), "holds fractions"),
        ("/v2/models/m/infer", b"[" * 300_000, "Invalid inference request"),
        ("/v1/models/m:predict", {"instances": [[1] * 200_000, [1]]}, "instances[1] has 1 values"),
        ("/v1/models/m:predict", b"\xff" * 300_000, "Unrecognized request format"),
        ("/v1/models/echo:predict", b'{"instances": 1}' + b" " * 300_000, "to be a list"),
        ("/v1/models/echo:explain", b"{" * 300_000, "Unrecognized request format"),
    ],
)
async def test_what_is_wrong_is_named(path: str, body: Any, told: str) -> None:
    async with served() as one:
        with pytest.raises(Refused) as refused:
            await one.json("POST", path, body)
        assert refused.value.status == 400
        assert told in refused.value.body["error"]


async def test_a_request_whose_reader_is_killed_is_read_again() -> None:
    async with served() as one:
        await one.predict({"instances": NUMBERS.tolist()})
        for number in (signal.SIGKILL, signal.SIGSTOP):
            pid = side(one).pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            asking = asyncio.ensure_future(one.predict({"instances": NUMBERS.tolist()}))
            await until(lambda: not side(one)._free.is_set())
            os.kill(pid, signal.SIGKILL if number == signal.SIGKILL else signal.SIGCONT)
            assert len((await asking)["predictions"]) == ROWS
        assert side(one).pid == pid


async def test_a_client_that_leaves_does_not_hold_up_the_next() -> None:
    async with served() as one:
        leaving = asyncio.ensure_future(one.predict({"instances": NUMBERS.tolist()}))
        await until(lambda: not side(one)._free.is_set())
        leaving.cancel()
        await until(lambda: not side(one).held)
        assert len((await one.predict({"instances": NUMBERS.tolist()}))["predictions"]) == ROWS


async def test_a_reader_that_always_dies_is_told() -> None:
    side = SideProcess(module="no.such.module")
    with pytest.raises(DecodingFailed, match="ended twice"):
        await side.read(Question("v1"), [b"{}"])
    await side.close()


async def test_what_waits_to_be_read_is_bounded() -> None:
    side = SideProcess(Limits(waiting_bytes=1000))
    first = asyncio.ensure_future(side.read(Question("v1"), [b'{"a": "' + b"x" * 900 + b'"}']))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await side.read(Question("v1"), [b" " * 500])
    assert (await first)["a"] == "x" * 900
    with pytest.raises(InvalidInput):
        await side.read(Question("v1"), [b"{"])
    await side.close()


@pytest.mark.parametrize("texts", [False, True])
async def test_others_are_served_meanwhile(texts: bool) -> None:
    """The loop is never held longer than a few times its usual turn; counted in CPU time."""
    if texts:
        path, body = (
            "/v2/models/echo/infer",
            v2(shape=[ROWS * 4], datatype="BYTES", data=WORDS * 4),
        )
    else:
        path, body = "/v2/models/m/infer", v2(shape=[ROWS * 5, 2], data=NUMBERS.tolist() * 5)
    raw = orjson.dumps(body)
    assert len(raw) > 3_000_000
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - began)

    async with served() as one:
        await one.predict({"instances": NUMBERS.tolist()})
        url = one.url + path
        watching = asyncio.ensure_future(watch())
        async with one.http.post(url, data=io.BytesIO(raw)) as answer:
            length = len(await answer.read())
        watching.cancel()
        assert answer.status == 200 and length > 500_000
    assert longest < 0.1
