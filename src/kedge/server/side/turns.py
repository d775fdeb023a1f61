"""Work in turns: the event loop goes round between its pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from time import perf_counter
from typing import TypeVar

Given = TypeVar("Given")

TURN_SECONDS = 0.0005


async def in_turns(work: Generator[None, None, Given]) -> Given:
    """What `work` returns; each of its yields is a place to let others run."""
    began = perf_counter()
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # a generator's own type
        if perf_counter() - began > TURN_SECONDS:
            await asyncio.sleep(0)
            began = perf_counter()
