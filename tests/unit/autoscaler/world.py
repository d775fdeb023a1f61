"""An autoscaler over a local cluster whose pods start by themselves, and a gateway to speak for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from kedge.api.scheme import CONFIG_MAP, DEPLOYMENT, NAMESPACE
from kedge.autoscaler.autoscaler import Autoscaler
from kedge.autoscaler.target import Target
from kedge.autoscaler.wire import Report, Wake
from kedge.cluster.base import Object
from kedge.cluster.local.admission import AdmitAll
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.store import Store
from kedge.reconcile import Key
from kedge.testing.clock import FakeClock

ANNOTATION = "autoscaling.knative.dev/"


class World:
    """Attributes:
    start_seconds: how long a pod takes to get ready; None: it never does.
    loads: what every second's report says, by key: in flight, requests a second.
    """

    def __init__(self, config: dict[str, str] | None = None) -> None:
        self.clock = FakeClock(rounds=60)
        self.store = Store(":memory:")
        self.cluster = LocalCluster(self.store, AdmitAll(), clock=self.clock)
        self.config = config
        self.autoscaler = Autoscaler(self.cluster, clock=self.clock)
        self.start_seconds: float | None = 0.5
        self.loads: dict[str, tuple[float, float]] = {}
        self.history: list[tuple[float, int]] = []
        self._starting: dict[str, tuple[int, float]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._gateway: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.cluster.create(NAMESPACE, {"metadata": {"name": "ns"}})
        if self.config is not None:
            config = {"metadata": {"name": "config-autoscaler", "namespace": "kedge"}}
            await self.cluster.create(CONFIG_MAP, {**config, "data": self.config})
        self._tasks = [asyncio.create_task(self.autoscaler.run())]
        await self.clock.settle()

    async def restart(self) -> None:
        """Another autoscaler takes over."""
        self.close_gateway()
        await self._stop(self._tasks)
        self.autoscaler = Autoscaler(self.cluster, clock=self.clock)
        self._tasks = [asyncio.create_task(self.autoscaler.run())]
        await self.clock.settle()

    async def stop(self) -> None:
        self.close_gateway()
        await self._stop(self._tasks)
        self.store.close()

    async def _stop(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def open_gateway(self, name: str = "local") -> None:
        self.autoscaler.connected(name)

        async def report() -> None:
            while True:
                await self.clock.sleep(1)
                self.report(name)

        self._gateway = asyncio.create_task(report())

    def close_gateway(self, name: str = "local") -> None:
        if self._gateway is not None:
            self._gateway.cancel()
            self._gateway = None
            self.autoscaler.disconnected(name)

    def report(self, name: str = "local", seconds: float = 1.0) -> None:
        signals = {key: (load, rate, 0.0) for key, (load, rate) in self.loads.items()}
        self.autoscaler.take(name, Report(seconds, signals))

    def wake(self, key: str, held: float = 1.0, name: str = "local") -> None:
        self.autoscaler.take(name, Wake(key, held))

    async def create(
        self,
        name: str = "web",
        replicas: int = 1,
        *,
        proven: bool = True,
        resources: dict[str, Any] | None = None,
        **annotations: Any,
    ) -> None:
        labels = {"app": name}
        given = {
            ANNOTATION + key.replace("_", "-"): str(value) for key, value in annotations.items()
        }
        given["serving.kedge.dev/service"] = f"{name}-private"
        if proven:
            given["serving.kedge.dev/proven"] = "true"
        container = {"name": "main", "image": "i", "resources": resources or {}}
        deployment = {
            "metadata": {
                "name": name,
                "namespace": "ns",
                "labels": {"serving.kedge.dev/autoscaled": "true"},
                "annotations": given,
            },
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [container]},
                },
            },
        }
        await self.cluster.create(DEPLOYMENT, deployment)
        await self.clock.settle()

    async def annotate(self, name: str = "web", **annotations: Any) -> None:
        patch = {"metadata": {"annotations": annotations}}
        await self.cluster.patch(DEPLOYMENT, name, patch, namespace="ns")
        await self.clock.settle()

    async def deployment(self, name: str = "web") -> Object:
        return await self.cluster.get(DEPLOYMENT, name, "ns")

    async def replicas(self, name: str = "web") -> int:
        return int((await self.deployment(name))["spec"]["replicas"])

    async def set_ready(self, count: int, name: str = "web") -> None:
        found = await self.deployment(name)
        status = {"replicas": count, "readyReplicas": count}
        await self.cluster.replace_status(DEPLOYMENT, {**found, "status": status})
        await self.clock.settle()

    def target(self, name: str = "web") -> Target:
        found = self.autoscaler.find(Key("ns", name))
        assert found is not None
        return found

    async def run(self, seconds: float, name: str = "web", step: float = 0.5) -> int:
        """Let time pass, pods following what is asked; the replicas then."""
        for _ in range(round(seconds / step)):
            await self.clock.advance(step)
            await self._follow(name)
        return await self.replicas(name)

    async def _follow(self, name: str) -> None:
        wanted = await self.replicas(name)
        if not self.history or self.history[-1][1] != wanted:
            self.history.append((self.clock.monotonic(), wanted))
        ready = int(((await self.deployment(name)).get("status") or {}).get("readyReplicas", 0))
        if wanted <= ready:
            self._starting.pop(name, None)
            if wanted < ready:
                await self.set_ready(wanted, name)
            return
        if self.start_seconds is None:
            return
        count, since = self._starting.get(name, (wanted, self.clock.monotonic()))
        self._starting[name] = (wanted, since)
        if self.clock.monotonic() - since >= self.start_seconds:
            del self._starting[name]
            await self.set_ready(count, name)


@asynccontextmanager
async def a_world(config: dict[str, str] | None = None) -> AsyncIterator[World]:
    world = World(config)
    await world.start()
    try:
        yield world
    finally:
        await world.stop()
