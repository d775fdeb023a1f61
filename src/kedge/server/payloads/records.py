"""One payload, and the CloudEvent that it becomes.

What turns a payload into something else happens in a sender's thread, and only for payloads of
ordinary size: orjson and protobuf let no other thread run meanwhile, and predictions would wait.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import quote

import orjson

from kedge.protocol.compression import decompress
from kedge.protocol.errors import ServingError
from kedge.protocol.open_inference import rest
from kedge.server.limits import MIB
from kedge.server.payloads.options import PayloadOptions

Kind = Literal["request", "response"]

MANY_BYTES = 256 * 1024
LARGEST_BYTES = 64 * MIB
_PIECE = 48 * 1024
"""Bytes that are encoded at once: a multiple of 3."""
_TYPE = "org.kubeflow.serving.inference."
_JSON = "application/json"
_BINARY = "application/octet-stream"
_PROTOBUF = "application/x-protobuf"
_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


@dataclass(slots=True)
class Record:
    """What a client sent, or what it was answered.

    Attributes:
        id: the same for a request and its answer.
        request_id: by which logs and traces call it.
        time: seconds since 1970: when the request had arrived, when its answer was made.
        body: as it was on the wire; a protobuf message when `is_grpc`.
        metadata: the request's headers that were asked for.
        encoding: by which the body is compressed; undone by `readable`.
        json_length: of a body with binary tensors: where they begin.
        traceparent: the request's own span; empty when it is not traced.
        attempts: how often sending it has failed.
    """

    kind: Kind
    id: str
    request_id: str
    time: float
    content_type: str
    body: bytes | memoryview
    metadata: dict[str, list[str]]
    json_length: int | None = None
    traceparent: str = ""
    is_grpc: bool = False
    encoding: bytes = b""
    attempts: int = field(default=0)

    def readable(self) -> None:
        """Undoes compression; a gRPC message becomes the Open Inference JSON that it means."""
        if self.encoding:
            with suppress(ServingError):  # It was refused; logged as it came.
                self.body = decompress(bytes(self.body), self.encoding, LARGEST_BYTES)
            self.encoding = b""
        if not self.is_grpc:
            return
        self.is_grpc = False
        if len(self.body) > MANY_BYTES:
            self.content_type = _PROTOBUF
            return
        from google.protobuf.message import DecodeError

        from kedge.protocol.open_inference import grpc, messages

        try:
            if self.kind == "request":
                asked = messages.ModelInferRequest()
                asked.ParseFromString(self.body)  # type: ignore[arg-type]  # takes any buffer
                self.body, _ = rest.encode_request(grpc.decode_request(asked))
            else:
                answered = messages.ModelInferResponse()
                answered.ParseFromString(self.body)  # type: ignore[arg-type]  # as above
                pieces, _ = rest.encode_response(grpc.decode_response(answered))
                self.body = b"".join(pieces)
            self.content_type = _JSON
        except (DecodeError, ServingError, ValueError):
            self.content_type = _PROTOBUF


def attributes(record: Record, options: PayloadOptions) -> dict[str, str]:
    """The event's attributes, but the content type of its data."""
    found = {
        "specversion": "1.0",
        "id": record.id,
        "type": _TYPE + record.kind,
        "source": options.source,
        "time": _moment(record.time),
        "recordedtime": _moment(datetime.now(UTC).timestamp()),
        "inferenceservicename": options.inference_service,
        "namespace": options.namespace,
        "component": options.component,
        "endpoint": options.endpoint,
        "metadata": orjson.dumps(record.metadata).decode(),
        "requestid": record.request_id,
    }
    if options.annotations:
        found["annotations"] = orjson.dumps(dict(options.annotations)).decode()
    if record.traceparent:
        found["traceparent"] = record.traceparent
    if record.json_length is not None:
        found["jsonlength"] = str(record.json_length)
    return found


def headers(record: Record, options: PayloadOptions) -> dict[str, str]:
    """The event in binary mode: its attributes are headers, its data is the body."""
    found = {
        f"Ce-{name.capitalize()}": quote(value, safe=_PRINTABLE)
        for name, value in attributes(record, options).items()
    }
    return found | {"Content-Type": record.content_type or _BINARY}


def line(record: Record, options: PayloadOptions) -> Iterator[bytes]:
    """The event in structured mode, on one line: data that is JSON as JSON, other in base64."""
    event: dict[str, object] = {
        **attributes(record, options),
        "datacontenttype": record.content_type or _BINARY,
    }
    body = memoryview(record.body)
    if len(body) <= MANY_BYTES and _is_json(record.content_type) and record.json_length is None:
        try:
            event["data"] = orjson.loads(body)
            yield orjson.dumps(event) + b"\n"
            return
        except orjson.JSONDecodeError:
            pass  # Whoever reads the log sees what was sent.
    yield orjson.dumps(event)[:-1] + b',"data_base64":"'
    for start in range(0, len(body), _PIECE):
        yield base64.b64encode(body[start : start + _PIECE])
    yield b'"}\n'


def _is_json(content_type: str) -> bool:
    plain = content_type.partition(";")[0].strip().lower()
    return not plain or plain == _JSON or plain.endswith("+json")


def chosen_headers(wanted: frozenset[str], headers: Mapping[str, str]) -> dict[str, list[str]]:
    """The wanted headers (lower case) among a request's, as the event tells them."""
    return {name: [value] for name, value in headers.items() if name in wanted}


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
