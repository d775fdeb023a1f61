"""Where Envoy asks which pod a request shall go to: ext_proc, on a unix socket.

One gRPC stream a request. It brings the request's headers and ends when the request does; between
the two it is silent, while the request waits here or is in its pod.
"""

from __future__ import annotations

import asyncio
import json
import logging
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import grpc
from envoy.service.ext_proc.v3 import external_processor_pb2 as messages
from google.protobuf import struct_pb2

from kedge.gateway.activation import CLUSTER_ATTRIBUTE, ID_HEADER, LANE_HEADER, NAMESPACE
from kedge.gateway.ir import Endpoint
from kedge.gateway.revision import Refused, Revision, key_of
from kedge.gateway.translate import ACTIVATION, why_name
from kedge.lib.addresses import join
from kedge.lib.grpc_socket import serve_on_socket

log = logging.getLogger(__name__)

_SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
_ATTRIBUTES = "envoy.filters.http.ext_proc"
_PREFIX = f"envoy://{ACTIVATION}/"
_TRAILERS_SEEN = messages.ProcessingResponse(
    response_trailers=messages.TrailersResponse()
).SerializeToString()
_GRPC = b"application/grpc"
_UNAVAILABLE = 14


class Asked(Protocol):
    """A request that asks for a pod."""

    cluster: str
    placed: asyncio.Future[Endpoint]


AskT = TypeVar("AskT", bound=Asked)


class Activating(Protocol[AskT]):
    """Who knows the pods: an `Activator`, or several of them (`Sharing`)."""

    def ask(self, cluster: str, id: bytes = b"") -> AskT: ...

    def release(self, ask: AskT) -> None: ...

    def find(self, cluster: str) -> Revision | None: ...


class AskingServer(Generic[AskT]):
    """Answers Envoy's questions; `lane` is the cluster that leads to pods."""

    def __init__(self, activator: Activating[AskT], lane: str) -> None:
        self._activator = activator
        self._lane = lane

    async def serve(self, socket: Path) -> None:
        """Serve on a unix socket until cancelled."""
        server = grpc.aio.server(options=[("grpc.max_concurrent_streams", (1 << 31) - 1)])
        handler = grpc.stream_stream_rpc_method_handler(
            self._process,
            request_deserializer=messages.ProcessingRequest.FromString,
            response_serializer=None,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, {"Process": handler}),)
        )
        await serve_on_socket(server, socket)

    async def _process(self, requests: Any, context: Any) -> Any:
        ask: AskT | None = None
        try:
            async for request in requests:
                kind = request.WhichOneof("request")
                if kind == "request_headers":
                    headers = _headers_of(request)
                    ask = self._activator.ask(_cluster_of(request), headers.get(ID_HEADER, b""))
                    try:
                        endpoint = await ask.placed
                    except Refused as refused:
                        is_grpc = headers.get("content-type", b"").startswith(_GRPC)
                        yield _make_refusal(refused, is_grpc)
                        return
                    yield self._place(ask.cluster, endpoint)
                elif kind == "response_trailers":
                    yield _TRAILERS_SEEN
        finally:
            if ask is not None:
                self._activator.release(ask)

    def _place(self, cluster: str, endpoint: Endpoint) -> bytes:
        """The answer that names this endpoint."""
        revision = self._activator.find(cluster)
        title = (revision.hold.title if revision else "") or key_of(cluster)
        return _make_placement(self._lane, join(endpoint.address, endpoint.port), title)


@lru_cache(4096)
def _make_placement(lane: str, address: str, title: str) -> bytes:
    facts = struct_pb2.Struct()
    facts.update({"address": address, "service": title, "why": why_name(title)})
    metadata = struct_pb2.Struct()
    metadata.fields[NAMESPACE].struct_value.CopyFrom(facts)
    chosen = {"header": {"key": LANE_HEADER, "raw_value": lane.encode()}}
    response = messages.ProcessingResponse(
        request_headers={"response": {"header_mutation": {"set_headers": [chosen]}}},
        dynamic_metadata=metadata,
    )
    packed: bytes = response.SerializeToString()
    return packed


def _cluster_of(request: Any) -> str:
    """The cluster that the request came through, in the internal listener's address."""
    attributes = request.attributes[_ATTRIBUTES].fields
    address: str = attributes[CLUSTER_ATTRIBUTE].string_value
    return address.removeprefix(_PREFIX)


def _headers_of(request: Any) -> dict[str, bytes]:
    return {one.key: one.raw_value for one in request.request_headers.headers.headers}


def _make_refusal(refused: Refused, grpc: bool) -> bytes:
    """The error answer: JSON, or the same text as gRPC's message."""
    headers = {"content-type": "application/json"}
    if refused.retry_after is not None:
        headers["retry-after"] = str(refused.retry_after)
    response = messages.ProcessingResponse(
        immediate_response=messages.ImmediateResponse(
            status={"code": 503},
            headers={
                "set_headers": [
                    {"header": {"key": key, "raw_value": value.encode()}}
                    for key, value in headers.items()
                ]
            },
            body=(refused.message if grpc else json.dumps({"error": refused.message})).encode(),
            grpc_status={"status": _UNAVAILABLE},
            details="kedge_activation",
        )
    )
    packed: bytes = response.SerializeToString()
    return packed
