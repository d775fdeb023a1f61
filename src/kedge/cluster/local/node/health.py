"""Startup, readiness and liveness of one run of one container.

Until something answers for the first time nothing is gained by waiting for whole periods, so it is
asked every few milliseconds: a pod is Ready the moment it is. What follows keeps Kubernetes' pace,
and nothing is counted as a failure earlier than Kubernetes would count it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from kedge.cluster.base import Object
from kedge.cluster.local.node import processes
from kedge.cluster.local.node.host import Host, wait_until
from kedge.cluster.local.node.notices import Notice
from kedge.cluster.local.node.probes import Outcome, RunCommand, Timing, check
from kedge.cluster.local.node.status import ContainerState
from kedge.lib.ports import outgoing_ports

_REFUSED_PAUSES = ((5.0, 0.01), (30.0, 0.05), (float("inf"), 0.25))
"""Seconds since the start -> pause between two tries to connect; a refusal costs 0.2 ms."""
_PAUSE_OF_TELLER = 0.25
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.5
_PAUSE_PER_STARTING = 0.001
_UNPROBED_LOOKS = (1.0, 9.0)

Tell = Callable[[Literal["Normal", "Warning"], str, str], Awaitable[None]]


@dataclass(frozen=True)
class Verdict:
    """Why a run must be ended."""

    reason: str
    message: str


class Health:
    """Watches one run.

    Args:
        run_command: runs a probe's command in the container.
        changed: called after every change of `state`.
        started: set when the startup probe has succeeded.
        release: called once the run is ready, or over: the next one may start.
        notice: what the container tells; the moment to ask it.
        tells: it is known to do so, so that nothing is gained by asking much before.
        became_ready: called the first time that it is ready.
    """

    def __init__(
        self,
        host: Host,
        state: ContainerState,
        address: str,
        run_command: RunCommand,
        changed: Callable[[], None],
        tell: Tell,
        started: asyncio.Event,
        release: Callable[[], None],
        notice: Notice,
        *,
        tells: bool = False,
        became_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.started = started
        self._release = release
        self._host = host
        self._state = state
        self._address = address
        self._run_command = run_command
        self._changed = changed
        self._tell = tell
        self._notice = notice
        self._tells = tells
        self._became_ready = became_ready
        self._started_by: Outcome | None = None

    async def watch(self, pid: int) -> Verdict:
        """Keep `started` and `ready` right; returns why the run must end."""
        self._host.starting += 1
        self._pid = pid
        self._began = self._host.clock.monotonic()
        self._fresh = True
        if self._state.ready:
            self._settle()  # It was watched before.
        try:
            if not self._state.started and (failing := await self._await_startup()):
                return failing
            self._state.started = True
            self.started.set()
            self._changed()
            return await self._keep_watch()
        finally:
            self._settle()

    def _settle(self) -> None:
        if self._fresh:
            self._fresh = False
            self._host.starting -= 1
            self._release()

    async def _keep_watch(self) -> Verdict:
        watches = [asyncio.create_task(self._watch_readiness())]
        if probe := self._state.spec.get("livenessProbe"):
            watches.append(asyncio.create_task(self._watch_liveness(probe)))
        try:
            done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)

    async def _ask(self, probe: Object) -> Outcome:
        return await check(probe, self._state.spec, self._address, self._run_command)

    async def _await_startup(self) -> Verdict | None:
        probe = self._state.spec.get("startupProbe")
        if not probe:
            return None
        timing = Timing.of(probe)
        budget = timing.initial_delay + timing.failures * timing.period
        deadline = self._host.clock.monotonic() + budget
        pause = _FIRST_PAUSE
        while not (outcome := await self._ask(probe)).ok:
            if self._host.clock.monotonic() >= deadline:
                message = f"startup probe failed for {budget:g} s: {outcome.message}"
                await self._tell("Warning", "Unhealthy", f"{self._state.name}: {message}")
                return Verdict("Error", message)
            pause = await self._pause(outcome, pause, timing)
        self._started_by = outcome
        return None

    async def _pause(self, outcome: Outcome, pause: float, timing: Timing) -> float:
        """Wait before asking again; the pause after the next one."""
        clock = self._host.clock
        crowded = _PAUSE_PER_STARTING * self._host.starting
        if outcome.refused:
            age = clock.monotonic() - self._began
            steady = next(p for until, p in _REFUSED_PAUSES if age < until)
            await self._sleep(max(steady, crowded, _PAUSE_OF_TELLER if self._tells else 0.0))
            return _FIRST_PAUSE
        await self._sleep(max(pause, crowded))
        return min(pause * 1.2, _LONGEST_PAUSE, timing.period)

    async def _sleep(self, seconds: float) -> None:
        """Until the container tells that it answers, but no longer than `seconds`."""
        if await wait_until(self._notice.came, self._host.clock, seconds):
            self._notice.came.clear()

    async def _watch_readiness(self) -> Verdict:
        probe = self._state.spec.get("readinessProbe")
        if not probe:
            return await self._ready_without_probe()
        timing, clock = Timing.of(probe), self._host.clock
        successes, failures, pause = 0, 0, _FIRST_PAUSE
        told_at = clock.monotonic() + timing.initial_delay + timing.period * timing.failures
        outcome = self._started_by if _same_action(probe, self._state.spec) else None
        while True:
            outcome = outcome or await self._ask(probe)
            successes = successes + 1 if outcome.ok else 0
            failures = 0 if outcome.ok else failures + 1
            if outcome.ok and not self._state.ready and successes >= timing.successes:
                if failing := self._find_wildcards():
                    return failing
                self._mark(True)
                pause = _FIRST_PAUSE
            elif self._state.ready and failures >= timing.failures:
                self._mark(False)
                await self._unhealthy(outcome)
            elif not outcome.ok and not self._state.ready and clock.monotonic() >= told_at:
                await self._unhealthy(outcome)
                told_at = clock.monotonic() + max(timing.period, 10.0)
            if self._state.ready:
                await clock.sleep(timing.period)
            else:
                pause = await self._pause(outcome, pause, timing)
            outcome = None

    async def _unhealthy(self, outcome: Outcome) -> None:
        message = f"{self._state.name}: readiness probe failed: {outcome.message}"
        await self._tell("Warning", "Unhealthy", message)

    async def _ready_without_probe(self) -> Verdict:
        self._mark(True)
        for pause in _UNPROBED_LOOKS:
            await self._host.clock.sleep(pause)
            if failing := self._find_wildcards():
                return failing
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    def _mark(self, ready: bool) -> None:
        if self._fresh:
            self._became_ready()
        self._settle()
        if self._state.ready != ready:
            self._state.ready = ready
            self._changed()

    def _find_wildcards(self) -> Verdict | None:
        """A server on every address takes its port from all other pods."""
        everywhere = processes.wildcard_ports(processes.descendants(self._pid))
        declared = {int(p["containerPort"]) for p in self._state.spec.get("ports") or []}
        chance = outgoing_ports()
        ports = [port for port in everywhere if port in declared or port not in chance]
        if not ports:
            return None
        named = ", ".join(map(str, ports))
        return Verdict(
            "WildcardListener",
            f"it listens on every address (port {named}), where only its own, {self._address}, is"
            " its to take. Fix: have it listen on $KEDGE_POD_IP"
            + ("." if self._host.bind_library else ", or install a C compiler and restart Kedge."),
        )

    async def _watch_liveness(self, probe: Object) -> Verdict:
        timing = Timing.of(probe)
        failures = 0
        await self._host.clock.sleep(timing.initial_delay)
        while True:
            outcome = await self._ask(probe)
            failures = 0 if outcome.ok else failures + 1
            if not outcome.ok:
                message = f"{self._state.name}: liveness probe failed: {outcome.message}"
                await self._tell("Warning", "Unhealthy", message)
            if failures >= timing.failures:
                return Verdict(
                    "Error", f"liveness probe failed {failures} times: {outcome.message}"
                )
            await self._host.clock.sleep(timing.period)


def _same_action(readiness: Object, container: Object) -> bool:
    """Whether the startup probe asks what the readiness probe would ask next."""
    startup = container.get("startupProbe") or {}
    actions = ("httpGet", "tcpSocket", "grpc", "exec")
    return any(one in readiness and startup.get(one) == readiness[one] for one in actions)
