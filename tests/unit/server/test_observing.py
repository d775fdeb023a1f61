"""Requests whose clients leave are observed to their end, too."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Any, cast

import pytest
from tests.unit.server.models import Doubler
from tests.unit.server.test_http_connection import Wire, predict

from kedge.server.batching import Job
from kedge.server.http.observed import ObservedInference
from kedge.server.observing import Observer
from kedge.server.server import ModelServer


class Span:
    """Remembers how it ended."""

    request_id = "r"
    traceparent = ""

    def __init__(self) -> None:
        self.ends: list[tuple[int, str]] = []

    def current(self) -> Any:
        return nullcontext()

    def end(self, code: int, error: str, job: Job | None) -> None:
        self.ends.append((code, error))


class Quiet:
    """A tracing that hands out one span."""

    def __init__(self) -> None:
        self.span = Span()

    def begin(self, *arguments: Any, **more: Any) -> Span:
        return self.span


@pytest.fixture
def tracing() -> Quiet:
    return Quiet()


@pytest.fixture
async def wire(tracing: Quiet) -> Wire:
    server = ModelServer(latency_log=False)
    server._shared.tick(0.0, b"now")
    entry = await server.repository.start(Doubler("fast"))
    assert entry.queue is not None
    entry.pace.inline = False
    observer = Observer(None, cast(Any, tracing))
    server._shared.inference = ObservedInference(
        server._shared.inference, server.dataplane, server._limits, observer
    )
    return Wire(server)


async def test_a_client_that_leaves(wire: Wire, tracing: Quiet) -> None:
    assert wire.send(predict("fast")) == b""
    wire.connection.connection_lost(None)
    assert tracing.span.ends == [(499, "The client did not wait.")]
    await asyncio.sleep(0)


async def test_a_client_that_stays(wire: Wire, tracing: Quiet) -> None:
    wire.send(predict("fast"))
    for _ in range(10_000):
        if tracing.span.ends:
            break
        await asyncio.sleep(0.001)
    assert tracing.span.ends == [(200, "")]
    assert b"200 OK" in wire.transport.take()
