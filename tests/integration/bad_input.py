"""Requests that are wrong, and models that are: the rows of docs/reference/bad-input.md."""

from __future__ import annotations

import asyncio
import gzip
import json
import struct
import sys
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy as np
from tests.unit.server.models import Doubler

from kedge.protocol.datatypes import Array
from kedge.protocol.inference import InferRequest, InferResponse, Tensor
from kedge.protocol.open_inference import grpc as codec
from kedge.protocol.open_inference import messages
from kedge.protocol.v1 import Rows
from kedge.server import Model
from kedge.server.model import Headers

V1, V2 = "/v1/models/m:predict", "/v2/models/m/infer"
IRIS_V1, IRIS_V2 = "/v1/models/iris:predict", "/v2/models/iris/infer"
STREAM = "/v2/models/m/infer_stream"
INFER = "/inference.GRPCInferenceService/ModelInfer"
GARBAGE = b"\xfe\x00garbage" * (10 << 17)
"""10 MiB and a bit."""


# -- models --------------------------------------------------------------------------------------


class Faulty(Model):
    """Does what the first text or instance says."""

    async def predict(self, payload: Any, headers: Headers) -> Any:
        told = payload.inputs[0].texts() if isinstance(payload, InferRequest) else payload
        return misdeed(told[0] if isinstance(told, list) else told["instances"][0], self.name)


class FaultyThread(Model):
    """Hangs where nobody can wake it."""

    def predict(self, payload: Any, headers: Headers) -> Any:
        time.sleep(3)  # The longest of a test.
        return {"predictions": []}


class FaultyArrays(Doubler):
    """The same of a model that maps rows to arrays."""

    def warm_up(self) -> Any:
        return None

    def compute(self, rows: Rows, outputs: tuple[str, ...]) -> Mapping[str, Array]:
        assert isinstance(rows, list)
        told = misdeed(rows[0], self.name)
        return {"output-0": told} if isinstance(told, np.ndarray) else told


class FaultyStream(Model):
    """One item, and then what it is told."""

    async def predict(self, payload: InferRequest, headers: Headers) -> AsyncIterator[Any]:
        yield InferResponse(self.name, payload.inputs)
        yield misdeed(payload.inputs[0].texts()[0], self.name)


def misdeed(name: str, model: str) -> Any:
    match name:
        case "raise":
            raise ValueError("the secret is 42")
        case "exit":
            sys.exit(3)
        case "cancel":
            raise asyncio.CancelledError
        case "allocate":
            return {"predictions": np.zeros(1 << 56)}
        case "recurse":
            return misdeed(name, model)
        case "object":
            return object()
        case "nothing":
            return None
        case "complex":
            return np.array([1j])
        case "lie":
            array = np.array(["a"], dtype=object)
            return InferResponse(model, [Tensor("x", "FP32", (1,), array)])
    raise AssertionError(name)


MISDEEDS = {
    "raises": "raise",
    "calls sys.exit": "exit",
    "raises CancelledError": "cancel",
    "allocates more than there is": "allocate",
    "calls itself without end": "recurse",
    "returns an object": "object",
    "returns nothing": "nothing",
    "returns complex numbers": "complex",
}


# -- REST ----------------------------------------------------------------------------------------


def head(path: str, length: int, *more: str, verb: str = "POST") -> bytes:
    lines = [f"{verb} {path} HTTP/1.1", "Host: x", f"Content-Length: {length}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def post(path: str, body: bytes | str | dict[str, Any], *more: str) -> bytes:
    if isinstance(body, dict):
        body = json.dumps(body)
    raw = body.encode() if isinstance(body, str) else body
    return head(path, len(raw), *more) + raw


def chunked(path: str, *chunks: bytes) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", "", ""]
    return "\r\n".join(lines).encode() + b"".join(chunks)


def tensor(**changes: Any) -> dict[str, Any]:
    one = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]} | changes
    kept = {key: value for key, value in one.items() if value is not None}
    return {"id": "1", "inputs": [kept]}


def text(told: str) -> dict[str, Any]:
    return tensor(shape=[1], datatype="BYTES", data=[told])


def binary(size: int, blob: bytes, length: str | None = None, **changes: Any) -> bytes:
    one = tensor(data=None, parameters={"binary_data_size": size}, **changes)
    told = json.dumps(one).encode()
    declared = str(len(told)) if length is None else length
    return post(V2, told + blob, f"Inference-Header-Content-Length: {declared}")


DEEP = '{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": '
GZIP = "Content-Encoding: gzip"

