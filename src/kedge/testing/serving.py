"""A model served for the length of a test, in the test's own process and event loop.

::

    async def test_the_answer() -> None:
        async with serve(MyModel("m")) as served:
            assert await served.predict({"instances": [[1, 2]]}) == {"predictions": [3]}
            answer = await served.infer({"x": np.array([[1.0, 2.0]])})
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import orjson

from kedge.protocol.inference import InferRequest, InferResponse, Tensor
from kedge.protocol.open_inference import rest
from kedge.server.limits import DEFAULT_LIMITS, Limits
from kedge.server.model import Headers, Model
from kedge.server.predictor import PredictorConfig
from kedge.server.server import ModelServer

if TYPE_CHECKING:
    from kedge.protocol.datatypes import Array
    from kedge.server.payloads.options import PayloadOptions

Transport = Literal["rest", "grpc"]


class EchoModel(Model):
    """Answers with what it was given, and keeps every request and its headers.

    Attributes:
        requests: (payload, headers) of each request, in order.
        fail: raised instead of answering, while it is set.
    """

    def __init__(self, name: str = "echo", version: str = "") -> None:
        super().__init__(name, version)
        self.requests: list[tuple[Any, Headers]] = []
        self.fail: Exception | None = None

    async def predict(self, payload: Any, headers: Headers) -> Any:
        self.requests.append((payload, dict(headers)))
        if self.fail is not None:
            raise self.fail
        if isinstance(payload, InferRequest):
            return InferResponse(self.name, payload.inputs)
        return {"predictions": payload["instances"]}


class Refused(Exception):
    """The server answered with an error.

    Attributes:
        status: of HTTP, or the number of gRPC's code.
        body: what it said: the JSON body, or gRPC's message.
    """

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body


@dataclass
class ServedModels:
    """Models that answer, and ways to ask them.

    Attributes:
        url: of REST, such as `http://127.0.0.1:40001`.
        grpc_target: of gRPC, such as `127.0.0.1:40002`.
        model: the first model's name: what is asked when no name is given.
        http: a client session, for whatever else is to be asked.
    """

    url: str
    grpc_target: str
    model: str
    http: aiohttp.ClientSession
    server: ModelServer

    async def predict(
        self, body: Any, *, model: str = "", verb: str = "predict", **headers: str
    ) -> Any:
        """V1: the JSON answer."""
        path = f"/v1/models/{model or self.model}:{verb}"
        return await self.json("POST", path, body, **headers)

    async def infer(
        self,
        inputs: Mapping[str, Array],
        *,
        model: str = "",
        transport: Transport = "rest",
        binary: bool = False,
        **headers: str,
    ) -> InferResponse:
        """Open Inference: the answer, whatever the transport."""
        name = model or self.model
        tensors = [Tensor.from_array(key, array) for key, array in inputs.items()]
        request = InferRequest(name, tensors)
        if transport == "grpc":
            return await self._infer_grpc(request, binary, _dashed(headers))
        body, length = rest.encode_request(request, binary=binary)
        more = {rest.LENGTH_HEADER: str(length)} if length is not None else {}
        answer = await self._ask("POST", f"/v2/models/{name}/infer", body, headers | more)
        return rest.decode_response(answer)

    async def _infer_grpc(
        self, request: InferRequest, raw: bool, headers: Mapping[str, str]
    ) -> InferResponse:
        import grpc.aio

        from kedge.protocol.open_inference import grpc as codec
        from kedge.protocol.open_inference import messages

        async with grpc.aio.insecure_channel(
            self.grpc_target, options=[("grpc.enable_http_proxy", 0)]
        ) as channel:
            call = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer",
                request_serializer=messages.ModelInferRequest.SerializeToString,
                response_deserializer=messages.ModelInferResponse.FromString,
            )
            try:
                metadata = list(headers.items())
                answer = await call(codec.encode_request(request, raw=raw), metadata=metadata)
            except grpc.aio.AioRpcError as error:
                raise Refused(int(error.code().value[0]), error.details()) from error
            return codec.decode_response(answer)

    async def json(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Any endpoint: the JSON answer."""
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        return orjson.loads(await self._ask(method, path, raw, headers))

    async def _ask(self, method: str, path: str, raw: bytes, headers: Mapping[str, str]) -> bytes:
        sent = {"content-type": "application/json"} | _dashed(headers)
        url, data = self.url + path, io.BytesIO(raw)
        async with self.http.request(method, url, data=data, headers=sent) as answer:
            body = await answer.read()
            if answer.status >= 400:
                raise Refused(answer.status, orjson.loads(body))
            return body


def _dashed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@asynccontextmanager
async def serve(
    *models: Model,
    predictor: PredictorConfig | None = None,
    limits: Limits = DEFAULT_LIMITS,
    payloads: PayloadOptions | None = None,
    tracing: bool = False,
    explainer: PredictorConfig | None = None,
) -> AsyncIterator[ServedModels]:
    """`models` over REST and gRPC on free ports of this machine, until the block ends."""
    server = ModelServer(
        bind_address="127.0.0.1",
        http_port=0,
        grpc_port=0,
        limits=limits,
        latency_log=False,
        predictor=predictor,
        payloads=payloads,
        tracing=tracing,
        explainer=explainer,
    )
    async with server.running(models), aiohttp.ClientSession() as http:
        yield ServedModels(
            url=f"http://127.0.0.1:{server.http_port}",
            grpc_target=f"127.0.0.1:{server.grpc_port}",
            model=models[0].name if models else "",
            http=http,
            server=server,
        )
