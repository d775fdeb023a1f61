"""What a controller's process answers, leading or standing by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import aiohttp

from kedge.autoscaler.leader import NoLeader
from kedge.lib.asgi import Body, ReadOnly
from kedge.modes.http import Health, HttpServer


async def ask(server: HttpServer, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{server.port}{path}") as response,
    ):
        return response.status, await response.text()


async def said(query: Mapping[str, str]) -> Body:
    return {"asked": query.get("service", "")}


def at(url: str) -> Callable[[], Awaitable[str]]:
    async def find() -> str:
        return url

    return find


async def nobody() -> str:
    raise NoLeader("nobody leads")


async def test_who_stands_by_asks_the_leader() -> None:
    leading = Health(nobody)
    page = ReadOnly({"/scaling": said, "/top": said, "/metrics": said})
    leading.lead(page, page)
    first = HttpServer(leading, 0)
    async with first.running():
        second = HttpServer(Health(at(f"http://127.0.0.1:{first.port}")), 0)
        async with second.running():
            for server in (first, second):
                assert await ask(server, "/scaling?service=iris") == (200, '{"asked": "iris"}')
                assert await ask(server, "/healthz") == (200, "ok\n")
            assert (await ask(second, "/metrics"))[1] == "kedge_controller_leading 0\n"


async def test_where_nobody_leads_that_is_said() -> None:
    server = HttpServer(Health(nobody), 0)
    async with server.running():
        code, text = await ask(server, "/top")
        assert code == 503
        assert "nobody leads" in text
        assert (await ask(server, "/readyz"))[0] == 200


async def test_a_leader_of_yesterday_is_asked_once() -> None:
    old = HttpServer(Health(nobody), 0)
    async with old.running():
        server = HttpServer(Health(at(f"http://127.0.0.1:{old.port}")), 0)
        async with server.running():
            assert (await ask(server, "/top"))[0] == 404
