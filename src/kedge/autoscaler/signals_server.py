"""The autoscaler's end of the gateways' streams."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import grpc
import msgspec

from kedge.autoscaler.wire import METHOD, Hello, Message, decode
from kedge.lib.grpc_socket import serve_on_socket

log = logging.getLogger(__name__)


class Listener(Protocol):
    """Who is told what the gateways say."""

    def connected(self, gateway: str) -> None: ...

    def disconnected(self, gateway: str) -> None: ...

    def take(self, gateway: str, message: Message) -> None: ...


class SignalsServer:
    """Serves the streams: on one machine on a unix socket, on Kubernetes on a port.

    Args:
        listener: told of every message, in order of arrival.
        place: a unix socket, whose file mode says who may connect, or `host:port`.
        token: gives the bearer token that clients must show; None asks for none.
    """

    def __init__(
        self,
        listener: Listener,
        place: Path | str,
        *,
        token: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        self._listener = listener
        self._place = place
        self._token = token

    async def run(self) -> None:
        """Until cancelled."""
        server = grpc.aio.server()
        service, _, method = METHOD.strip("/").rpartition("/")
        handler = grpc.stream_stream_rpc_method_handler(self._stream)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {method: handler}),)
        )
        if isinstance(self._place, Path):
            await serve_on_socket(server, self._place)
            return
        server.add_insecure_port(self._place)
        await server.start()
        try:
            await server.wait_for_termination()
        finally:
            await server.stop(None)

    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> None:
        gateway = ""
        try:
            await self._admit(context)
            async for data in requests:
                message = decode(data)
                if gateway:
                    self._listener.take(gateway, message)
                elif isinstance(message, Hello):
                    gateway = message.gateway
                    log.info("gateway %s reports", gateway)
                    self._listener.connected(gateway)
                else:
                    await context.abort(
                        grpc.StatusCode.FAILED_PRECONDITION, "the first message is no Hello"
                    )
        except asyncio.CancelledError:
            # The server stops or the gateway is gone; gRPC would take our end for an error.
            return
        except msgspec.MsgspecError as error:
            log.warning("gateway %s sent what is no message: %s", gateway or "?", error)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        finally:
            if gateway:
                log.info("gateway %s is gone", gateway)
                self._listener.disconnected(gateway)

    async def _admit(self, context: Any) -> None:
        """Send away who does not show the token."""
        if self._token is None:
            return
        shown = dict(context.invocation_metadata() or ()).get("authorization", "")
        if not hmac.compare_digest(shown.encode(), f"Bearer {await self._token()}".encode()):
            log.warning("%s showed no valid token", context.peer())
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED,
                "the token is not that of the Secret kedge-signals",
            )
