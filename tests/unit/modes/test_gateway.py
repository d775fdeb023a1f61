"""The process beside Envoy: what it tells Envoy first, and its health."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import aiohttp

from kedge.gateway.gateway import Gateway
from kedge.modes.gateway import SideSettings, make_pages, write_bootstrap
from kedge.modes.http import HttpServer


class Driven:
    """A gateway as far as its pages look at it."""

    missing = "no Envoy has taken its configuration"
    figures = (("routes", 3),)


async def ask(server: HttpServer, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{server.port}{path}") as response,
    ):
        return response.status, await response.text()


async def test_it_is_ready_from_the_first_configuration_to_the_end() -> None:
    driven, stop = Driven(), asyncio.Event()
    server = HttpServer(make_pages(cast(Gateway, driven), stop), 0)
    async with server.running():
        assert await ask(server, "/readyz") == (503, "no Envoy has taken its configuration\n")
        assert (await ask(server, "/healthz"))[0] == 200
        driven.missing = ""
        assert await ask(server, "/readyz") == (200, "ok\n")
        assert await ask(server, "/metrics") == (200, "kedge_gateway_routes 3\n")
        stop.set()
        assert (await ask(server, "/readyz"))[0] == 503
        assert (await ask(server, "/healthz"))[0] == 200


def test_the_bootstrap_names_the_pod_and_the_sockets(tmp_path: Path) -> None:
    settings = SideSettings("gw-1", namespace="ml", run_dir=tmp_path, address="10.0.0.1")
    write_bootstrap(settings, tmp_path / "bootstrap.json")
    made: dict[str, Any] = json.loads((tmp_path / "bootstrap.json").read_text())
    assert made["node"]["id"] == "gw-1"
    assert str(tmp_path / "xds.sock") in json.dumps(made["static_resources"])
    assert settings.gateway.gateway == "ml/kedge-gateway"
    assert settings.gateway.host == "10.0.0.1"
    assert not settings.gateway.forwards
    assert SideSettings("gw-1").gateway.host in ("::", "0.0.0.0")