ROWS_V1: list[tuple[str, bytes]] = [
    ("empty body", post(V1, "")),
    ("malformed JSON", post(V1, '{"instances": [')),
    ("invalid UTF-8", post(V1, b'{"instances": ["\xff"]}')),
    ("nested 100,000 deep", post(V1, "[" * 100_000)),
    ("rows nested 1,000 deep", post(V1, '{"instances": ' + "[" * 1000 + "]" * 1000 + "}")),
    ("10 MB of garbage", post(V1, GARBAGE)),
    ("instances is no list", post(V1, {"instances": 1})),
    ("neither instances nor inputs", post(V1, {"rows": []})),
    ("a list, not an object", post(V1, "[1]")),
    ("rows of different lengths", post(V1, {"instances": [[1, 2], [3]]})),
    ("wrong number of features", post(IRIS_V1, {"instances": [[1, 2]]})),
    ("text for numbers", post(IRIS_V1, {"instances": [["a", "b", "c", "d"]]})),
    ("null for a number", post(IRIS_V1, {"instances": [[1, 2, 3, None]]})),
    ("objects of unknown columns", post(IRIS_V1, {"instances": [{"a": 1}]})),
    ("objects that are objects", post(IRIS_V1, {"instances": [{"a": {"b": {"c": 1}}}]})),
    ("NaN", post(V1, '{"instances": [[NaN]]}')),
    ("integer of 5,000 digits", post(IRIS_V1, '{"instances": [[1, 2, 3, ' + "9" * 5000 + "]]}")),
    ("unknown model", post("/v1/models/no:predict", {"instances": []})),
    ("model not ready", post("/v1/models/late:predict", {"instances": []})),
    ("model does not explain", post("/v1/models/m:explain", {"instances": []})),
    ("event without attributes",
     post(V1, {"data": {}}, "Content-Type: application/cloudevents+json")),
    ("event of an unknown specversion",
     post(V1, {"instances": []}, "ce-specversion: 9", "ce-id: 1", "ce-source: a", "ce-type: b")),
    ("compressed body is damaged", post(V1, "no gzip", GZIP)),
    ("compressed body ends early", post(V1, gzip.compress(b"x" * 99, mtime=0)[:-9], GZIP)),
    ("gzip bomb", post(V1, gzip.compress(b"[" * (13 << 20), mtime=0), GZIP)),
    ("unknown content-encoding", post(V1, "x", "Content-Encoding: br")),
]  # fmt: skip

ROWS_V2: list[tuple[str, bytes]] = [
    ("empty body", post(V2, "")),
    ("malformed JSON", post(V2, "{]")),
    ("invalid UTF-8", post(V2, json.dumps(text("~")).encode().replace(b"~", b"\xff"))),
    ("nested 100,000 deep", post(V2, DEEP + "[" * 100_000)),
    ("data nested 1,000 deep", post(V2, DEEP + "[" * 1000 + "]" * 1000 + "}]}")),
    ("10 MB of garbage", post(V2, GARBAGE)),
    ("a list, not an object", post(V2, "[1]")),
    ("no inputs", post(V2, {})),
    ("empty inputs", post(V2, {"inputs": []})),
    ("input without a name", post(V2, tensor(name=None))),
    ("input without data", post(V2, tensor(data=None))),
    ("two inputs for a model of one", post(V2, {"inputs": tensor()["inputs"] * 2})),
    ("fewer elements than the shape", post(V2, tensor(shape=[2, 2]))),
    ("shape beyond any memory", post(V2, tensor(shape=[2**40, 2**40]))),
    ("shape of 40 dimensions", post(V2, tensor(shape=[1] * 40))),
    ("negative extent", post(V2, tensor(shape=[-1, 2]))),
    ("shape of fractions", post(V2, tensor(shape=[1.5]))),
    ("rows of different lengths", post(V2, tensor(data=[[1, 2], [3]]))),
    ("wrong number of features", post(IRIS_V2, tensor())),
    ("wrong datatype for the model", post(IRIS_V2, text("a"))),
    ("unknown datatype", post(V2, tensor(datatype="FP31"))),
    ("text for numbers", post(V2, tensor(data=["a", "b"]))),
    ("numbers for text", post(V2, tensor(datatype="BYTES"))),
    ("true and false for numbers", post(V2, tensor(data=[True, False]))),
    ("null for an integer", post(V2, tensor(datatype="INT32", data=[None, 1]))),
    ("objects for numbers", post(V2, tensor(data=[{}, {}]))),
    ("fractions for integers", post(V2, tensor(datatype="INT32", data=[1.5, 2]))),
    ("integer out of range", post(V2, tensor(datatype="INT8", data=[1, 300]))),
    ("number too large for FP32", post(V2, tensor(datatype="FP32", data=[1, 1e39]))),
    ("number too large for FP16 beside null",
     post(V2, tensor(datatype="FP16", data=[None, 65520]))),
    ("integer of 40 digits", post(V2, tensor(datatype="INT64", data=[1, 10**39]))),
    ("integer of 5,000 digits", post(V2, json.dumps(tensor()).replace("2]}", "9" * 5000 + "]}"))),
    ("NaN", post(V2, json.dumps(tensor()).replace("[1, 2]}", "[NaN, 2]}"))),
    ("id is a number", post(V2, tensor() | {"id": 7})),
    ("nested parameter", post(V2, tensor() | {"parameters": {"a": {}}})),
    ("unknown requested output", post(V2, tensor() | {"outputs": [{"name": "no"}]})),
    ("unknown model", post("/v2/models/no/infer", tensor())),
    ("unknown version", post("/v2/models/m/versions/9/infer", tensor())),
    ("model not ready", post("/v2/models/late/infer", tensor())),
    ("truncated binary tensor", binary(16, b"1234")),
    ("binary size is no multiple", binary(15, b"x" * 15)),
    ("binary size is negative", binary(-16, b"x" * 16)),
    ("binary data left over", binary(16, b"x" * 20)),
    ("length header beyond the body", binary(16, b"x" * 16, "9999")),
    ("length header is no number", binary(16, b"x" * 16, "many")),
    ("length header of 5,000 digits", binary(16, b"x" * 16, "9" * 5000)),
    ("BYTES with a lying length", binary(6, b"\xff\xff\0\0ab", datatype="BYTES", shape=[1])),
    ("binary shape beyond any memory", binary(16, b"x" * 16, shape=[2**62, 2**62])),
    ("compressed body is damaged", post(V2, "no gzip", GZIP)),
    ("text for many answers is a number",
     post("/v2/models/m/generate_stream", {"text_input": 1})),
    ("a stream's input is missing", post(STREAM, {})),
    ("a stream of an unknown model", post("/v2/models/no/infer_stream", tensor())),
    ("one answer of a model that streams", post("/v2/models/stream/infer", text("raise"))),
    ("load of an unknown model", post("/v2/repository/models/no/load", {})),
    ("unload of an unknown model", post("/v2/repository/models/no/unload", {})),
    ("index with a malformed body", post("/v2/repository/index", "{")),
]  # fmt: skip

