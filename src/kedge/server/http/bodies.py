"""Bodies of requests that Starlette routes: unpacked, bounded, read aside where they are large."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from kedge.protocol import v1
from kedge.protocol.compression import decompress
from kedge.protocol.errors import InvalidInput, PayloadTooLarge
from kedge.protocol.inference import InferRequest
from kedge.protocol.open_inference import rest
from kedge.server.limits import Limits
from kedge.server.side import SIDE_BYTES
from kedge.server.side.process import SideProcess
from kedge.server.side.wire import Question

_MOST_DIGITS = 18


class Bodies:
    """Reads JSON and Open Inference requests."""

    def __init__(self, side: SideProcess, limits: Limits) -> None:
        self._side = side
        self._limits = limits

    async def json(self, request: Request) -> Any:
        """The JSON value; bytes when the client declares that it is none."""
        raw = await request.body()
        content_type = request.headers.get("content-type", "")
        small = self._small(request, raw)
        if small is not None:
            return v1.decode_request(small, content_type)
        return await self._side.read(self._question(request, "v1", content_type, None), [raw])

    async def open_inference(self, request: Request) -> InferRequest:
        raw = await request.body()
        length = json_length(request.headers.get(rest.LENGTH_HEADER))
        small = raw if length is not None and length <= SIDE_BYTES else self._small(request, raw)
        if small is not None:
            params, known = request.path_params, request.scope["request_id"]
            version = params.get("version", "")
            return rest.decode_request(small, params["name"], version, length, known)
        question = self._question(request, "v2", "", length)
        read: InferRequest = await self._side.read(question, [raw])
        return read

    def _small(self, request: Request, raw: bytes) -> bytes | None:
        """The body without its compression; None when that is large."""
        encoding = request.headers.get("content-encoding", "identity")
        if len(raw) > SIDE_BYTES:
            return None
        if encoding == "identity":
            return raw
        limit = self._limits.json_bytes
        try:
            return decompress(raw, encoding.encode("latin-1"), min(limit, SIDE_BYTES))
        except PayloadTooLarge:
            if limit <= SIDE_BYTES:
                raise
            return None

    def _question(
        self, request: Request, protocol: str, content_type: str, length: int | None
    ) -> Question:
        encoding = request.headers.get("content-encoding", "identity")
        return Question(
            protocol,
            request.path_params.get("name", ""),
            request.path_params.get("version", ""),
            content_type,
            encoding if encoding != "identity" else "",
            self._limits.json_bytes,
            length,
            request.scope["request_id"],
        )


def json_length(header: str | None) -> int | None:
    """The length of the JSON part before binary tensors, where the client tells it."""
    if header is None:
        return None
    if not header.isdecimal() or not header.isascii() or len(header) > _MOST_DIGITS:
        raise InvalidInput(
            f"{rest.LENGTH_HEADER} must be a whole number of bytes, not {header[:40]!r}."
        )
    return int(header)
