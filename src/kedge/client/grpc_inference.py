"""Open Inference over gRPC, dialled at the gateway.

gRPC has no path prefix, so the gateway tells services apart by metadata (`kedge-service`) or by the
authority; both are sent. grpcio and NumPy are loaded here and nowhere else, on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kedge.client.errors import InferenceError
from kedge.lib.errors import KedgeError

if TYPE_CHECKING:
    from kedge.client.inference import Target

SERVICE_METADATA = "kedge-service"
"""Metadata that selects a service as `namespace/name`."""

_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_LIMIT = 64 * 1024 * 1024
"""Longest message either way, in bytes: the server's own limit."""


class GrpcInference:
    """An open channel to one service.

    Raises:
        KedgeError: the packages for gRPC are not installed.
    """

    def __init__(self, target: Target, *, timeout: float) -> None:
        try:
            import grpc.aio

            from kedge.protocol.open_inference import messages
        except ImportError as error:
            raise KedgeError(
                f"gRPC needs a package that is not installed: {error.name}.",
                fix="pip install 'kedge[local]'",
                reason="MissingPackage",
            ) from error
        self._target, self._timeout = target, timeout
        options: list[tuple[str, int | str]] = [
            ("grpc.max_receive_message_length", _LIMIT),
            ("grpc.max_send_message_length", _LIMIT),
            ("grpc.enable_http_proxy", 0),
        ]
        if target.host:
            options.append(("grpc.default_authority", target.host))
        if target.tls:
            credentials = grpc.ssl_channel_credentials()
            self._channel = grpc.aio.secure_channel(target.gateway, credentials, options=options)
        else:
            self._channel = grpc.aio.insecure_channel(target.gateway, options=options)
        self._infer = self._channel.unary_unary(
            _METHOD,
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )

    async def close(self) -> None:
        await self._channel.close(None)

    async def infer(self, model: str, body: Any) -> dict[str, Any]:
        """The answer to a V2 body, as V2 JSON. Raises `InferenceError` when it is refused."""
        import grpc.aio

        from kedge.protocol.datatypes import DATATYPES
        from kedge.protocol.open_inference import grpc as codec
        from kedge.protocol.open_inference import rest

        request = rest.decode_request(orjson.dumps(body), model)
        raw = any(not DATATYPES[tensor.datatype].contents for tensor in request.inputs)
        metadata = [(SERVICE_METADATA, self._target.service)]
        try:
            answer = await self._infer(
                codec.encode_request(request, raw=raw), timeout=self._timeout, metadata=metadata
            )
        except grpc.aio.AioRpcError as error:
            is_down = error.code() is grpc.StatusCode.UNAVAILABLE
            raise InferenceError(
                f"{self._target.service} answered {error.code().name}: {error.details()}",
                code=error.code().name,
                fix="See `kedge status`: the gateway may be down." if is_down else "",
            ) from error
        pieces, _ = rest.encode_response(codec.decode_response(answer))
        found: dict[str, Any] = orjson.loads(b"".join(pieces))
        return found
