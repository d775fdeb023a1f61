"""When probes are asked, and when their answers count."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from kedge.cluster.local.node.health import Health, Verdict
from kedge.cluster.local.node.host import Host
from kedge.cluster.local.node.notices import Notice
from kedge.cluster.local.node.sandbox import ExecResult
from kedge.cluster.local.node.status import ContainerState
from kedge.testing.clock import FakeClock

PROBE = {"exec": {"command": ["x"]}}


class Run:
    """One run whose commands answer what the test says."""

    def __init__(self, **probes: Any) -> None:
        self.clock = FakeClock()
        self.good = False
        self.asked: list[float] = []
        self.told: list[str] = []
        self.released = 0
        self.state = ContainerState({"name": "c", **probes})
        host = SimpleNamespace(clock=self.clock, starting=0, bind_library=None)
        self.notice = Notice()
        self.health = Health(
            cast(Host, host), self.state, "127.1.1.1", self._run, lambda: None, self._tell,
            asyncio.Event(), self._release, self.notice,
        )  # fmt: skip
        self.watch: asyncio.Task[Verdict] = asyncio.create_task(self.health.watch(0))

    def _release(self) -> None:
        self.released += 1

    async def _run(self, command: list[str], timeout: float) -> ExecResult:
        self.asked.append(self.clock.monotonic())
        return ExecResult(0 if self.good else 1, "no", False)

    async def _tell(self, type: str, reason: str, message: str) -> None:
        self.told.append(f"{self.clock.monotonic():g}: {message}")

    async def end(self) -> None:
        self.watch.cancel()
        await asyncio.gather(self.watch, return_exceptions=True)


async def test_readiness_is_found_at_once_and_then_kept_at_its_pace() -> None:
    run = Run(readinessProbe={**PROBE, "initialDelaySeconds": 5, "periodSeconds": 10})
    await run.clock.advance(1)
    assert not run.state.ready
    assert len(run.asked) > 4
    run.good = True
    await run.clock.advance(0.5)
    assert run.state.ready
    assert run.released == 1
    asked = len(run.asked)
    await run.clock.advance(30)
    assert len(run.asked) == asked + 3
    await run.end()


async def test_readiness_is_lost_after_the_threshold() -> None:
    run = Run(readinessProbe={**PROBE, "periodSeconds": 10, "failureThreshold": 2})
    run.good = True
    await run.clock.advance(0.1)
    run.good = False
    await run.clock.advance(10)
    assert run.state.ready
    await run.clock.advance(10)
    assert not run.state.ready
    run.good = True
    await run.clock.advance(1)
    assert run.state.ready
    await run.end()


async def test_nothing_is_told_before_kubernetes_would() -> None:
    run = Run(readinessProbe={**PROBE, "initialDelaySeconds": 5, "periodSeconds": 10})
    await run.clock.advance(34)
    assert run.told == []
    await run.clock.advance(3)
    assert run.told[0].endswith("c: readiness probe failed: no")
    await run.end()


async def test_liveness_counts_after_its_delay() -> None:
    probe = {**PROBE, "initialDelaySeconds": 3, "periodSeconds": 2, "failureThreshold": 2}
    run = Run(livenessProbe=probe)
    await run.clock.advance(4.5)
    assert run.asked == [3.0]
    await run.clock.advance(1)
    assert run.watch.done()
    assert run.watch.result() == Verdict("Error", "liveness probe failed 2 times: no")
    await run.end()


async def test_startup_has_its_whole_budget() -> None:
    probe = {**PROBE, "initialDelaySeconds": 1, "periodSeconds": 2, "failureThreshold": 3}
    run = Run(startupProbe=probe)
    await run.clock.advance(6.9)
    assert not run.watch.done()
    await run.clock.advance(1)
    assert run.watch.result().message == "startup probe failed for 7 s: no"
    assert run.released == 1
    await run.end()


async def test_a_container_that_tells_is_asked_when_it_does() -> None:
    run = Run(readinessProbe={**PROBE, "periodSeconds": 10})
    await run.clock.advance(5)
    asked = len(run.asked)
    run.good = True
    run.notice.came.set()
    await run.clock.advance(0)
    assert run.state.ready
    assert len(run.asked) == asked + 1
    await run.end()


async def test_what_the_startup_probe_has_seen_is_not_asked_again() -> None:
    run = Run(startupProbe=PROBE, readinessProbe={**PROBE, "periodSeconds": 10})
    run.good = True
    await run.clock.settle()
    assert run.state.ready
    assert run.asked == [0.0]
    await run.clock.advance(10)
    assert len(run.asked) == 2
    await run.end()
