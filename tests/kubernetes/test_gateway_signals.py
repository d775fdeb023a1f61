"""What replicas of the gateway report to the autoscaler, and how they find it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from tests.kubernetes.gateways import (
    answers,
    ask_many,
    gateway,
    make_route,
    make_service,
    make_slice,
    pods,
)
from tests.kubernetes.world import HOME, World, until
from tests.ports import free_port

from kedge.autoscaler.leader import LEASE_NAME, make_identity, read_token
from kedge.autoscaler.signals_server import SignalsServer
from kedge.autoscaler.wire import Message, Report, Wake
from kedge.cluster.kubernetes import KubernetesCluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(240)]


class Heard:
    """An autoscaler that only listens."""

    def __init__(self) -> None:
        self.connections: set[str] = set()
        self.messages: list[Message] = []

    def connected(self, gateway: str) -> None:
        self.connections.add(gateway)

    def disconnected(self, gateway: str) -> None:
        self.connections.discard(gateway)

    def take(self, gateway: str, message: Message) -> None:
        self.messages.append(message)


@asynccontextmanager
async def leader(world: World, name: str) -> AsyncIterator[Heard]:
    """Leads, as far as the Lease tells, while the context lasts."""
    heard, port = Heard(), free_port()
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": LEASE_NAME, "namespace": HOME},
        "spec": {"holderIdentity": make_identity(name, f"127.0.0.1:{port}", "1")},
    }
    async with KubernetesCluster.from_kubeconfig(world.api.kubeconfig) as cluster:
        token = read_token(cluster, HOME)
        server = asyncio.ensure_future(SignalsServer(heard, f"127.0.0.1:{port}", token=token).run())
        await asyncio.to_thread(world.apply, lease)
        try:
            yield heard
        finally:
            server.cancel()
            await asyncio.gather(server, return_exceptions=True)


async def test_reports_and_wakes_go_to_whoever_leads(
    edge: World, edge_account: Path, space: str
) -> None:
    key, host = f"{space}/cold", f"{space}.example.com"
    with gateway(edge, "gw-one", edge_account) as one:
        edge.apply(
            make_service("cold", activation=True), make_route("cold", "cold", host),
            namespace=space,
        )  # fmt: skip
        await asyncio.to_thread(answers, edge, "cold", space)
        async with aiohttp.ClientSession() as session:
            async with leader(edge, "first") as first:
                await asyncio.to_thread(until, lambda: first.connections == {"gw-one"}, "a stream")
                asked = asyncio.create_task(ask_many(one, host, 3, session))
                await asyncio.to_thread(until, lambda: Wake(key) in first.messages, "a wake")
            async with leader(edge, "second") as second:

                def held() -> bool:
                    return any(
                        isinstance(said, Report) and said.revisions.get(key, (0, 0, 0))[2] == 3
                        for said in second.messages
                    )

                await asyncio.to_thread(until, held, "what is held, at the second")
                with pods() as (pod,):
                    edge.apply(make_slice("cold", pod.place), namespace=space)
                    assert [code for code, _ in await asked] == [200] * 3
        assert "Traceback" not in one.log
