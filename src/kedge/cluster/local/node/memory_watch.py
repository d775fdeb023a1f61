"""Memory limits where no control group can be written: look, and end what is over its limit."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from kedge.cluster.local.node import processes
from kedge.cluster.local.node.container import ContainerLife
from kedge.cluster.local.node.health import Verdict
from kedge.cluster.local.node.pod import PodLife
from kedge.cluster.local.node.resources import limits_of
from kedge.cluster.local.node.sandbox import SandboxError
from kedge.lib.clock import Clock
from kedge.lib.quantity import format_bytes

_PERIOD = 0.25


class MemoryWatch:
    """Samples the containers that have a memory limit.

    Args:
        kernel_limits: only those matter that could not enter their control group.
    """

    def __init__(
        self, clock: Clock, pods: Callable[[], list[PodLife]], kernel_limits: bool
    ) -> None:
        self._clock = clock
        self._pods = pods
        self._kernel_limits = kernel_limits

    async def run(self) -> None:
        while True:
            await self._clock.sleep(_PERIOD)
            for pod in self._pods():
                for life in pod.lives:
                    await self._look(pod, life)

    async def _look(self, pod: PodLife, life: ContainerLife) -> None:
        sandbox = pod.sandbox
        run = sandbox.runs.get(life.state.name) if sandbox is not None else None
        if sandbox is None or run is None or run.code is not None:
            return
        if self._kernel_limits and not run.unlimited:
            return
        limit = limits_of(life.state.spec).memory
        if limit is None:
            return
        used = processes.resident(processes.descendants(run.pid))
        if used > limit:
            message = (
                f"out of memory: peak {format_bytes(used)} (sampled), limit {format_bytes(limit)}."
                f" Fix: raise resources.limits.memory of container {life.state.name}."
            )
            with contextlib.suppress(SandboxError):
                await life.kill(sandbox, Verdict("OOMKilled", message))
