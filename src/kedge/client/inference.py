"""Predictions: V1 and Open Inference (V2) over REST, and Open Inference over gRPC.

A `Target` says where a service is and how it is told from the others that share the gateway: by
path, by host name, or by gRPC metadata. No name like `iris-default.localhost` is ever resolved
here: many resolvers do not know it. The gateway is dialled and the host is sent along.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from kedge.client.errors import InferenceError, Unreachable
from kedge.client.grpc_inference import GrpcInference
from kedge.client.payloads import is_v2, to_v1, to_v2
from kedge.lib.addresses import join


@dataclass(frozen=True)
class Target:
    """Where one service answers.

    Attributes:
        url: base of its REST paths.
        gateway: `host:port` to dial.
        host: what to send as `Host` and as gRPC authority; empty for the URL's own.
        service: `namespace/name`.
        tls: whether the gateway speaks TLS.
    """

    url: str
    gateway: str
    host: str
    service: str
    tls: bool = False

    @property
    def model(self) -> str:
        """The model's name: the service's own."""
        return self.service.partition("/")[2]

    @classmethod
    def of(cls, service: dict[str, Any], gateway: str = "") -> Target:
        """The target of an InferenceService, by its status.

        Args:
            gateway: `host:port` to dial instead of what the status says, as when a port is
                forwarded.

        Raises:
            InferenceError: it has no URL yet.
        """
        metadata, status = service["metadata"], service.get("status") or {}
        name = f"{metadata.get('namespace', 'default')}/{metadata['name']}"
        outside = str(status.get("url") or "")
        inside = str((status.get("address") or {}).get("url") or "")
        url = inside if "/serving/" in inside else outside or inside
        if not url:
            raise InferenceError(
                f"{metadata['name']} has no URL yet: it was never Ready.",
                code=503,
                fix=f"See `kedge why {metadata['name']}`.",
            )
        parts = urlsplit(url)
        host = (urlsplit(outside).hostname or "") if outside else ""
        dialled = gateway or _dialled(parts.hostname or "", parts.port, parts.scheme)
        base = f"{parts.scheme}://{dialled}{parts.path.rstrip('/')}"
        return cls(base, dialled, host, name, parts.scheme == "https")


def _dialled(host: str, port: int | None, scheme: str) -> str:
    """`*.localhost` is this machine, whatever the resolver thinks."""
    address = "127.0.0.1" if host == "localhost" or host.endswith(".localhost") else host
    return join(address, port or (443 if scheme == "https" else 80))


class InferenceClient:
    """A client of one service; use as `async with`.

    Args:
        target: where it is.
        timeout: seconds for one request.
    """

    def __init__(self, target: Target, *, timeout: float = 60.0) -> None:
        self.target = target
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None
        self._grpc: GrpcInference | None = None
        self._inputs: list[dict[str, Any]] | None = None

    async def __aenter__(self) -> InferenceClient:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._grpc is not None:
            await self._grpc.close()
            self._grpc = None

    async def predict(self, data: Any, protocol: str = "v1", *, model: str = "") -> Any:
        """The answer to rows, or to a V1 or V2 body, over `v1`, `v2` or `grpc`."""
        name = model or self.target.model
        if protocol == "v1":
            return await self._post(f"/v1/models/{name}:predict", to_v1(data))
        body = data if is_v2(data) else to_v2(data, await self.inputs(name))
        if protocol == "v2":
            return await self._post(f"/v2/models/{name}/infer", body)
        if self._grpc is None:
            self._grpc = GrpcInference(self.target, timeout=self._timeout)
        return await self._grpc.infer(name, body)

    async def inputs(self, model: str = "") -> list[dict[str, Any]]:
        """The inputs that the model's metadata declares; [] where it has none to tell."""
        if self._inputs is None:
            try:
                metadata = await self.metadata(model)
            except InferenceError as error:
                if error.code not in (404, 501):
                    raise
                metadata = {}
            self._inputs = list(metadata.get("inputs") or [])
        return self._inputs

    async def metadata(self, model: str = "") -> dict[str, Any]:
        """The model's Open Inference metadata."""
        found: dict[str, Any] = await self._request(
            "GET", f"/v2/models/{model or self.target.model}", None
        )
        return found

    async def _post(self, path: str, body: Any) -> Any:
        return await self._request("POST", path, orjson.dumps(body))

    async def _request(self, method: str, path: str, data: bytes | None) -> Any:
        assert self._session is not None, "use it as `async with InferenceClient(...)`"
        target = self.target
        headers = {"Content-Type": "application/json"} if data is not None else {}
        if target.host and "/serving/" not in target.url:
            headers["Host"] = target.host
        try:
            async with self._session.request(
                method, target.url + path, data=data, headers=headers
            ) as response:
                text, code = await response.read(), response.status
        except aiohttp.ClientError as error:
            raise Unreachable(
                f"The gateway does not answer at {target.gateway}: {error}.",
                fix="See `kedge status`; --gateway HOST:PORT dials another address.",
            ) from error
        except TimeoutError as error:
            raise InferenceError(
                f"{target.service} did not answer within {self._timeout:g} s.",
                code=504,
                fix="Give it longer with --timeout, or see `kedge logs` for what it does.",
            ) from error
        return _answer(text, code, f"{target.service}{path}")


def _answer(text: bytes, code: int, what: str) -> Any:
    """The decoded body; raises when it tells of a failure."""
    try:
        body = orjson.loads(text) if text else None
    except orjson.JSONDecodeError:
        body = text.decode(errors="replace")
    if code < 400:
        return body
    told = body.get("error", body) if isinstance(body, dict) else body
    raise InferenceError(f"{what} answered {code}: {told or 'nothing'}", code=code, body=body)