ROWS_HTTP: list[tuple[str, bytes]] = [
    ("Not HTTP", b"\x16\x03\x01\x02\x00\x01\r\n\r\n"),
    ("Unknown path", head("/v3", 0)),
    ("Wrong verb", head("/metrics", 0, verb="DELETE")),
    ("Wrong verb for a prediction", head(V1, 0, verb="PUT")),
    ("Body larger than the limit", head(V1, 1 << 30)),
    ("Body larger than the limit, chunked",
     chunked(V1, b"c00001\r\n" + b"\xfe" * 0xC00001 + b"\r\n0\r\n\r\n")),
    ("Body larger than the limit of a path without a body",
     chunked("/v2/repository/index", b"c00001\r\n" + b"\xfe" * 0xC00001 + b"\r\n0\r\n\r\n")),
    ("Content-Length is no number", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: a\r\n\r\n"),
    ("Content-Length is negative", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
    ("Two different Content-Lengths",
     b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
    ("Content-Length and Transfer-Encoding",
     head(V1, 2, "Transfer-Encoding: chunked") + b"0\r\n\r\n"),
    ("Content-Length longer than the body", head(V1, 100) + b"{"),
    ("Content-Length shorter than the body", head(V1, 1) + b"{}"),
    ("Chunk without a size", chunked(V1, b"zz\r\n{}\r\n0\r\n\r\n")),
    ("Chunk of 2^64 bytes", chunked(V1, b"fffffffffffffffff\r\n")),
    ("Headers of 100 KiB", head(V1, 0, "X: " + "y" * 100_000)),
    ("A header without a name", head(V1, 0, ": y")),
    ("Headers that never end (slow-loris)", b"POST / HTTP/1.1\r\nHost: x\r\nX-A"),
    ("A body that never ends (slow-loris)", chunked(V1, b"1\r\n[\r\n")),
]  # fmt: skip

ROWS_MODELS: list[tuple[str, bytes]] = [
    *((f"V1: model {does}", post("/v1/models/faulty:predict", {"instances": [told]}))
      for does, told in MISDEEDS.items() if told != "nothing"),
    *((f"V1: model of arrays {does}", post("/v1/models/arrays:predict", {"instances": [told]}))
      for does, told in MISDEEDS.items() if told != "complex"),
    *((f"V2: model {does}", post("/v2/models/faulty/infer", text(told)))
      for does, told in (MISDEEDS | {"returns text as FP32": "lie"}).items()),
    ("V2: model of arrays returns complex numbers",
     post("/v2/models/arrays/infer", text("complex"))),
]  # fmt: skip

ROWS_HANGING: list[tuple[str, bytes]] = [
    ("V1: model waits for ever", post("/v1/models/hanging:predict", {"instances": []})),
    ("V1: model hangs in its thread", post("/v1/models/thread:predict", {"instances": []})),
    ("V2: model waits for ever", post("/v2/models/hanging/infer", tensor())),
    ("V2: model hangs in its thread", post("/v2/models/thread/infer", tensor())),
    ("V2: stream", post("/v2/models/hanging/infer_stream", tensor())),
]


# -- gRPC ----------------------------------------------------------------------------------------


def message(**changes: Any) -> messages.ModelInferRequest:
    request = InferRequest.from_json("m", {"x": ("FP64", [1, 2], [1, 2])})
    wire = codec.encode_request(request)
    for name, value in changes.items():
        setattr(wire, name, value)
    return wire


def with_raw(*blobs: bytes, **changes: Any) -> messages.ModelInferRequest:
    wire = message()
    del wire.raw_input_contents[:]
    wire.raw_input_contents.extend(blobs)
    return changed(wire, **changes)


def changed(wire: messages.ModelInferRequest, **changes: Any) -> messages.ModelInferRequest:
    one = wire.inputs[0]
    for name, value in changes.items():
        if name == "shape":
            del one.shape[:]
            one.shape.extend(value)
        elif name == "datatype":
            one.datatype = value
        else:
            getattr(one.contents, name).extend(value)
    return wire


def typed(**changes: Any) -> messages.ModelInferRequest:
    wire = message()
    del wire.raw_input_contents[:]
    return changed(wire, **changes)


def told(model: str, misdeed: str) -> messages.ModelInferRequest:
    wire = typed(datatype="BYTES", shape=[1], bytes_contents=[misdeed.encode()])
    wire.model_name = model
    return wire


def _output() -> messages.ModelInferRequest:
    wire = message()
    wire.outputs.add(name="no")
    return wire


LIE = struct.pack("<I", 0xFFFF) + b"ab"

Message = bytes | messages.ModelInferRequest

_INFERENCES: list[tuple[str, Message]] = [
    ("Message is garbage", b"\xff\xff\xff"),
    ("10 MB of garbage", GARBAGE),
    ("Text that is not UTF-8", b"\x0a\x02\xff\xfe"),
    ("No inputs", messages.ModelInferRequest(model_name="m")),
    ("Unknown model", message(model_name="no")),
    ("Unknown version", message(model_version="9")),
    ("Model not ready", message(model_name="late")),
    ("Unknown datatype", with_raw(b"", datatype="FP31")),
    ("Negative extent", with_raw(b"", shape=[-1, 2])),
    ("Shape beyond any memory", with_raw(b"x" * 16, shape=[2**62, 2**62])),
    ("Shape of 70 dimensions", with_raw(b"x" * 8, shape=[1] * 70)),
    ("Two raw contents for one input", with_raw(b"", b"")),
    ("Truncated raw contents", with_raw(b"1234")),
    ("BYTES with a lying length", with_raw(LIE, datatype="BYTES", shape=[1])),
    ("Typed and raw contents", changed(message(), fp64_contents=[1, 2])),
    ("Fewer elements than the shape", typed(fp64_contents=[1])),
    ("Elements in another field", typed(fp32_contents=[1, 2])),
    ("Integer out of range", typed(datatype="INT8", int_contents=[1, 300])),
    ("FP16 in typed contents", typed(datatype="FP16", fp32_contents=[1, 2])),
    ("Unknown requested output", _output()),
    ("Wrong number of features", message(model_name="iris")),
    ("Wrong datatype for the model", told("iris", "a")),
    ("Message larger than the limit", with_raw(b"x" * (17 << 20))),
    ("One answer of a model that streams", told("stream", "raise")),
    *((f"Model {does}", told("faulty", deed))
      for does, deed in (MISDEEDS | {"returns text as FP32": "lie"}).items()),
    ("Model of arrays returns complex numbers", told("arrays", "complex")),
]  # fmt: skip

GRPC: list[tuple[str, str, Message]] = [
    ("Unknown method", "/inference.GRPCInferenceService/No", b""),
    *((case, INFER, wire) for case, wire in _INFERENCES),
]

GRPC_HANGING: list[tuple[str, str, Message]] = [
    ("Model waits for ever", INFER, message(model_name="hanging")),
    ("Model hangs in its thread", INFER, message(model_name="thread")),
]
