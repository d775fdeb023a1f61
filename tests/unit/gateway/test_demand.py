"""What is read of Envoy's statistics."""

from __future__ import annotations

import asyncio
from typing import cast

from kedge.gateway.activator import Activator
from kedge.gateway.admin import AdminError, EnvoyAdmin
from kedge.gateway.demand import Asked, Demand
from kedge.gateway.inherited import parse_hosts
from kedge.gateway.ir import Endpoints, Hold
from kedge.gateway.traffic import Traffic, TrafficReader
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.settings.gateway import LATENCY_BUCKETS
from kedge.testing.clock import FakeClock


class Admin:
    """An Envoy that answers what it is told to; None for not at all."""

    def __init__(self) -> None:
        self.gauges: dict[str, int] | None = {}
        self.totals: dict[str, int] = {}
        self.text = ""
        self.reads = 0

    async def get(self, path: str) -> bytes:
        self.reads += 1
        if self.gauges is None:
            raise AdminError("It is gone.")
        if "Gauges" in path:
            return _lines(self.gauges)
        if "Counters" in path:
            return _lines(self.totals)
        return self.text.encode()


def _lines(values: dict[str, int]) -> bytes:
    return "".join(f"cluster.{key}: {value}\n" for key, value in values.items()).encode()


def make_demand(clock: Clock = SYSTEM_CLOCK) -> tuple[Admin, Activator, Demand]:
    admin, activator = Admin(), Activator(max_held=10)
    return admin, activator, Demand(cast(EnvoyAdmin, admin), activator, clock)


async def test_requests_in_flight_are_averaged_over_the_samples() -> None:
    admin, _, demand = make_demand()
    for active, pending in ((1, 0), (3, 2), (0, 0), (2, 0)):
        admin.gauges = {
            "default/iris/80.upstream_rq_active": active,
            "default/iris/8081.upstream_rq_pending_active": pending,
            "kedge/activator.upstream_rq_active": 7,
            "kedge-xds.upstream_rq_active": 1,
        }
        await demand.look(count=False)
    assert demand.sample() == {"default/iris": Asked(2.0, 0, 0)}
    assert demand.sample() == {}


async def test_a_sample_stands_for_those_that_were_not_taken() -> None:
    admin, _, demand = make_demand()
    for samples, active in ((3, 0), (1, 8)):
        admin.gauges = {"default/iris/80.upstream_rq_active": active}
        await demand.look(count=False, stands_for=samples)
    assert demand.sample() == {"default/iris": Asked(2.0, 0, 0)}


async def test_envoy_is_seldom_read_while_nobody_asks() -> None:
    clock = FakeClock()
    admin, activator, demand = make_demand(clock)
    task = asyncio.create_task(demand.run())

    async def reads_in(seconds: float) -> int:
        before = admin.reads
        await clock.advance(seconds)
        return admin.reads - before

    await clock.advance(5)
    calm = await reads_in(10)
    assert calm == 40, "gauges and counters twice a second"
    admin.gauges = {"default/iris/80.upstream_rq_active": 1}
    assert await reads_in(10) > 100
    admin.gauges = {}
    await clock.advance(5)
    assert await reads_in(10) == calm
    activator.update(Endpoints("default/iris/80", (), Hold()))
    activator.ask("default/iris/80")
    assert await reads_in(1) >= 10
    task.cancel()


async def test_requests_are_counted_over_restarts_of_envoy() -> None:
    admin, _, demand = make_demand()
    total = "default/iris/80.upstream_rq_total"
    for value, expected in ((1000, 0), (1010, 10), (1010, 0), (4, 4)):
        admin.totals = {total: value}
        await demand.look(count=True)
        assert demand.sample().get("default/iris", Asked(0, 0, 0)).requests == expected
    # A service that is new counts from its first request.
    admin.totals = {total: 4, "default/new/80.upstream_rq_total": 3}
    await demand.look(count=True)
    assert demand.sample() == {"default/new": Asked(0.0, 3, 0)}


async def test_without_envoy_it_is_blind() -> None:
    admin, _, demand = make_demand()
    assert demand.blind
    await demand.look(count=True)
    assert not demand.blind
    admin.gauges = None
    await demand.look(count=True)
    assert demand.blind


async def test_what_waits_is_told() -> None:
    _, activator, demand = make_demand()
    woken: list[str] = []
    demand.on_wake(woken.append)
    activator.update(Endpoints("default/iris/80", (), Hold()))
    activator.ask("default/iris/80")
    assert woken == ["default/iris"]
    assert demand.sample() == {"default/iris": Asked(0.0, 0, 1)}


def _times(*counts: int) -> str:
    padded = [*counts, *([0] * (len(LATENCY_BUCKETS) - len(counts)))]
    return " ".join(
        f"B{bound:g}({n},{n})" for bound, n in zip(LATENCY_BUCKETS, padded, strict=True)
    )


async def test_traffic_is_what_is_new() -> None:
    admin = Admin()
    reader = TrafficReader(cast(EnvoyAdmin, admin))
    head = "cluster.default/iris/80.upstream_rq_"
    admin.text = f"{head}2xx: 5\n{head}time: {_times(5)}\n"
    assert await reader.read() == {}
    admin.text = (
        f"{head}2xx: 7\n{head}5xx: 1\n{head}time: {_times(6, 2)}\n"
        "cluster.default/iris/8081.upstream_rq_2xx: 3\ncluster.kedge-xds.upstream_rq_2xx: 9\n"
    )
    found = await reader.read()
    expected = Traffic(ok=5, failed=1, latency=(1, 2, *([0] * (len(LATENCY_BUCKETS) - 2))))
    assert found == {"default/iris": expected}
    assert found["default/iris"].requests == 6
    assert await reader.read() == {}
    # Another Envoy counts from nothing.
    admin.text = f"{head}2xx: 2\n"
    assert (await reader.read())["default/iris"].ok == 2


def test_hosts_of_the_lanes() -> None:
    text = b"""{"cluster_statuses": [
      {"name": "kedge/pods-1", "host_statuses": [
        {"address": {"socket_address": {"address": "127.0.0.2", "port_value": 8080}},
         "stats": [{"name": "rq_active", "value": "2", "type": "GAUGE"},
                   {"name": "rq_pending_active", "value": "1", "type": "GAUGE"}]},
        {"address": {"socket_address": {"address": "127.0.0.2", "port_value": 8081}},
         "stats": [{"name": "rq_active", "value": "1", "type": "GAUGE"}]},
        {"address": {"socket_address": {"address": "127.0.0.3", "port_value": 8081}},
         "stats": [{"name": "rq_active", "type": "GAUGE"}]}]},
      {"name": "kedge/pods-2"}, {"name": "default/iris/80"}]}"""
    lanes = parse_hosts(text)
    assert {name: dict(hosts) for name, hosts in lanes.items() if hosts} == {
        "kedge/pods-1": {"127.0.0.2": 4}
    }
