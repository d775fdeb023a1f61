"""Where a transformer sends what it has prepared: a predictor elsewhere, over REST or gRPC.

A `Model` without a `predict` of its own forwards. What the predictor answers comes back as the
client should see it: its refusals (4xx, 503) with their own words, a predictor that cannot be
reached as 502, one that takes too long as 504. aiohttp and grpcio are imported by the process that
forwards, when it first does.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import orjson

from kedge.lib.addresses import bracket, has_port, join
from kedge.lib.backoff import Backoff
from kedge.protocol import v1
from kedge.protocol.errors import (
    BadGateway,
    DeadlineExceeded,
    GrpcCode,
    InvalidInput,
    Relayed,
    Unsupported,
)
from kedge.protocol.inference import InferRequest, InferResponse
from kedge.protocol.open_inference import rest
from kedge.server.errors import BadUsage

if TYPE_CHECKING:
    import aiohttp
    import grpc.aio

    from kedge.protocol.open_inference.messages import ModelInferRequest

PROTOCOLS = ("v1", "v2", "grpc-v2")

FORWARDED = frozenset(
    {
        "authorization", "x-request-id", "traceparent", "tracestate", "baggage", "b3",
        "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags",
    }
)  # fmt: skip
"""Who asks, and which request and trace it belongs to; a client's other headers stay here."""

_SERVICE = "/inference.GRPCInferenceService/"
_INFER = _SERVICE + "ModelInfer"
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_UNLIMITED = -1
_HEALTH_SECONDS = 5.0
_KEPT_CONNECTIONS = 1024
_BACKOFF = Backoff(initial=0.1, limit=1.0)

Answer = TypeVar("Answer")
Told = dict[str, str] | None
"""Where the headers of an answer go, if anywhere."""

_NOT_TOLD = frozenset(
    {"connection", "content-length", "content-type", "date", "keep-alive", "server",
     "transfer-encoding", "content-encoding", rest.LENGTH_HEADER}
)  # fmt: skip
"""Headers of a predictor's answer that are of its connection or body only."""


@dataclass(frozen=True)
class PredictorConfig:
    """Where the predictor is, and how it is asked. The names are KServe's.

    Attributes:
        predictor_host: host, or host:port.
        predictor_protocol: v1, v2 or grpc-v2; the payload must be of that protocol.
        predictor_request_timeout_seconds: for one attempt.
        predictor_request_retries: further attempts when the predictor cannot be reached or
            answers that it is not ready.
        predictor_health_check: who asks whether this server is ready is told of the predictor.
    """

    predictor_host: str
    predictor_protocol: str = "v1"
    predictor_use_ssl: bool = False
    predictor_request_timeout_seconds: float = 600.0
    predictor_request_retries: int = 0
    predictor_health_check: bool = False

    def __post_init__(self) -> None:
        if self.predictor_protocol.lower() not in PROTOCOLS:
            raise BadUsage(
                f"The predictor protocol {self.predictor_protocol!r} is not known.",
                fix=f"Set --predictor_protocol to one of {', '.join(PROTOCOLS)}.",
            )


class Predictor(Protocol):
    """A predictor elsewhere."""

    async def predict(
        self, model: str, payload: Any, headers: Mapping[str, str], told: Told = None
    ) -> Any:
        """The answer; its headers are put into `told`."""

    async def explain(self, model: str, payload: Any, headers: Mapping[str, str]) -> Any: ...

    async def ready(self, model: str = "") -> bool:
        """Whether the model, or the server, says that it is; no answer is no."""

    async def close(self) -> None: ...


def connect(config: PredictorConfig) -> Predictor:
    """A client for `config`; it dials when first asked."""
    if config.predictor_protocol.lower() == "grpc-v2":
        return GrpcPredictor(config)
    return RestPredictor(config)


def forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a request that travel on with it."""
    return {name: value for name, value in headers.items() if name.lower() in FORWARDED}


class RestPredictor:
    """V1 or Open Inference over HTTP, on connections that are kept."""

    def __init__(self, config: PredictorConfig) -> None:
        scheme = "https" if config.predictor_use_ssl else "http"
        host = config.predictor_host
        self._base = f"{scheme}://{host if has_port(host) else bracket(host)}"
        self._config = config
        self._v2 = config.predictor_protocol.lower() == "v2"
        self._session: aiohttp.ClientSession | None = None

    async def predict(
        self, model: str, payload: Any, headers: Mapping[str, str], told: Told = None
    ) -> Any:
        if not self._v2:
            url = f"{self._base}/v1/models/{model}:predict"
            return await self._v1(url, payload, headers, told)
        body, json_length = _v2_body(payload)
        sent = forwarded(headers) | {"content-type": "application/json"}
        if json_length is not None:
            sent |= {"content-type": "application/octet-stream"}
            sent |= {rest.LENGTH_HEADER: str(json_length)}
        url = f"{self._base}/v2/models/{model}/infer"
        answer, length = await self._post(url, body, sent, told)
        return _decode_v2(answer, int(length) if length else None, url)

    async def explain(self, model: str, payload: Any, headers: Mapping[str, str]) -> Any:
        return await self._v1(f"{self._base}/v1/models/{model}:explain", payload, headers)

    async def _v1(
        self, url: str, payload: Any, headers: Mapping[str, str], told: Told = None
    ) -> Any:
        if isinstance(payload, InferRequest):
            raise InvalidInput(
                "The request is Open Inference, but this transformer's predictor speaks V1.",
                fix="Ask /v1/models/NAME:predict, or start it with --predictor_protocol v2.",
            )
        body = payload if isinstance(payload, bytes) else v1.encode_response(payload)
        sent = forwarded(headers) | {"content-type": "application/json"}
        answer, _ = await self._post(url, body, sent, told)
        try:
            return orjson.loads(answer)
        except orjson.JSONDecodeError as error:
            raise BadGateway(f"The predictor at {url} answered with what is not JSON.") from error

    async def _post(
        self, url: str, body: bytes, headers: Mapping[str, str], told: Told
    ) -> tuple[bytes, str | None]:
        """The body of a good answer, and its length header."""
        session = self._session = self._session or self._open()

        async def once() -> tuple[bytes, str | None]:
            async with session.post(url, data=body, headers=headers) as answer:
                raw = await answer.read()
                if answer.status >= 400:
                    raise _refused(answer.status, raw, url)
                if told is not None:
                    named = {name.lower(): value for name, value in answer.headers.items()}
                    told.update((name, named[name]) for name in named if name not in _NOT_TOLD)
                return raw, answer.headers.get(rest.LENGTH_HEADER)

        return await self._attempts(url, once)

    async def ready(self, model: str = "") -> bool:
        import aiohttp

        if self._v2:
            path = f"/v2/models/{model}/ready" if model else "/v2/health/ready"
        else:
            path = f"/v1/models/{model}" if model else "/"
        session = self._session = self._session or self._open()
        limit = aiohttp.ClientTimeout(total=_HEALTH_SECONDS)
        try:
            async with session.get(self._base + path, timeout=limit) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _attempts(self, url: str, once: Callable[[], Awaitable[Answer]]) -> Answer:
        import aiohttp

        retries = self._config.predictor_request_retries
        for left in range(retries, -1, -1):
            try:
                return await once()
            except TimeoutError as error:
                raise _late(url, self._config) from error
            except aiohttp.ClientError as error:
                if not left:
                    raise _unreachable(url, error) from error
            except Relayed as refused:
                if refused.status != 503 or not left:
                    raise
            await asyncio.sleep(_BACKOFF.delay(retries - left + 1))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        context = _tls() if self._config.predictor_use_ssl else True
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_KEPT_CONNECTIONS, ssl=context),
            timeout=aiohttp.ClientTimeout(total=self._config.predictor_request_timeout_seconds),
            trust_env=True,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


class GrpcPredictor:
    """Open Inference over gRPC, by grpcio: it brings TLS, name resolution and proxies."""

    def __init__(self, config: PredictorConfig) -> None:
        self._config = config
        host = config.predictor_host
        port = "443" if config.predictor_use_ssl else "80"
        self._target = host if has_port(host) else join(host, port)
        self._channel: grpc.aio.Channel | None = None
        self._infer: Any = None

    async def predict(
        self, model: str, payload: Any, headers: Mapping[str, str], told: Told = None
    ) -> Any:
        from kedge.protocol.open_inference import grpc as codec

        request = _open_inference(payload, model)
        message = codec.encode_request(request, raw=request.raw or _needs_raw(request))
        message.model_name = model
        return codec.decode_response(await self._call(message, headers))

    async def ready(self, model: str = "") -> bool:
        if self._channel is None:
            self._open()
        import grpc.aio

        from kedge.protocol.open_inference import messages as m

        assert self._channel is not None
        request: Any = m.ModelReadyRequest(name=model) if model else m.ServerReadyRequest()
        answer: Any = m.ModelReadyResponse if model else m.ServerReadyResponse
        method = _SERVICE + ("ModelReady" if model else "ServerReady")
        ask = self._channel.unary_unary(
            method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        try:
            return bool((await ask(request, timeout=_HEALTH_SECONDS)).ready)
        except grpc.aio.AioRpcError:
            return False

    async def explain(self, model: str, payload: Any, headers: Mapping[str, str]) -> Any:
        raise Unsupported("Explanations are V1 over REST; this transformer's predictor is gRPC.")

    async def _call(self, message: ModelInferRequest, headers: Mapping[str, str]) -> Any:
        if self._channel is None:
            self._open()
        import grpc.aio

        metadata = [("request_type", "grpc_v2"), ("response_type", "grpc_v2")]
        metadata += [(name.lower(), value) for name, value in forwarded(headers).items()]
        retries = self._config.predictor_request_retries
        for left in range(retries, -1, -1):
            try:
                return await self._infer(
                    message,
                    timeout=self._config.predictor_request_timeout_seconds,
                    metadata=metadata,
                )
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or not left:
                    raise self._failed(error) from error
            await asyncio.sleep(_BACKOFF.delay(retries - left + 1))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _failed(self, error: Any) -> Exception:
        code, text = GrpcCode(error.code().value[0]), str(error.details())
        if code is GrpcCode.DEADLINE_EXCEEDED:
            return _late(self._target, self._config)
        if code is GrpcCode.UNAVAILABLE and "failed to connect" in text.lower():
            return _unreachable(self._target, error)
        return Relayed(text, status=_STATUS_OF_CODE.get(code, 500), code=code)

    def _open(self) -> None:
        try:
            import grpc.aio
        except ImportError as error:
            raise BadUsage(
                "A predictor over gRPC needs grpcio, which is not installed.",
                fix="pip install 'kedge[grpc]'.",
            ) from error
        from kedge.protocol.open_inference import messages

        options = [
            ("grpc.max_receive_message_length", _UNLIMITED),
            ("grpc.max_send_message_length", _UNLIMITED),
        ]
        if self._config.predictor_use_ssl:
            path = _ca_bundle()
            with open(path, "rb") if path else open(os.devnull, "rb") as bundle:
                roots = bundle.read() or None
            credentials = grpc.ssl_channel_credentials(roots)
            self._channel = grpc.aio.secure_channel(self._target, credentials, options=options)
        else:
            self._channel = grpc.aio.insecure_channel(self._target, options=options)
        self._infer = self._channel.unary_unary(
            _INFER,
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close(None)


_STATUS_OF_CODE = {
    GrpcCode.INVALID_ARGUMENT: 400,
    GrpcCode.NOT_FOUND: 404,
    GrpcCode.RESOURCE_EXHAUSTED: 413,
    GrpcCode.UNIMPLEMENTED: 501,
    GrpcCode.UNAVAILABLE: 503,
}
_CODE_OF_STATUS = {status: code for code, status in _STATUS_OF_CODE.items()}


def _refused(status: int, body: bytes, url: str) -> Exception:
    """4xx, 501 and 503 are the client's affair; another 5xx is the predictor's failure."""
    text = _error_text(body) or f"The predictor at {url} answered {status}."
    if status == 504:
        return DeadlineExceeded(text)
    if status == 502:
        return BadGateway(text)
    told = status if status < 500 or status in (501, 503) else 500
    fallback = GrpcCode.INVALID_ARGUMENT if status < 500 else GrpcCode.INTERNAL
    return Relayed(text, status=told, code=_CODE_OF_STATUS.get(told, fallback))


def _error_text(body: bytes) -> str:
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body[:500].decode("utf-8", "replace").strip()
    found = told.get("error", told.get("detail")) if isinstance(told, dict) else told
    return found if isinstance(found, str) else orjson.dumps(found).decode()[:500]


def _late(where: str, config: PredictorConfig) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"The predictor at {where} did not answer within "
        f"{config.predictor_request_timeout_seconds:g} s.",
        fix="Raise --predictor_request_timeout_seconds if it needs longer.",
    )


def _unreachable(where: str, error: Exception) -> BadGateway:
    return BadGateway(
        f"The predictor at {where} cannot be reached ({type(error).__name__}).",
        fix="Check --predictor_host, and that the predictor is ready.",
    )


def _v2_body(payload: Any) -> tuple[bytes, int | None]:
    if isinstance(payload, InferRequest):
        return rest.encode_request(payload, binary=payload.raw or _needs_raw(payload))
    return v1.encode_response(payload), None


def _needs_raw(request: InferRequest) -> bool:
    return any(tensor.datatype in ("FP16", "BF16") for tensor in request.inputs)


def _open_inference(payload: Any, model: str) -> InferRequest:
    if isinstance(payload, InferRequest):
        return payload
    return rest.decode_request(orjson.dumps(payload), model)


def _decode_v2(body: bytes, json_length: int | None, url: str) -> InferResponse:
    try:
        return rest.decode_response(body, json_length)
    except (ValueError, KeyError, InvalidInput) as error:
        raise BadGateway(
            f"The predictor at {url} answered with what is not an Open Inference response."
        ) from error


def _ca_bundle() -> str:
    return next((os.environ[name] for name in _CA_VARIABLES if os.environ.get(name)), "")


def _tls() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=_ca_bundle() or None)


class Predictors:
    """One client per predictor, shared by the models that forward to it."""

    def __init__(self) -> None:
        self._by_config: dict[PredictorConfig, Predictor] = {}

    def of(self, config: PredictorConfig) -> Predictor:
        if config not in self._by_config:
            self._by_config[config] = connect(config)
        return self._by_config[config]

    async def close(self) -> None:
        for predictor in self._by_config.values():
            await predictor.close()
        self._by_config.clear()
