"""One replica of the gateway on a real API server: routes, status, held requests, restarts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from tests.kubernetes.gateways import (
    GatewayProcess,
    answering,
    answers,
    ask_many,
    gateway,
    make_route,
    make_service,
    make_slice,
    pods,
)
from tests.kubernetes.world import World, until

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(240)]


@pytest.fixture
def one(edge: World, edge_account: Path) -> Iterator[GatewayProcess]:
    with gateway(edge, "gw-one", edge_account) as it:
        yield it


def test_a_route_is_answered_and_its_status_says_so(
    edge: World, one: GatewayProcess, space: str
) -> None:
    edge.apply(
        make_service("iris"), make_route("iris", "iris", f"{space}.example.com"), namespace=space
    )
    until(
        lambda: answering(edge, "iris", space).get("reason") == "NoReadyEndpoints", "the reason"
    )  # fmt: skip
    with pods() as (pod,):
        edge.apply(make_slice("iris", pod.place), namespace=space)
        answers(edge, "iris", space)
        host = f"{space}.example.com"
        code, body = one.ask(host)
        assert (code, json.loads(body)["pod"]) == (200, "pod-1")
        assert json.loads(body)["host"] == host
        assert one.page("/healthz") == (200, "ok\n")
        figures = one.page("/metrics")[1]
        assert "kedge_gateway_envoys 1\n" in figures
        # What Envoy restarted has is what it had.
        one.kill_envoy()
        until(lambda: not one.is_ready(), "unready without Envoy")
        one.start_envoy()
        until(one.is_ready, "ready again")
        # Its workers take in a moment later what it has acknowledged.
        until(lambda: one.ask(host)[0] == 200, "an answer", 1)


async def test_requests_wait_for_a_pod_whatever_dies_meanwhile(
    edge: World, one: GatewayProcess, space: str
) -> None:
    host = f"{space}.example.com"
    edge.apply(
        make_service("cold", activation=True), make_route("cold", "cold", host), namespace=space
    )
    answers(edge, "cold", space)
    async with aiohttp.ClientSession() as session:
        asked = asyncio.create_task(ask_many(one, host, 20, session))
        await asyncio.to_thread(
            until, lambda: "held_requests 20" in one.page("/metrics")[1], "held requests"
        )
        one.kill()
        edge.api.kill_api()
        edge.api.start_api()
        one.start()
        await asyncio.to_thread(until, one.is_ready, "ready again")
        with pods() as (pod,):
            edge.apply(make_slice("cold", pod.place), namespace=space)
            assert [code for code, _ in await asked] == [200] * 20
            # Warm, it needs nobody but Envoy.
            one.kill()
            assert one.ask(host)[0] == 200


def test_it_ends_in_order(edge: World, edge_account: Path) -> None:
    with gateway(edge, "gw-ends", edge_account) as it:
        assert it.end() == 0
        assert "Traceback" not in it.log
