"""Open Inference over gRPC, dialled at the gateway.

gRPC has no path prefix, so the gateway tells services apart by metadata (`kedge-service`) or by the
authority; both are sent. grpcio is loaded here and nowhere else, on first use.
"""

from __future__ import annotations

from typing import Any

import orjson

from kedge.client.errors import InferenceError
from kedge.client.inference import SERVICE_METADATA, Target
from kedge.lib.errors import KedgeError

_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_LIMIT = 64 * 1024 * 1024
"""Longest message either way, in bytes: the server's own limit."""


async def infer(target: Target, model: str, body: Any, *, timeout: float) -> dict[str, Any]:
    """The answer to a V2 body, as V2 JSON.

    Raises:
        KedgeError: the packages for gRPC are not installed.
        InferenceError: the gateway or the model refused the request.
    """
    try:
        import grpc
        import grpc.aio

        from kedge.protocol.datatypes import DATATYPES
        from kedge.protocol.open_inference import grpc as codec
        from kedge.protocol.open_inference import rest
        from kedge.protocol.open_inference.messages import ModelInferRequest, ModelInferResponse
    except ImportError as error:
        raise KedgeError(
            f"gRPC needs a package that is not installed: {error.name}.",
            fix="pip install 'kedge[local]'",
            reason="MissingPackage",
        ) from error
    request = rest.decode_request(orjson.dumps(body), model)
    raw = any(not DATATYPES[tensor.datatype].contents for tensor in request.inputs)
    message = codec.encode_request(request, raw=raw)
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", _LIMIT),
        ("grpc.max_send_message_length", _LIMIT),
        ("grpc.enable_http_proxy", 0),
    ]
    if target.host:
        options.append(("grpc.default_authority", target.host))
    open_channel = (
        grpc.aio.secure_channel(target.gateway, grpc.ssl_channel_credentials(), options=options)
        if target.tls
        else grpc.aio.insecure_channel(target.gateway, options=options)
    )
    async with open_channel as channel:
        call = channel.unary_unary(
            _METHOD,
            request_serializer=ModelInferRequest.SerializeToString,
            response_deserializer=ModelInferResponse.FromString,
        )
        try:
            answer = await call(
                message, timeout=timeout, metadata=[(SERVICE_METADATA, target.service)]
            )
        except grpc.aio.AioRpcError as error:
            raise InferenceError(
                f"{target.service} answered {error.code().name}: {error.details()}",
                code=error.code().name,
                fix="See `kedge status`: the gateway may be down."
                if error.code() is grpc.StatusCode.UNAVAILABLE
                else "",
            ) from error
    pieces, _ = rest.encode_response(codec.decode_response(answer))
    found: dict[str, Any] = orjson.loads(b"".join(pieces))
    return found
