"""Checks of one container, once: HTTP, TCP, gRPC and command.

`container` decides when to check and what follows from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from kedge.cluster.base import Object
from kedge.cluster.local.node.sandbox import ExecResult, SandboxError
from kedge.lib.addresses import join

RunCommand = Callable[[list[str], float], Awaitable[ExecResult]]


@dataclass(frozen=True)
class Outcome:
    """What a check found; `refused` when nothing listens yet."""

    ok: bool
    message: str = ""
    refused: bool = False


@dataclass(frozen=True)
class Timing:
    """When a probe is asked, with Kubernetes' defaults; in seconds and counts."""

    initial_delay: float
    period: float
    timeout: float
    successes: int
    failures: int
    grace: int | None

    @classmethod
    def of(cls, probe: Object) -> Timing:
        grace = probe.get("terminationGracePeriodSeconds")
        return cls(
            initial_delay=float(probe.get("initialDelaySeconds") or 0),
            period=float(probe.get("periodSeconds") or 10),
            timeout=float(probe.get("timeoutSeconds") or 1),
            successes=int(probe.get("successThreshold") or 1),
            failures=int(probe.get("failureThreshold") or 3),
            grace=int(grace) if grace is not None else None,
        )


async def check(probe: Object, container: Object, address: str, run: RunCommand) -> Outcome:
    """Ask once; never raises for what the container does."""
    timeout = Timing.of(probe).timeout
    # The shim ends a command that takes too long, and says so.
    patience = timeout if "exec" not in probe else None
    try:
        async with asyncio.timeout(patience):
            return await _check(probe, container, address, run, timeout)
    except TimeoutError:
        return Outcome(False, f"no answer within {timeout:g} s")
    except ConnectionRefusedError:
        return Outcome(False, f"connection refused at {_where(probe, container, address)}", True)
    except OSError as error:
        return Outcome(False, f"{_where(probe, container, address)}: {error.strerror or error}")
    except (SandboxError, ValueError) as error:
        return Outcome(False, str(error))


async def _check(
    probe: Object, container: Object, address: str, run: RunCommand, timeout: float
) -> Outcome:
    if action := probe.get("httpGet"):
        return await http_get(action, container, address)
    if action := probe.get("tcpSocket"):
        host = action.get("host") or address
        _, writer = await asyncio.open_connection(host, port_of(action, container))
        writer.close()
        return Outcome(True)
    if action := probe.get("grpc"):
        return await _ask_grpc(address, port_of(action, container), action.get("service") or "")
    command = (probe.get("exec") or {}).get("command") or []
    if not command:
        return Outcome(False, "the probe names no action")
    result = await run(command, timeout)
    if result.timed_out:
        return Outcome(False, f"command {command[0]!r} did not end within {timeout:g} s")
    return Outcome(result.code == 0, result.output.strip() or f"exit code {result.code}")


def port_of(action: Object, container: Object) -> int:
    """The port of an action, which may be named after one of the container's."""
    port: Any = action.get("port")
    for declared in container.get("ports") or []:
        if declared.get("name") == port:
            return int(declared["containerPort"])
    try:
        return int(port)
    except (TypeError, ValueError):
        raise ValueError(f"the container has no port named {port!r}") from None


def _where(probe: Object, container: Object, address: str) -> str:
    for kind in ("httpGet", "tcpSocket", "grpc"):
        if action := probe.get(kind):
            return join(action.get("host") or address, port_of(action, container))
    return "the container"


async def http_get(action: Object, container: Object, address: str) -> Outcome:
    """Every status from 200 to 399 is a success."""
    host, port = action.get("host") or address, port_of(action, container)
    path = action.get("path") or "/"
    path = path if path.startswith("/") else f"/{path}"
    headers = {
        "Host": join(host, port),
        "User-Agent": "kube-probe/kedge",
        "Accept": "*/*",
        **{header["name"]: header["value"] for header in action.get("httpHeaders") or []},
        "Connection": "close",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    reader, writer = await asyncio.open_connection(host, port, ssl=_tls(action))
    try:
        writer.write(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        line = await reader.readline()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            writer.transport.abort()
    words = line.split()
    if len(words) < 2 or not words[1].isdigit():
        return Outcome(False, f"http://{join(host, port)}{path} does not answer in HTTP")
    status = int(words[1])
    message = f"GET http://{join(host, port)}{path} answered {status}"
    return Outcome(200 <= status < 400, message)


def _tls(action: Object) -> ssl.SSLContext | None:
    if (action.get("scheme") or "HTTP").upper() != "HTTPS":
        return None
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def _ask_grpc(address: str, port: int, service: str) -> Outcome:
    """`grpc.health.v1.Health/Check`; its two messages have one field each, written out here."""
    import grpc

    name = service.encode()
    request = b"\x0a" + bytes([len(name)]) + name if name else b""
    try:
        async with grpc.aio.insecure_channel(
            join(address, port), options=[("grpc.enable_http_proxy", 0)]
        ) as channel:
            ask = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=_as_is,
                response_deserializer=_as_is,
            )
            answer: bytes = await ask(request)
    except grpc.aio.AioRpcError as error:
        refused = error.code() == grpc.StatusCode.UNAVAILABLE
        return Outcome(False, f"health check at {join(address, port)}: {error.details()}", refused)
    serving = answer[:2] == b"\x08\x01"
    return Outcome(
        serving, "" if serving else f"{join(address, port)} answers that it is not serving"
    )


def _as_is(message: bytes) -> bytes:
    return message
