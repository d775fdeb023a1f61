"""gRPC servers that follow each other on one unix socket."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from kedge.lib.grpc_socket import serve_on_socket


def start(name: bytes, socket: Path) -> asyncio.Task[None]:
    async def say(request: bytes, context: Any) -> bytes:
        return name

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(say)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s", {"Who": handler}),))
    return asyncio.create_task(serve_on_socket(server, socket))


async def stop(server: asyncio.Task[None]) -> None:
    server.cancel()
    await asyncio.gather(server, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - of a file, which signals nothing
            await asyncio.sleep(0)


async def who(socket: Path) -> bytes:
    async with grpc.aio.insecure_channel(
        f"unix:{socket}", options=[("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        ask = channel.unary_unary("/s/Who", None, None)
        return bytes(await ask(b"", wait_for_ready=True, timeout=10))


async def test_who_follows_is_found_whenever_the_first_has_ended(tmp_path: Path) -> None:
    socket = tmp_path / "s.sock"
    first = start(b"first", socket)
    await until(socket.exists)
    assert await who(socket) == b"first"
    inode = socket.stat().st_ino
    second = start(b"second", socket)
    await until(lambda: socket.stat().st_ino != inode)
    await stop(first)
    del first
    gc.collect()
    assert await who(socket) == b"second"
    await stop(second)
    assert list(tmp_path.iterdir()) == [socket]
