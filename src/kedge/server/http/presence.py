"""Work for a client that is there: it ends when the client goes.

Starlette notices a client that has gone only while it sends. What is computed before the first byte
of an answer, or waits for its turn, is watched here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

Given = TypeVar("Given")


async def while_present(request: Request, work: Coroutine[Any, Any, Given]) -> Given:
    """What `work` gives; cancelled, and `ClientDisconnect` raised, when the client goes first.

    To be asked when the request's body has been read.
    """
    doing = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((doing, gone), return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return doing.result()
        raise ClientDisconnect
    finally:
        gone.cancel()
        if not doing.done():
            doing.cancel()
            await asyncio.wait((doing,))


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue
