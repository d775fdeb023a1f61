"""The activator's process is killed while requests wait and run."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.gateway_world import GatewayWorld, eventually, rule

from kedge.cluster.local.http import Facade, Listeners
from kedge.cluster.local.tls import ensure_certificate

HOST = "iris-default.localhost"
PROGRAM = Path(__file__).with_name("gateway_process.py")


class KilledWorld(GatewayWorld):
    """As its parent, with the gateway in a process of its own, behind the API."""

    def start_gateway(self) -> None:
        """Nothing: `spawn` does."""

    async def start(self) -> None:
        certificate = ensure_certificate(self.directory / "tls")
        self._api = Listeners(
            Facade(self.cluster, token="x"), host="127.0.0.1", port=0,
            certificate=certificate, unix_socket=self.sockets / "api.sock",
        )  # fmt: skip
        self._serving = asyncio.create_task(self._api.run())
        await self._api.ready.wait()
        # Its own gateway is not run: the other process tells when it is ready.
        self.gateway.ready.set()
        await super().start()
        await self.spawn()

    async def close(self) -> None:
        await self.kill()
        self._serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._serving
        await super().close()

    async def spawn(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, str(PROGRAM), str(self.sockets / "api.sock"),
            json.dumps(dataclasses.asdict(self.settings), default=str),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert await self._process.stdout.readline() == b"ready\n"

    async def kill(self) -> None:
        """kill -9."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def in_flight(self) -> int:
        """Requests in Envoy that are for the service, by Envoy's own count."""
        async with self.session.get(f"http://127.0.0.1:{self.settings.metrics_port}/metrics") as r:
            found = [
                float(line.rpartition(" ")[2])
                for line in (await r.text()).splitlines()
                if line.startswith("envoy_cluster_upstream_rq_active{")
                and 'envoy_cluster_name="default/iris/80"' in line
            ]
        return int(sum(found))

    async def arrived(self, count: int) -> None:
        async def have() -> bool:
            return await self.in_flight() == count

        await eventually(have)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[KilledWorld]:
    world = KilledWorld(tmp_path)
    try:
        await world.start()
        yield world
    finally:
        await world.close()


async def at_zero(world: GatewayWorld, concurrency: int = 0) -> None:
    await world.service("iris", activation=True, concurrency=concurrency)
    await world.route("iris", rule("iris"), hostnames=(HOST,))
    await world.answering("iris")


def ask(world: GatewayWorld, count: int) -> list[asyncio.Task[tuple[int, Any]]]:
    return [asyncio.create_task(world.get("/", HOST)) for _ in range(count)]


async def test_what_waits_survives_a_kill(world: KilledWorld) -> None:
    await at_zero(world)
    asked = ask(world, 200)
    await world.arrived(200)
    for _ in range(2):
        await world.kill()
        await asyncio.sleep(0.3)
        assert not any(one.done() for one in asked)
        await world.spawn()
    await world.kill()
    # A pod comes while nobody is there to say so.
    await world.endpoints("iris", await world.backend("a"))
    await world.spawn()
    assert [status for status, _ in await asyncio.gather(*asked)] == [200] * 200


async def test_what_runs_survives_a_kill_and_keeps_its_slot(world: KilledWorld) -> None:
    await at_zero(world, concurrency=1)
    pods = [await world.backend(name, f"127.0.0.{name}") for name in "23"]
    for pod in pods:
        pod.delay = 4.0
    await world.endpoints("iris", *pods)
    asked = ask(world, 20)
    await world.arrived(20)
    await eventually(lambda: sum(pod.active for pod in pods) == 2)
    await world.kill()
    for pod in pods:
        pod.delay = 0.02
    await world.spawn()
    # The two that run end in their own time; until then no other is sent to their pods.
    assert [status for status, _ in await asyncio.gather(*asked)] == [200] * 20
    assert [pod.most for pod in pods] == [1, 1]
    assert sum(pod.requests for pod in pods) == 20
