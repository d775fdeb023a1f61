"""The pods' HTTP proxy: in-cluster names are answered by their routes, other hosts forwarded."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.integration.gateway_world import (
    PREDICT,
    GatewayWorld,
    gateway_world,
    grpc_rule,
    rule,
)

NAMES = ("iris.default", "iris.default.svc", "iris.default.svc.cluster.local")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[GatewayWorld]:
    async with gateway_world(tmp_path) as world:
        rest, rpc = await world.backend("rest"), await world.grpc_backend("rpc")
        await world.service("iris", grpc=True)
        await world.endpoints("iris", rest)
        await world.endpoints("iris", rpc, port_name="grpc")
        await world.route("iris", grpc_rule("iris"), rule("iris"), hostnames=NAMES)
        await world.answering("iris")
        yield world


async def through_proxy(world: GatewayWorld, url: str) -> tuple[int, str]:
    proxy = f"http://127.0.0.1:{world.settings.proxy_port}"
    async with world.session.get(url, proxy=proxy) as response:
        return response.status, await response.text()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("port", ["", ":80"])
async def test_in_cluster_names_are_answered(world: GatewayWorld, name: str, port: str) -> None:
    status, body = await through_proxy(world, f"http://{name}{port}/v1/models?x=1")
    assert status == 200
    answer = json.loads(body)
    assert (answer["backend"], answer["path"]) == ("rest", "/v1/models?x=1")
    assert not [name for name in answer["headers"] if name.startswith("x-kedge")]


async def test_grpc_clients_tunnel_with_connect(
    world: GatewayWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{world.settings.proxy_port}")
    async with grpc.aio.insecure_channel("iris.default:8081") as channel:
        method: Any = channel.unary_unary(PREDICT, None, None)
        answer = json.loads(await method(b"x" * 3, timeout=10))
    assert answer["backend"] == "rpc"


async def test_a_host_of_this_machine_is_refused_whatever_its_name(world: GatewayWorld) -> None:
    outsider = await world.backend("outsider")
    for host in ("127.0.0.1", "localhost", "127.1", "0.0.0.0", "[::ffff:127.0.0.1]"):
        status, _ = await through_proxy(world, f"http://{host}:{outsider.port}/")
        assert status in (403, 503), host
    assert outsider.requests == 0
    reader, writer = await asyncio.open_connection("127.0.0.1", world.settings.proxy_port)
    target = f"localhost:{outsider.port}"
    writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    assert b"200" not in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_another_host_is_forwarded_unchanged(world: GatewayWorld) -> None:
    own = own_address()
    if own is None:
        pytest.skip("this machine has no address but loopback's")
    outsider = await world.backend("outsider", own)
    status, body = await through_proxy(world, f"http://{own}:{outsider.port}/a?b=c")
    assert status == 200
    assert json.loads(body)["path"] == "/a?b=c"
    assert json.loads(body)["headers"]["host"] == f"{own}:{outsider.port}"
    reader, writer = await asyncio.open_connection("127.0.0.1", world.settings.proxy_port)
    target = f"{own}:{outsider.port}"
    writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    assert b" 200 " in await reader.readline()
    while (await reader.readline()).strip():
        pass
    writer.write(f"GET /tunnelled HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n".encode())
    assert b"/tunnelled" in await reader.read()
    writer.close()
    await writer.wait_closed()


async def test_the_proxy_is_not_on_the_outside_port(world: GatewayWorld) -> None:
    async with world.session.get(
        "http://somewhere.example/", proxy=world.url, headers={"x-kedge-listener": "pods"}
    ) as response:
        assert response.status == 404


def own_address() -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address.startswith("127.") else address
