"""A server that stands for a pod: it tells its name, some time after it was asked.

    python pod_process.py NAME ADDRESS PORT SECONDS

`/most` tells how many requests it had at once, at most.
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web


async def serve(name: str, address: str, port: int, seconds: float) -> None:
    now = most = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        try:
            await request.read()
            await asyncio.sleep(seconds)
        finally:
            now -= 1
        return web.json_response({"pod": name, "host": request.host})

    async def tell(request: web.Request) -> web.Response:
        return web.Response(text=str(most))

    app = web.Application()
    app.router.add_get("/most", tell)
    app.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(app, keepalive_timeout=75)
    await runner.setup()
    await web.TCPSite(runner, address, port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
