"""What clients and models can do wrong, and what is answered: the table in docs/reference.

Each case of `bad_input` is sent as bytes, because well-made clients refuse to be wrong. After each
the same server must answer a good request. `make golden` (or --rewrite-golden) writes the table
anew.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import hpack
import numpy as np
import pytest
from tests.integration import bad_input as cases
from tests.integration.bad_input import INFER, V1, Message, head, message, post
from tests.integration.trained import sklearn_classifier
from tests.unit.server.models import Doubler, Hanging

from kedge.runtimes import sklearn
from kedge.server import Model
from kedge.server.grpc import frames
from kedge.server.limits import Limits
from kedge.server.options import parse
from kedge.testing import ServedModels, serve

TABLE = Path(__file__).parents[2] / "docs" / "reference" / "bad-input.md"
LIMITS = Limits(json_bytes=12 << 20, binary_bytes=16 << 20, head_seconds=0.5, body_seconds=0.5)
IMPATIENT = Limits(request_seconds=0.3)

pytest.importorskip("sklearn")


class NotReady(Doubler):
    """Stops being ready once it serves."""


@dataclass
class Row:
    case: str
    status: str
    body: str

    def line(self) -> str:
        body = self.body if len(self.body) <= 200 else self.body[:197] + "..."
        body = body.replace("|", "&#124;").replace("\n", " ")
        return f"| {self.case} | {self.status} | `` {body} `` |"


@asynccontextmanager
async def served(folder: Path, limits: Limits = LIMITS) -> AsyncIterator[ServedModels]:
    late = NotReady("late")
    models: list[Model] = [
        Doubler("m"),
        late,
        cases.Faulty("faulty"),
        cases.FaultyArrays("arrays"),
        cases.FaultyStream("stream"),
        cases.FaultyThread("thread"),
        sklearn.make("iris", sklearn_classifier(folder), parse(["sklearn"])),
        Hanging("hanging"),
    ]
    async with serve(*models, limits=limits) as one:
        late.ready = False
        yield one


async def connect(one: ServedModels) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(one.url.rpartition(":")[2]))


async def answered(reader: asyncio.StreamReader) -> tuple[int, str]:
    top = b"HTTP/1.1 100"
    while top.startswith(b"HTTP/1.1 100"):
        top = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    length = int(top.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    return int(top[9:12]), (await reader.readexactly(length)).decode()


async def ask(one: ServedModels, raw: bytes) -> tuple[int, str]:
    """The first answer on a connection of its own: status and body."""
    reader, writer = await connect(one)
    try:
        writer.write(raw)
        return await answered(reader)
    finally:
        writer.close()


async def still_well(one: ServedModels) -> None:
    assert (await one.predict({"instances": [[1, 2]]})) == {"predictions": [[2, 4]]}


async def rest_rows(
    one: ServedModels, wrong: Sequence[tuple[str, bytes]], prefix: str = ""
) -> list[Row]:
    rows = []
    for case, raw in wrong:
        status, body = await ask(one, raw)
        shape = json.loads(body)
        assert 400 <= status < 600 and isinstance(shape["error"], str), (case, status, body)
        assert "secret" not in body and "Traceback" not in body
        rows.append(Row(prefix + case, str(status), body))
        await still_well(one)
    return rows


async def grpc_rows(one: ServedModels, wrong: Sequence[tuple[str, str, Message]]) -> list[Row]:
    rows = []
    async with grpc.aio.insecure_channel(one.grpc_target) as link:
        for case, path, wire in wrong:
            raw = wire if isinstance(wire, bytes) else wire.SerializeToString()
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await link.unary_unary(path, None, None)(raw, timeout=20)
            details = str(told.value.details())
            assert "secret" not in details, case
            rows.append(Row(case, told.value.code().name, details))
            await still_well(one)
    return rows


# -- connections ---------------------------------------------------------------------------------


async def half_closed_after_the_request(one: ServedModels) -> Row:
    reader, writer = await connect(one)
    writer.write(post(V1, {"instances": [[1, 2]]}))
    writer.write_eof()
    status, body = await answered(reader)
    assert await reader.read() == b""
    writer.close()
    return Row("The client half-closes after its request", str(status), body)


async def half_closed_within_the_request(one: ServedModels) -> Row:
    reader, writer = await connect(one)
    writer.write(head(V1, 100) + b"{")
    writer.write_eof()
    status, body = await answered(reader)
    assert await reader.read() == b""
    writer.close()
    return Row("The client half-closes within its request", str(status), body)


async def leaving_while_the_model_works(one: ServedModels) -> Row:
    figures = one.server.metrics.model("hanging")
    _, writer = await connect(one)
    writer.write(post("/v1/models/hanging:predict", {"instances": []}))
    await until(lambda: figures.in_flight == 1)
    writer.close()
    await until(lambda: figures.in_flight == 0)
    return Row("The client closes while the model works", "none", "the model is cancelled")


async def cancelled_call(one: ServedModels) -> Row:
    figures = one.server.metrics.model("hanging")
    async with grpc.aio.insecure_channel(one.grpc_target) as link:
        call = link.unary_unary(INFER, None, None)(
            message(model_name="hanging").SerializeToString()
        )
        asking = asyncio.ensure_future(_code(call))
        await until(lambda: figures.in_flight == 1)
        call.cancel()
        code = await asking
        await until(lambda: figures.in_flight == 0)
    return Row("gRPC: the call is cancelled", code, "the model is cancelled")


async def deadline_of_the_client(one: ServedModels) -> Row:
    async with grpc.aio.insecure_channel(one.grpc_target) as link:
        raw = message(model_name="hanging").SerializeToString()
        code = await _code(link.unary_unary(INFER, None, None)(raw, timeout=0.2))
    await until(lambda: one.server.metrics.model("hanging").in_flight == 0)
    return Row("gRPC: the client's deadline is over", code, "the model is cancelled")


async def _code(call: grpc.aio.UnaryUnaryCall[bytes, bytes]) -> str:
    try:
        await call
    except asyncio.CancelledError:
        return "CANCELLED"
    except grpc.aio.AioRpcError as error:
        return error.code().name
    raise AssertionError("was answered")


async def slow_preface(one: ServedModels) -> Row:
    reader, writer = await asyncio.open_connection(*one.grpc_target.split(":"))
    writer.write(frames.PREFACE[:5])
    assert await asyncio.wait_for(reader.read(), 20) is not None
    writer.close()
    return Row("gRPC: a preface that never ends (slow-loris)", "none", "the connection is closed")


async def http_on_the_grpc_port(one: ServedModels) -> Row:
    reader, writer = await asyncio.open_connection(*one.grpc_target.split(":"))
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    goodbye = list(frames.FrameReader(1 << 20).feed(await reader.read()))[-1]
    writer.close()
    assert goodbye.kind == frames.GOAWAY
    return Row("gRPC: HTTP/1.1 on its port", "GOAWAY", goodbye.payload[8:].decode())


async def lying_message_length(one: ServedModels, declared: int, case: str) -> Row:
    """A message whose prefix and DATA disagree, framed by hand."""
    fields = [
        (":method", "POST"), (":path", INFER), (":scheme", "http"), (":authority", "x"),
        ("content-type", "application/grpc"), ("te", "trailers"),
    ]  # fmt: skip
    block = hpack.Encoder().encode(fields)
    reader, writer = await asyncio.open_connection(*one.grpc_target.split(":"))
    body = b"\0" + declared.to_bytes(4, "big") + message().SerializeToString()
    writer.write(
        frames.PREFACE
        + frames.settings({})
        + frames.frame(frames.HEADERS, frames.END_HEADERS, 1, block)
        + frames.frame(frames.DATA, frames.END_STREAM, 1, body)
    )
    incoming, told = frames.FrameReader(1 << 20), hpack.Decoder()
    while True:
        for frame in incoming.feed(await asyncio.wait_for(reader.read(1 << 16), 20)):
            if frame.kind == frames.HEADERS:
                trailers = dict(told.decode(frame.payload))
                writer.close()
                code = grpc.StatusCode.__members__.values()
                name = next(c.name for c in code if str(c.value[0]) == trailers["grpc-status"])
                return Row(case, name, trailers["grpc-message"])


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - of figures, which signal nothing
            await asyncio.sleep(0.005)


CONNECTIONS: list[Callable[[ServedModels], Awaitable[Row]]] = [
    half_closed_after_the_request,
    half_closed_within_the_request,
    leaving_while_the_model_works,
    cancelled_call,
    deadline_of_the_client,
    partial(lying_message_length, declared=5, case="gRPC: a message longer than its prefix says"),
    partial(
        lying_message_length, declared=500, case="gRPC: a message shorter than its prefix says"
    ),
    partial(lying_message_length, declared=2**32 - 1, case="gRPC: a prefix of 4 GiB"),
    slow_preface,
    http_on_the_grpc_port,
]


# -- the table -----------------------------------------------------------------------------------

INTRODUCTION = """\
# Bad input

