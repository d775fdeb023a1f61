"""From what gateways count to what people and Prometheus read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.unit.cluster_local.asking import Asker

from kedge.api.scheme import DEPLOYMENT, SERVICE
from kedge.cluster.local.admission import AdmitAll
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.store import Store
from kedge.settings.gateway import LATENCY_BUCKETS
from kedge.telemetry.history import History
from kedge.telemetry.http import make_app
from kedge.telemetry.telemetry import Telemetry
from kedge.testing.clock import FakeClock

KEY = "default/iris-predictor-00001-private"
LABELS = {"serving.kserve.io/inferenceservice": "iris", "component": "predictor"}
QUICK = tuple(int(bound == 5) for bound in LATENCY_BUCKETS)
SCALED: dict[str, Any] = {
    "namespace": "default", "service": "iris", "component": "predictor",
    "deployment": "iris-predictor-00001", "desired": 3, "replicas": 3, "ready": 2,
    "panicking": True, "metric": "concurrency", "stable": 2.5, "panic": 4.0, "target": 7.0,
    "held": 1.0,
}  # fmt: skip


class World:
    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock(rounds=60)
        self.store = Store(":memory:")
        self.cluster = LocalCluster(self.store, AdmitAll(), clock=self.clock)
        self.history = History(folder / "telemetry.db")
        self.telemetry = Telemetry(self.cluster, self.history, clock=self.clock)
        self.http = Asker(make_app(self.telemetry, lambda: [SCALED]))

    async def top(self, seconds: float = 60, **query: str) -> Any:
        asked = "&".join(f"{key}={value}" for key, value in query.items())
        return (await self.http.get(f"/top?seconds={seconds:g}&{asked}")).json["items"]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    service = {"metadata": {"name": KEY.partition("/")[2], "namespace": "default",
               "labels": LABELS}, "spec": {"ports": [{"port": 80}]}}  # fmt: skip
    await world.cluster.create(SERVICE, service)
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c",
                "image": "i"}]}}  # fmt: skip
    deployment = {
        "metadata": {"name": "iris-predictor-00001", "namespace": "default", "labels": LABELS},
        "spec": {"replicas": 3, "selector": {"matchLabels": LABELS}, "template": template},
    }
    made = await world.cluster.create(DEPLOYMENT, deployment)
    status = {"readyReplicas": 2, "replicas": 3}
    await world.cluster.replace_status(DEPLOYMENT, {**made, "status": status})
    task = asyncio.create_task(world.telemetry.run())
    await world.clock.settle()
    yield world
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    world.history.close()
    world.store.close()


async def test_the_last_minute(world: World) -> None:
    world.telemetry.take(10, {KEY: (4, 1, 1, QUICK)})
    world.telemetry.take(10, {KEY: (54, 0, 0, QUICK), "default/unknown": (9, 9, 9, ())})
    (iris,) = await world.top()
    assert (iris["requests"], iris["refused"], iris["failed"]) == (60, 1, 1)
    assert (iris["service"], iris["component"]) == ("iris", "predictor")
    assert (iris["requestsPerSecond"], iris["p50"]) == (1.0, 4.0)
    assert (iris["desired"], iris["ready"]) == (3, 2)
    await world.clock.advance(61)
    (iris,) = await world.top()
    assert (iris["requests"], iris["p99"]) == (0, None)


async def test_minutes_that_are_over_come_from_the_file(world: World) -> None:
    world.telemetry.take(10, {KEY: (4, 1, 1, QUICK)})
    await world.telemetry.close_minute()
    await world.clock.advance(600)
    world.telemetry.take(10, {KEY: (6, 0, 0, QUICK)})
    assert (await world.top(3600))[0]["requests"] == 12
    assert (await world.top(300))[0]["requests"] == 6
    assert await world.top(3600, namespace="elsewhere") == []
    assert (await world.top(3600, service="iris"))[0]["requests"] == 12
    assert (await world.http.get("/top?seconds=0")).status == 400
    assert (await world.http.get("/top?seconds=100000")).status == 400
    assert (await world.http.get("/nothing")).status == 404
    assert (await world.http.ask("POST", "/top")).status == 405


async def test_prometheus_reads_it(world: World) -> None:
    world.telemetry.take(10, {KEY: (4, 1, 1, QUICK)})
    answer = await world.http.get("/metrics")
    assert answer.header("content-type").startswith("text/plain; version=0.0.4")
    families = {one.name: one for one in text_string_to_metric_families(answer.body.decode())}
    labels = {
        "namespace": "default", "service": "iris", "component": "predictor",
        "revision": "iris-predictor-00001",
    }  # fmt: skip
    requests = {one.labels["code_class"]: one for one in families["kedge_requests"].samples}
    assert {code: one.value for code, one in requests.items()} == {"2xx": 4, "4xx": 1, "5xx": 1}
    assert requests["2xx"].labels == {**labels, "code_class": "2xx"}
    durations = families["kedge_request_duration_seconds"].samples
    buckets = {one.labels["le"]: one.value for one in durations if one.name.endswith("_bucket")}
    assert (buckets["0.003"], buckets["0.005"], buckets["+Inf"]) == (0, 1, 1)
    assert families["kedge_replicas_desired"].samples[0].value == 3
    assert families["kedge_replicas_ready"].samples[0].value == 2
    for name, value in (
        ("kn_revision_pods_desired", 3),
        ("kn_revision_pods_count", 2),
        ("kn_revision_panic_mode", 1),
        ("kn_revision_concurrency_stable", 2.5),
        ("kn_revision_concurrency_target", 7),
        ("kedge_requests_held", 1),
    ):
        (sample,) = families[name].samples
        assert (sample.value, sample.labels) == (value, labels)
    assert families["kn_revision_rps_stable"].samples == []


async def test_what_is_gone_is_forgotten(world: World) -> None:
    world.telemetry.take(10, {KEY: (4, 1, 1, QUICK)})
    await world.cluster.delete(SERVICE, KEY.partition("/")[2], "default")
    await world.clock.settle()
    await world.telemetry.close_minute()
    assert world.telemetry.totals == {}


async def test_a_minute_that_cannot_be_kept_is_lost_and_nothing_else(world: World) -> None:
    world.history.close()
    world.telemetry.take(10, {KEY: (4, 1, 1, QUICK)})
    await world.telemetry.close_minute()
    assert (await world.top())[0]["requests"] == 6
