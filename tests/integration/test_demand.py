"""What Envoy's statistics say of a known load."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.gateway_world import GatewayWorld, eventually, gateway_world, now, rule

from kedge.gateway import demand, listeners
from kedge.gateway.traffic import Traffic
from kedge.settings.gateway import LATENCY_BUCKETS

HOST = "iris-default.localhost"
PROGRAM = Path(__file__).with_name("load_process.py")
SECONDS = float(os.environ.get("KEDGE_DEMAND_SECONDS", "6"))
PACE = float(os.environ.get("KEDGE_DEMAND_PACE", "0.02"))
"""Seconds between samples. As shipped (0.1) it takes a minute until chance is below 10 %."""
ROUNDS = 5
"""At most, until chance is below 10 %."""
RATE = 500
"""Requests a second, of 2 ms each."""


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GatewayWorld]:
    monkeypatch.setattr(demand, "SAMPLE_SECONDS", PACE)
    took = "took=%COMMON_DURATION(US_TX_BEG:US_RX_END:us)%\n"
    monkeypatch.setattr(listeners, "_LOG_LINE", took)
    async with gateway_world(tmp_path) as world:
        yield world


async def test_the_average_is_that_of_a_known_load(world: GatewayWorld) -> None:
    """Requests come at their own pace, however many are out. What is known is what Envoy itself
    says that each took, in microseconds: on a busy machine that is more than the server's 2 ms.

    There the samples scatter, too, as requests come in crowds: a few hundred of them are off by
    10 % now and then. What is off by more whatever the number of samples is wrong.
    """
    await world.service("iris", activation=True)
    await world.route("iris", rule("iris"), hostnames=(HOST,))
    backend = await world.backend("unused", "127.0.0.3")
    sampled = known = 0.0
    for _ in range(ROUNDS):
        load = await asyncio.create_subprocess_exec(
            sys.executable, str(PROGRAM), str(world.settings.port), HOST, str(RATE), str(SECONDS),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert load.stdout is not None and load.stdin is not None
        backend.address, backend.port = "127.0.0.2", int(await load.stdout.readline())
        await world.endpoints("iris", backend)
        await world.answering("iris")
        await eventually(lambda: not world.gateway.demand.blind)
        world.gateway.demand.sample()
        began = now()
        load.stdin.write(b"go\n")
        answered = int(await load.stdout.readline())
        await asyncio.sleep(0.6)
        elapsed = now() - began
        await load.wait()
        [(key, asked)] = world.gateway.demand.sample().items()
        assert key == "default/iris"
        assert asked.requests == answered > SECONDS * RATE / 2
        took = await read_times(world.directory / "access.log", answered)
        assert took / answered >= 0.002
        sampled, known = sampled + asked.in_flight * elapsed, known + took
        print(f"{asked} against {took / elapsed:.3f}; {took / answered * 1e3:.2f} ms a request")
        if sampled == pytest.approx(known, rel=0.1):
            return
    assert sampled == pytest.approx(known, rel=0.1)


async def read_times(log: Path, count: int) -> float:
    """Seconds that all of so many requests took; the log begins anew."""
    await eventually(lambda: log.read_text().count("took=") == count)
    took = sum(map(int, re.findall(r"took=(\d+)", log.read_text()))) / 1e6
    os.truncate(log, 0)
    return took


async def test_traffic_for_people(world: GatewayWorld) -> None:
    await world.service("iris", activation=True)
    await world.route("iris", rule("iris", timeouts={"request": "200ms"}), hostnames=(HOST,))
    await world.answering("iris")
    assert await world.gateway.traffic.read() == {}
    assert (await world.get("/", HOST))[0] == 504
    await world.endpoints("iris", await world.backend("a"))
    for _ in range(5):
        assert (await world.get("/", HOST))[0] == 200
    found = Traffic()

    async def complete() -> bool:
        for new in (await world.gateway.traffic.read()).values():
            nonlocal found
            latency = tuple(a + b for a, b in zip(found.latency, new.latency, strict=True))
            found = Traffic(found.ok + new.ok, 0, found.failed + new.failed, latency)
        return sum(found.latency) >= 5

    await eventually(complete)
    assert (found.ok, found.failed) == (5, 1)
    assert sum(found.latency[: LATENCY_BUCKETS.index(1000)]) >= 5
