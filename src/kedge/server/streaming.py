"""Models whose `predict` is a generator: what it yields, one after the other."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import Any

from kedge.server.execution import Worker

_END = object()


async def settled(outcome: Any) -> Any:
    """What a step gave, synchronous or not."""
    return await outcome if inspect.isawaitable(outcome) else outcome


async def each(worker: Worker, results: Any) -> AsyncGenerator[Any, None]:
    """The items of a generator; a synchronous one runs in the model's thread."""
    if isinstance(results, AsyncIterator):
        try:
            async for item in results:
                yield item
        finally:
            if isinstance(results, AsyncGenerator):
                await results.aclose()
        return
    try:
        while True:
            item, _ = await worker.run(partial(next, results, _END))
            if item is _END:
                return
            yield item
    finally:
        results.close()
