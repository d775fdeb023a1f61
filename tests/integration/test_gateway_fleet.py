"""Replicas of the gateway over real streams, without a cluster."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from tests.integration.gateway_world import eventually
from tests.ports import free_port

from kedge.cluster.base import Cluster
from kedge.gateway.activator import Activator
from kedge.gateway.conditions import Condition
from kedge.gateway.fleet import Fleet
from kedge.gateway.ir import Endpoint, Endpoints, Hold
from kedge.gateway.members import Member, MemberWatch
from kedge.gateway.status import ANSWERING

CLUSTER, KEY = "default/few/80", ("default", "few")
GOOD = Condition(ANSWERING, True, "Answering", "A request sent now is answered.")


class Replica:
    def __init__(self, name: str, token: str = "secret") -> None:
        self.name, self.port = name, free_port()
        self.activator = Activator(max_held=100)
        self.activator.update(Endpoints(CLUSTER, (Endpoint("10.0.0.1", 80),), Hold(1, "", "few")))
        watch = MemberWatch(cast(Cluster, None), "kedge", "kedge-gateway-local", name)

        async def read() -> str:
            return token

        self.fleet = Fleet(watch, self.activator, f"127.0.0.1:{self.port}", token=read)
        self.members = watch.members
        self.task: asyncio.Task[None] | None = None

    def member(self) -> Member:
        return Member(self.name, "127.0.0.1", "IPv4", 1, self.port, ready=True)

    def start(self) -> None:
        self.task = asyncio.create_task(self.fleet.run())

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task

    def reason(self) -> str:
        return self.fleet.board.join(KEY, 1, GOOD).reason


@asynccontextmanager
async def replicas(*made: Replica) -> AsyncIterator[None]:
    everybody = tuple(one.member() for one in made)
    for one in made:
        one.members.take(everybody)
        one.start()
    try:
        yield
    finally:
        for one in made:
            await one.stop()


async def test_they_hear_each_other_and_share_slots() -> None:
    a, b = Replica("a"), Replica("b")
    told: list[Any] = []
    a.fleet.on_verdicts(told.append)
    async with replicas(a, b):
        assert a.reason() == "NotAcknowledged"
        b.fleet.board.publish(KEY, 1, GOOD)
        await eventually(lambda: a.reason() == "Answering")
        assert [KEY] in told
        asks = [(one, one.fleet.sharing.ask(CLUSTER)) for one in (a, b, a, b)]
        while asks:
            await eventually(lambda: any(ask.placed.done() for _, ask in asks))
            ((one, ask),) = [pair for pair in asks if pair[1].placed.done()]
            one.fleet.sharing.release(ask)
            asks.remove((one, ask))
        await b.stop()
        await eventually(lambda: a.reason() == "NotAcknowledged")


async def test_a_stranger_is_not_heard() -> None:
    a, b = Replica("a"), Replica("b", token="another")
    async with replicas(a, b):
        b.fleet.board.publish(KEY, 1, GOOD)
        await asyncio.sleep(0.5)
        assert a.reason() == "NotAcknowledged"