What is answered to requests, and by models, that are wrong. Written by
`tests/integration/test_bad_input.py` from what a server answered; after each case it answers a good
request. The server of the test takes 12 MiB of JSON and 16 MiB of tensors, and waits half a second
for what does not come. `iris` is a scikit-learn classifier; the other models are the test's own.
"""


def section(title: str, rows: list[Row], said: str = "Status") -> str:
    lines = "\n".join(row.line() for row in rows)
    return f"## {title}\n\n| Case | {said} | Body |\n|---|---|---|\n{lines}\n"


async def test_the_table_says_what_is_answered(
    golden: Callable[[Path, str], None], tmp_path: Path
) -> None:
    async with served(tmp_path) as one:
        sections = [
            section("V1", await rest_rows(one, cases.ROWS_V1)),
            section("Open Inference over REST", await rest_rows(one, cases.ROWS_V2)),
            section("HTTP", await rest_rows(one, cases.ROWS_HTTP)),
            section("Open Inference over gRPC", await grpc_rows(one, cases.GRPC), "Code"),
            section("Models over REST", await rest_rows(one, cases.ROWS_MODELS)),
        ]
        told = []
        for case in CONNECTIONS:
            told.append(await case(one))
            await still_well(one)
        sections.append(section("Connections", told))
    async with served(tmp_path, IMPATIENT) as one:
        rows = await rest_rows(one, cases.ROWS_HANGING)
        rows += await grpc_rows(one, cases.GRPC_HANGING)
        sections.append(section("Models that hang, with `--request_timeout 0.3`", rows))
    golden(TABLE, "\n".join([INTRODUCTION, *sections]))


async def test_a_stream_that_fails_ends_with_an_error(tmp_path: Path) -> None:
    async with served(tmp_path) as one:
        for name in cases.MISDEEDS.values():
            body = json.dumps(cases.text(name))
            url = one.url + "/v2/models/stream/infer_stream"
            async with one.http.post(url, data=body) as answer:
                assert answer.status == 200
                events = (await answer.text()).removesuffix("\n\n").split("\n\n")
            assert "outputs" in events[0]
            assert json.loads(events[-1].removeprefix("data: "))["error"].startswith("Model stream")
        await still_well(one)
        assert (await one.infer({"x": np.ones((1, 2))}, transport="grpc")).id
