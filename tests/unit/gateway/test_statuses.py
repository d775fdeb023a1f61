"""When statuses are looked after, and what is logged."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kedge.api.scheme import GATEWAY, GATEWAY_CLASS
from kedge.cluster.base import Object
from kedge.cluster.errors import Forbidden
from kedge.cluster.local.admission import AdmitAll
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.store import Store
from kedge.gateway.served import ServedGateway
from kedge.gateway.statuses import GATHER_SECONDS, LOOK_SECONDS, keep_looking, keep_statuses
from kedge.reconcile.informer import Informer
from kedge.settings.gateway import GatewaySettings
from kedge.testing.clock import FakeClock


def make_gateway() -> Object:
    listener = {"name": "http", "port": 80, "protocol": "HTTP"}
    return {
        "apiVersion": GATEWAY.api_version,
        "kind": GATEWAY.kind,
        "metadata": {"name": "kedge-gateway", "namespace": "kedge"},
        "spec": {"gatewayClassName": "kedge", "listeners": [listener]},
    }


def make_class() -> Object:
    return {
        "apiVersion": GATEWAY_CLASS.api_version,
        "kind": GATEWAY_CLASS.kind,
        "metadata": {"name": "kedge"},
        "spec": {"controllerName": "kedge.dev/gateway"},
    }


@pytest.mark.parametrize(
    ("served_namespace", "writes", "written"),
    [("", True, (True, True)), ("models", True, (True, False)), ("", False, (False, False))],
)
async def test_who_serves_one_namespace_leaves_the_class_alone(
    served_namespace: str, writes: bool, written: tuple[bool, bool]
) -> None:
    cluster = LocalCluster(Store(":memory:"), AdmitAll())
    await cluster.create(GATEWAY, make_gateway())
    await cluster.create(GATEWAY_CLASS, make_class())
    settings = GatewaySettings(
        xds_socket=Path("/x"), admin_socket=Path("/a"), served_namespace=served_namespace
    )
    clock = FakeClock()
    served = ServedGateway(cluster, settings, clock)
    for informer in served.informers:
        await informer._relist()
    keeping = asyncio.create_task(
        keep_statuses(cluster, settings, served, lambda: (), lambda: writes, clock)
    )
    await clock.advance(2 * (LOOK_SECONDS + GATHER_SECONDS))
    keeping.cancel()
    gateway = await cluster.get(GATEWAY, "kedge-gateway", "kedge")
    found = await cluster.get(GATEWAY_CLASS, "kedge")
    assert (bool(gateway.get("status")), bool(found.get("status"))) == written


async def test_what_keeps_it_from_being_written_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = 0

    async def look() -> None:
        nonlocal asked
        asked += 1
        raise Forbidden("no right to update gateways/status")

    caplog.set_level("INFO")
    clock = FakeClock()
    looking = asyncio.create_task(keep_looking("Gateway", look, lambda: asked < 3, (), clock))
    await clock.advance(5 * (LOOK_SECONDS + GATHER_SECONDS))
    looking.cancel()
    assert asked == 3
    assert [one.message for one in caplog.records] == [
        "status of the Gateway: no right to update gateways/status"
    ]


async def test_a_change_is_looked_after_soon() -> None:
    cluster = LocalCluster(Store(":memory:"), AdmitAll())
    gateways = Informer(cluster, GATEWAY)
    asked: list[float] = []
    clock = FakeClock()

    async def look() -> None:
        asked.append(clock.monotonic())

    looking = asyncio.create_task(keep_looking("Gateway", look, lambda: True, [gateways], clock))
    await clock.advance(1)
    await cluster.create(GATEWAY, make_gateway())
    await gateways._relist()
    await clock.advance(LOOK_SECONDS - 1)
    looking.cancel()
    assert asked == [0, 1 + GATHER_SECONDS]
