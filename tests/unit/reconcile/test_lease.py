"""One at a time leads: take-over, hand-over, a holder that cannot renew, clocks that differ."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from kedge.api.scheme import LEASE, Kind
from kedge.cluster.base import Object
from kedge.cluster.errors import Unavailable
from kedge.cluster.local.admission import AdmitAll
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.store import Store
from kedge.reconcile.lease import Leadership
from kedge.testing.clock import FakeClock


class Flaky:
    """A cluster that cannot be reached while `down`."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self.down = False

    def __getattr__(self, name: str) -> Any:
        if self.down:
            raise Unavailable("the API server does not answer")
        return getattr(self._cluster, name)


@contextmanager
def stored() -> Iterator[LocalCluster]:
    store = Store(Path(":memory:"))
    try:
        yield LocalCluster(store, AdmitAll())
    finally:
        store.close()


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with stored() as one:
        yield one


@asynccontextmanager
async def candidate(cluster: Any, name: str, clock: FakeClock) -> AsyncIterator[Leadership]:
    async def work() -> None:
        await asyncio.Event().wait()

    leadership = Leadership(cluster, "kedge-controller", "kedge", name, clock=clock)
    task = asyncio.create_task(leadership.run(work))
    await clock.settle()
    try:
        yield leadership
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def spec(cluster: LocalCluster, kind: Kind = LEASE) -> Object:
    return dict((await cluster.get(kind, "kedge-controller", "kedge"))["spec"])


async def test_one_leads_and_the_other_waits(cluster: LocalCluster) -> None:
    clock = FakeClock()
    async with candidate(cluster, "a", clock) as a, candidate(cluster, "b", clock) as b:
        for _ in range(30):
            await clock.advance(2.0)
        assert (a.leading, b.leading) == (True, False)
        assert (await spec(cluster))["holderIdentity"] == "a"
        assert (await spec(cluster))["leaseTransitions"] == 0


async def test_who_ends_in_order_hands_over_at_once(cluster: LocalCluster) -> None:
    clock = FakeClock()
    async with candidate(cluster, "b", clock) as b:
        assert b.leading
    async with candidate(cluster, "c", clock) as c:
        assert c.leading
        assert (await spec(cluster))["leaseTransitions"] == 1


async def test_a_dead_holder_is_followed_when_its_lease_has_lapsed(cluster: LocalCluster) -> None:
    clock = FakeClock()
    reached = Flaky(cluster)
    async with candidate(reached, "a", clock) as a, candidate(cluster, "b", clock) as b:
        reached.down = True
        await clock.advance(2.0)
        assert a.leading, "one failed renewal is no loss"
        taken = None
        for second in range(30):
            await clock.advance(1.0)
            assert not (a.leading and b.leading)
            if b.leading and taken is None:
                taken = second
        assert taken is not None
        assert not a.leading
        assert (await spec(cluster))["holderIdentity"] == "b"


async def test_wall_clocks_may_differ(cluster: LocalCluster) -> None:
    clock = FakeClock()
    async with candidate(cluster, "a", clock) as a:
        lease = await cluster.get(LEASE, "kedge-controller", "kedge")
        past = {**lease["spec"], "renewTime": "2001-01-01T00:00:00.000000Z"}
        await cluster.replace(LEASE, {**lease, "spec": past})
        async with candidate(cluster, "b", clock) as b:
            await clock.advance(2.0)
            assert (a.leading, b.leading) == (True, False)
