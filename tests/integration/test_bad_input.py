"""What clients and models can do wrong, and what is answered: the table in docs/reference.

Each case is sent as bytes, because well-made clients refuse to be wrong. After each the same server
must answer a good request. `make golden` (or --rewrite-golden) writes the table anew.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tests.unit.server.models import Broken, Doubler, Hanging, WrongAnswer

from kedge.protocol.inference import InferRequest
from kedge.protocol.open_inference import grpc as codec
from kedge.protocol.open_inference import messages
from kedge.server import Model
from kedge.server.limits import Limits
from kedge.testing import ServedModels, serve

TABLE = Path(__file__).parents[2] / "docs" / "reference" / "bad-input.md"
LIMITS = Limits(json_bytes=1 << 20, binary_bytes=2 << 20, head_seconds=0.5, body_seconds=0.5)
V1, V2 = "/v1/models/m:predict", "/v2/models/m/infer"
INFER = "/inference.GRPCInferenceService/ModelInfer"


class NotReady(Doubler):
    """Stops being ready once it serves."""


def head(path: str, length: int, *more: str, verb: str = "POST") -> bytes:
    lines = [f"{verb} {path} HTTP/1.1", "Host: x", f"Content-Length: {length}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def post(path: str, body: bytes | str | dict[str, Any], *more: str) -> bytes:
    if isinstance(body, dict):
        body = json.dumps(body)
    raw = body.encode() if isinstance(body, str) else body
    return head(path, len(raw), *more) + raw


def tensor(**changes: Any) -> dict[str, Any]:
    one = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]} | changes
    kept = {key: value for key, value in one.items() if value is not None}
    return {"id": "1", "inputs": [kept]}


def binary(size: int, blob: bytes, length: str | None = None, **changes: Any) -> bytes:
    one = tensor(data=None, parameters={"binary_data_size": size}, **changes)
    text = json.dumps(one).encode()
    declared = str(len(text)) if length is None else length
    return post(V2, text + blob, f"Inference-Header-Content-Length: {declared}")


REST: list[tuple[str, bytes]] = [
    ("V1: empty body", post(V1, "")),
    ("V1: malformed JSON", post(V1, '{"instances": [')),
    ("V1: invalid UTF-8", post(V1, b'{"instances": ["\xff"]}')),
    ("V1: nested 100,000 deep", post(V1, "[" * 100_000)),
    ("V1: instances is no list", post(V1, {"instances": 1})),
    ("V1: neither instances nor inputs", post(V1, {"rows": []})),
    ("V1: a list, not an object", post(V1, "[1]")),
    ("V1: rows of different lengths", post(V1, {"instances": [[1, 2], [3]]})),
    ("V1: NaN", post(V1, '{"instances": [[NaN]]}')),
    ("V1: unknown model", post("/v1/models/no:predict", {"instances": []})),
    ("V1: model not ready", post("/v1/models/late:predict", {"instances": []})),
    ("V1: model does not explain", post("/v1/models/m:explain", {"instances": []})),
    ("V1: event without attributes",
     post(V1, {"data": {}}, "Content-Type: application/cloudevents+json")),
    ("V2: malformed JSON", post(V2, "{]")),
    ("V2: no inputs", post(V2, {})),
    ("V2: empty inputs", post(V2, {"inputs": []})),
    ("V2: input without data", post(V2, tensor(data=None))),
    ("V2: fewer elements than the shape", post(V2, tensor(shape=[2, 2]))),
    ("V2: negative extent", post(V2, tensor(shape=[-1, 2]))),
    ("V2: unknown datatype", post(V2, tensor(datatype="FP31"))),
    ("V2: text for numbers", post(V2, tensor(data=["a", "b"]))),
    ("V2: fractions for integers", post(V2, tensor(datatype="INT32", data=[1.5, 2]))),
    ("V2: integer out of range", post(V2, tensor(datatype="INT8", data=[1, 300]))),
    ("V2: integer of 40 digits", post(V2, tensor(datatype="INT64", data=[1, 10**39]))),
    ("V2: NaN", post(V2, json.dumps(tensor()).replace("[1, 2]}", "[NaN, 2]}"))),
    ("V2: id is a number", post(V2, tensor() | {"id": 7})),
    ("V2: nested parameter", post(V2, tensor() | {"parameters": {"a": {}}})),
    ("V2: unknown requested output", post(V2, tensor() | {"outputs": [{"name": "no"}]})),
    ("V2: unknown version", post("/v2/models/m/versions/9/infer", tensor())),
    ("V2: truncated binary tensor", binary(16, b"1234")),
    ("V2: binary size is no multiple", binary(15, b"x" * 15)),
    ("V2: binary data left over", binary(16, b"x" * 20)),
    ("V2: length header beyond the body", binary(16, b"x" * 16, "9999")),
    ("V2: length header is no number", binary(16, b"x" * 16, "many")),
    ("V2: BYTES with a lying length", binary(6, b"\xff\xff\0\0ab", datatype="BYTES", shape=[1])),
    ("Compressed body is damaged", post(V1, "no gzip", "Content-Encoding: gzip")),
    ("Unknown content-encoding", post(V1, "x", "Content-Encoding: br")),
    ("Body larger than the limit", head(V1, 1 << 30)),
    ("2 MiB of garbage, chunked",
     head(V1, 0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
     + b"200000\r\n" + b"\xfe" * 0x200000 + b"\r\n0\r\n\r\n"),
    ("Content-Length is no number", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: a\r\n\r\n"),
    ("Not HTTP", b"\x16\x03\x01\x02\x00\x01\r\n\r\n"),
    ("Headers of 100 KiB", head(V1, 0, "X: " + "y" * 100_000)),
    ("Headers that never end (slow-loris)", b"POST / HTTP/1.1\r\nHost: x\r\nX-A"),
    ("Body shorter than Content-Length", head(V1, 100) + b"{"),
    ("Unknown path", head("/v3", 0)),
    ("Wrong verb", head("/metrics", 0, verb="DELETE")),
    ("Model raises", post("/v1/models/broken:predict", {"instances": [1]})),
    ("Model returns what JSON cannot say", post("/v1/models/wrong:predict", {"instances": [1]})),
    ("Model returns no response", post("/v2/models/wrong/infer", tensor())),
]  # fmt: skip


@dataclass
class Row:
    case: str
    status: str
    body: str

    def line(self) -> str:
        body = self.body if len(self.body) <= 200 else self.body[:197] + "..."
        return f"| {self.case} | {self.status} | `` {body.replace('|', '&#124;')} `` |"


@asynccontextmanager
async def served() -> AsyncIterator[ServedModels]:
    late = NotReady("late")
    models: list[Model] = [Doubler("m"), late, Broken("broken"), WrongAnswer("wrong")]
    async with serve(*models, Hanging("hanging"), limits=LIMITS) as one:
        late.ready = False
        yield one


async def ask(one: ServedModels, raw: bytes) -> tuple[int, str]:
    """The first answer on a connection of its own: status and body."""
    port = int(one.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        top = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        length = int(top.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        return int(top[9:12]), (await reader.readexactly(length)).decode()
    finally:
        writer.close()


async def still_well(one: ServedModels) -> None:
    assert (await one.predict({"instances": [[1, 2]]})) == {"predictions": [[2, 4]]}


async def rest_rows() -> list[Row]:
    rows = []
    async with served() as one:
        for case, raw in REST:
            status, body = await ask(one, raw)
            shape = json.loads(body)
            assert 400 <= status < 600 and isinstance(shape["error"], str), (case, body)
            assert "secret" not in body
            rows.append(Row(case, str(status), body))
            await still_well(one)
    return rows


def message(**changes: Any) -> messages.ModelInferRequest:
    request = InferRequest.from_json("m", {"x": ("FP64", [1, 2], [1, 2])})
    wire = codec.encode_request(request)
    for name, value in changes.items():
        setattr(wire, name, value)
    return wire


def with_raw(*blobs: bytes) -> messages.ModelInferRequest:
    wire = message()
    del wire.raw_input_contents[:]
    wire.raw_input_contents.extend(blobs)
    return wire


def _typed_and_raw() -> messages.ModelInferRequest:
    wire = message()
    wire.inputs[0].contents.fp64_contents.extend([1, 2])
    return wire


def _output() -> messages.ModelInferRequest:
    wire = message()
    wire.outputs.add(name="no")
    return wire


GRPC: list[tuple[str, str, bytes]] = [
    ("Unknown method", "/inference.GRPCInferenceService/No", b""),
    ("Message is garbage", INFER, b"\xff\xff\xff"),
    ("No inputs", INFER, messages.ModelInferRequest(model_name="m").SerializeToString()),
    ("Unknown model", INFER, message(model_name="no").SerializeToString()),
    ("Unknown version", INFER, message(model_version="9").SerializeToString()),
    ("Model not ready", INFER, message(model_name="late").SerializeToString()),
    ("Two raw contents for one input", INFER, with_raw(b"", b"").SerializeToString()),
    ("Truncated raw contents", INFER, with_raw(b"1234").SerializeToString()),
    ("Typed and raw contents", INFER, _typed_and_raw().SerializeToString()),
    ("Unknown requested output", INFER, _output().SerializeToString()),
    ("Message larger than the limit", INFER, with_raw(b"x" * (3 << 20)).SerializeToString()),
    ("Model raises", INFER, message(model_name="broken").SerializeToString()),
    ("Model returns no response", INFER, message(model_name="wrong").SerializeToString()),
]


async def grpc_rows() -> list[Row]:
    rows = []
    async with served() as one, grpc.aio.insecure_channel(one.grpc_target) as link:
        for case, path, raw in [*GRPC, ("Model hangs, deadline of 0.2 s", INFER, hangs())]:
            try:
                await link.unary_unary(path, None, None)(
                    raw, timeout=0.2 if "hangs" in case else 20
                )
            except grpc.aio.AioRpcError as error:
                told = str(error.details()) if "hangs" not in case else "whoever notices first"
                rows.append(Row(case, error.code().name, told))
            else:
                raise AssertionError(f"{case}: was answered")
            await still_well(one)
    return rows


def hangs() -> bytes:
    return message(model_name="hanging").SerializeToString()


def table(rest: list[Row], rpc: list[Row]) -> str:
    title = "| Case | Status | Body |\n|---|---|---|"
    return "\n".join(
        [
            "# Bad input",
            "",
            "What is answered to requests, and by models, that are wrong. Written by",
            "`tests/integration/test_bad_input.py` from what a server answered; after each case",
            "it answers a good request. The server of the test takes 1 MiB of JSON and 2 MiB of",
            "tensors, and waits half a second for what does not come.",
            "",
            "## REST",
            "",
            title,
            *(row.line() for row in rest),
            "",
            "## gRPC",
            "",
            title,
            *(row.line() for row in rpc),
            "",
        ]
    )


async def test_the_table_says_what_is_answered(golden: Callable[[Path, str], None]) -> None:
    golden(TABLE, table(await rest_rows(), await grpc_rows()))


async def test_a_client_that_half_closes_is_answered() -> None:
    async with served() as one:
        port = int(one.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(V1, {"instances": [[1, 2]]}))
        writer.write_eof()
        assert b"200 OK" in await asyncio.wait_for(reader.read(), 20)
        writer.close()


async def test_clients_that_leave_do_no_harm() -> None:
    async with served() as one, grpc.aio.insecure_channel(one.grpc_target) as link:
        call = link.unary_unary(INFER, None, None)(hangs())
        waiting = asyncio.ensure_future(ask(one, post("/v1/models/hanging:predict", {})))
        await asyncio.sleep(0)
        call.cancel()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await still_well(one)
        assert (await one.infer({"x": np.ones((1, 2))}, transport="grpc")).id
