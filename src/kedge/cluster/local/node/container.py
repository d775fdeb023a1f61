"""The life of one container: started, watched, ended, started again."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from kedge.cluster.base import Object
from kedge.cluster.errors import ApiError
from kedge.cluster.local.node import logs, ownfaults
from kedge.cluster.local.node.addresses import port_is_free
from kedge.cluster.local.node.health import Health, Verdict
from kedge.cluster.local.node.host import Host, wait_until
from kedge.cluster.local.node.images import ImageMissing
from kedge.cluster.local.node.notices import Notice
from kedge.cluster.local.node.plan import Plan, PodPlace, make_plan
from kedge.cluster.local.node.probes import Outcome, http_get
from kedge.cluster.local.node.resources import limits_of
from kedge.cluster.local.node.sandbox import ExecResult, Run, Sandbox, SandboxError, SandboxLost
from kedge.cluster.local.node.starts import make_start
from kedge.cluster.local.node.status import (
    LOST_CODE,
    LOST_REASON,
    ContainerState,
    container_id,
    terminated,
)
from kedge.lib.backoff import Backoff
from kedge.lib.errors import KedgeError
from kedge.lib.ports import holder
from kedge.lib.quantity import format_bytes

log = logging.getLogger(__name__)

_SIGKILL, _SIGTERM = 9, 15
_MESSAGE_LIMIT = 4096
_PORT_TAKEN = re.compile(r"address already in use|EADDRINUSE", re.IGNORECASE)
_START_RETRY = Backoff(initial=0.5, limit=5.0)
_SHORTEST_GRACE = 2.0


class PortInUse(KedgeError):
    """Another process listens where this container is to listen."""

    reason = "PortInUse"


class ContainerLife:
    """Runs one container of one pod in the pod's sandbox.

    Args:
        changed: called after every change of `state`.
        grace: seconds between SIGTERM and SIGKILL.
    """

    def __init__(
        self,
        host: Host,
        pod: Object,
        place: PodPlace,
        state: ContainerState,
        changed: Callable[[], None],
        grace: float,
    ) -> None:
        self.state = state
        self.started = asyncio.Event()
        self._host = host
        self._pod = pod
        self._place = place
        self._changed = changed
        self._grace = grace
        self._plan: Plan | None = None
        self._foreseen: Plan | None = None
        self._verdict: Verdict | None = None
        self._stopped = False
        self._release: Callable[[], None] = _nothing
        self._slot: Callable[[], None] | None = None
        self._crashes = 0
        self._notice = Notice()
        self._asked = 0.0

    async def take_slot(self) -> None:
        """Wait until there is room to start, where the agent will see when that is over."""
        if self.state.spec.get("readinessProbe") or self.state.spec.get("startupProbe"):
            urgent = self._place.woken is not None
            self._release = self._slot = await self._host.slots.take(urgent=urgent)

    async def foresee(self) -> Plan | None:
        """What the container will run, if it is a server that a template could stand for."""
        try:
            self._foreseen = plan = await self._make_plan()
        except (KedgeError, OSError, ValueError):
            return None  # It is told when the container is to start.
        return plan if plan.imported is not None else None

    @property
    def group(self) -> str:
        """The name of its control group."""
        return f"{self._pod['metadata']['uid']}.{self.state.name}"

    async def run(self, sandbox: Sandbox) -> None:
        """Run until it is not to be started again.

        Raises:
            SandboxLost: the pod's shim is gone; the state says so.
        """
        run = await self._known_run(sandbox)
        if run is None and not self._begins():
            return
        while True:
            if run is None:
                run = await self._start(sandbox)
            if not self._is_settled(run):
                await self._follow(sandbox, run)
            if not self._runs_again():
                return
            await self._back_off(run)
            run = None

    async def stop(self, sandbox: Sandbox, grace: float | None = None) -> None:
        """End the container: preStop, SIGTERM, grace, SIGKILL; the state tells how it ended."""
        self._stopped = True
        run = sandbox.runs.get(self.state.name)
        if run is None or self.state.running_since is None:
            return
        try:
            await self._end_run(sandbox, run, self._grace if grace is None else grace)
            if self.state.terminated is None:
                self._note_end(run)
        except SandboxLost:
            self.note_loss()

    async def kill(self, sandbox: Sandbox, verdict: Verdict) -> None:
        """End the present run at once, without grace."""
        self._verdict = verdict
        await sandbox.signal(self.state.name, _SIGKILL)

    def note_loss(self) -> None:
        """The shim was killed, or the machine was restarted."""
        if self.state.running_since is None:
            return
        since = self.state.running_since.timestamp()
        self.state.mark_terminated(
            terminated(
                LOST_CODE,
                LOST_REASON,
                started=since,
                finished=self._host.clock.now().timestamp(),
                message="the container's processes were gone when the node agent looked for them",
                id=self._id,
            )
        )
        self._changed()

    # Starting.

    @property
    def _id(self) -> str:
        return container_id(self._pod["metadata"]["uid"], self.state.name, self.state.restarts)

    async def _known_run(self, sandbox: Sandbox) -> Run | None:
        """The run that a former agent left with this shim."""
        run = sandbox.runs.get(self.state.name)
        if run is None or run.attempt < self.state.restarts:
            return None
        if self.state.waiting is not None and self.state.waiting[0] == "CrashLoopBackOff":
            self._crashes = self.state.restarts
        if not self._is_settled(run):
            try:
                self._plan = await self._make_plan()
            except (KedgeError, OSError, ValueError):
                self._plan = None
            if run.attempt > self.state.restarts or self.state.running_since is None:
                self.state.restarts = run.attempt
                self.state.mark_running(datetime.fromtimestamp(run.started, UTC))
                self._changed()
        return run

    def _is_settled(self, run: Run) -> bool:
        """Whether the state already tells of this run's end."""
        told = self.state.terminated is not None or self.state.last is not None
        here = run.code is not None and run.attempt == self.state.restarts
        return here and told and self.state.running_since is None

    def _begins(self) -> bool:
        """Whether there is to be a run, in a sandbox that has none; numbers it."""
        if self.state.terminated is None and self.state.last is None:
            return True
        if self.state.terminated is not None and not self._runs_again():
            return False
        self.state.restarts += 1
        return True

    async def _start(self, sandbox: Sandbox) -> Run:
        """Start the next run, however long it takes until that can be done."""
        failures = 0
        if self._slot is None:
            self._release()
            await self.take_slot()
        self._slot = None
        while True:
            try:
                return await self._try_start(sandbox)
            except SandboxLost:
                raise
            except (KedgeError, OSError, ValueError) as error:
                failures += 1
                self._release()
                await self._tell_failed_start(error, failures)
                await self._host.clock.sleep(_START_RETRY.delay(failures))

    async def _make_plan(self) -> Plan:
        return await make_plan(self._host, self._pod, self.state.spec, self._place)

    async def _try_start(self, sandbox: Sandbox) -> Run:
        # What was foreseen holds for the next moments only: what it refers to may change.
        foreseen, self._foreseen = self._foreseen, None
        is_fresh = foreseen is not None and not self._pod["spec"].get("initContainers")
        self._plan = foreseen if foreseen and is_fresh else await self._make_plan()
        self._check_ports()
        attempt = self.state.restarts
        output = self._log_file()
        output.parent.mkdir(parents=True, exist_ok=True)
        logs.remove_old_runs(output.parent, attempt)
        self._verdict = None
        self._notice = self._host.notices.expect(self.group)
        self._asked = self._host.clock.monotonic()
        run = await sandbox.start(
            {
                **self._plan.request(),
                "container": self.state.name,
                "attempt": attempt,
                "log": str(output),
                "stage": str(self._place.stage),
                "warm": self._plan.imported is not None,
                "cgroups": self._host.cgroups.make(self.group, limits_of(self.state.spec)),
            }
        )
        self.state.mark_running(datetime.fromtimestamp(run.started, UTC))
        self._changed()
        if run.unlimited and self._host.cgroups.limits_memory():
            await self._tell("Warning", "LimitsNotEnforced", f"{self.state.name}: {run.unlimited}")
        return run

    def _check_ports(self) -> None:
        for port in self.state.spec.get("ports") or []:
            number = int(port["containerPort"])
            if port.get("protocol", "TCP") == "TCP" and not port_is_free(
                self._place.address, number
            ):
                raise PortInUse(
                    f"port {number} on {self._place.address} is in use"
                    f"{holder(self._place.address, number)}.",
                    fix="End what holds the port (a server that listens on every address takes it"
                    " from all pods), or have this container use another.",
                )

    async def _tell_failed_start(self, error: Exception, failures: int) -> None:
        reason, message = _start_failure(error)
        if isinstance(error, ImageMissing) and failures > 1:
            reason = "ImagePullBackOff"
        if self.state.waiting != (reason, message):
            self.state.mark_waiting(reason, message)
            self._changed()
            if reason != "ImagePullBackOff":
                await self._tell("Warning", "Failed", f"{self.state.name}: {reason}: {message}")

    # Watching.

    async def _follow(self, sandbox: Sandbox, run: Run) -> None:
        checks = asyncio.create_task(self._check(sandbox, run), name=f"health:{self.group}")
        try:
            await sandbox.wait(run)
        except SandboxLost:
            self.note_loss()
            raise
        finally:
            await _end_task(checks)
            self._host.notices.forget(self.group)
            self._release()
        if self.state.terminated is None:
            self._note_end(run)

    async def _check(self, sandbox: Sandbox, run: Run) -> None:
        """Watch over a run and end it when it must be; also when we fail to watch it for long."""
        failures, failed_at, hooked = 0, 0.0, False
        while True:
            try:
                if not hooked and not await self._run_hook(sandbox, "postStart", self._grace):
                    message = f"{self.state.name}: hook failed"
                    await self._tell("Warning", "FailedPostStartHook", message)
                    await self.end(sandbox, run, Verdict("Error", "its postStart hook failed"))
                    return
                hooked = True
                if self.state.role != "init":
                    await self._watch(sandbox, run)
                return
            except SandboxLost:
                raise
            except Exception as error:
                before, failed_at = failed_at, self._host.clock.monotonic()
                failures = failures + 1 if failed_at - before < ownfaults.FORGET else 1
                log.exception("watching container %s failed", self.group)
                message = ownfaults.describe(f"watching container {self.state.name}", error)
                await self._tell("Warning", ownfaults.REASON, message)
                if failures >= ownfaults.ATTEMPTS:
                    with contextlib.suppress(SandboxError):
                        await self.kill(sandbox, Verdict(ownfaults.REASON, message))
                        return
                await self._host.clock.sleep(ownfaults.RETRY.delay(failures))

    async def _watch(self, sandbox: Sandbox, run: Run) -> None:
        health = Health(
            self._host, self.state, self._place.address,
            lambda command, timeout: self._exec(sandbox, command, timeout),
            self._changed, self._tell, self.started, self._release, self._notice,
            tells=self._plan is not None and self._plan.imported is not None,
            became_ready=self._note_start,
        )  # fmt: skip
        await self.end(sandbox, run, await health.watch(run.pid))

    def _note_start(self) -> None:
        """How long a first start took; one that was adopted began too long ago to know."""
        now, notice = self._host.clock.monotonic(), self._notice
        if self._asked and self.state.restarts == 0:
            self.state.start = make_start(
                self._place.seen,
                self._asked,
                now,
                notice.warm,
                notice.moments,
                self._place.woken,
            )

    async def end(self, sandbox: Sandbox, run: Run, verdict: Verdict) -> None:
        """End a run for the agent's own reason; `run` goes on as after any exit."""
        self._verdict = verdict
        await self._tell("Warning", "Killing", f"{self.state.name}: {verdict.message}")
        await self._end_run(sandbox, run, self._grace)

    async def _exec(self, sandbox: Sandbox, command: list[str], timeout: float) -> ExecResult:
        if self._plan is None:
            self._plan = await self._make_plan()
        request = {**self._plan.request(), "argv": command, "timeout": timeout, "cgroups": []}
        return await sandbox.exec({**request, "container": self.state.name})

    async def _run_hook(
        self, sandbox: Sandbox, name: Literal["postStart", "preStop"], timeout: float
    ) -> bool:
        hook = (self.state.spec.get("lifecycle") or {}).get(name) or {}
        try:
            if action := hook.get("exec"):
                return (await self._exec(sandbox, action["command"], timeout)).code == 0
            if action := hook.get("httpGet"):
                async with asyncio.timeout(timeout):
                    outcome: Outcome = await http_get(action, self.state.spec, self._place.address)
                return outcome.ok
            if action := hook.get("sleep"):
                await self._host.clock.sleep(min(float(action["seconds"]), timeout))
        except SandboxLost:
            raise
        except (OSError, TimeoutError, KedgeError, ValueError):
            return False
        return True

    # Ending.

    async def _end_run(self, sandbox: Sandbox, run: Run, grace: float) -> None:
        clock = self._host.clock
        deadline = clock.monotonic() + grace
        if grace > 0:
            await self._run_hook(sandbox, "preStop", grace)
            await sandbox.signal(self.state.name, _SIGTERM)
            left = max(deadline - clock.monotonic(), min(grace, _SHORTEST_GRACE))
            await wait_until(run.ended, clock, left)
        if run.code is None:
            await sandbox.signal(self.state.name, _SIGKILL)
        await sandbox.wait(run)

    def _note_end(self, run: Run) -> None:
        code = run.code if run.code is not None else LOST_CODE
        reason, message = self._explain_end(run, code)
        self.state.mark_terminated(
            terminated(
                code,
                reason,
                started=run.started,
                finished=run.finished,
                signal=run.signal,
                message=message,
                id=self._id,
            )
        )
        self._changed()

    def _explain_end(self, run: Run, code: int) -> tuple[str, str]:
        """The reason and message of an end."""
        said = self._said(code)
        verdict = self._verdict
        if verdict is not None:
            return verdict.reason, "\n".join(filter(None, (verdict.message, said)))
        if code and self._host.cgroups.oom_kills(self.group):
            return "OOMKilled", "\n".join(filter(None, (self._memory_story(), said)))
        if code and _PORT_TAKEN.search(said):
            return "PortInUse", said
        return ("Error" if code else "Completed"), said

    def _memory_story(self) -> str:
        peak, limit = self._host.cgroups.peak(self.group), limits_of(self.state.spec).memory
        used = f"peak {format_bytes(peak)}" if peak is not None else "peak unknown"
        allowed = f"limit {format_bytes(limit)}" if limit is not None else "no limit of its own"
        return (
            f"out of memory: {used}, {allowed}."
            f" Fix: raise resources.limits.memory of container {self.state.name}."
        )

    def _said(self, code: int) -> str:
        """The termination message: what the container wrote for it, else its last log lines."""
        try:
            written = self._place.termination_log(self.state.name).read_bytes()
        except OSError:
            written = b""
        if written.strip():
            return written[:_MESSAGE_LIMIT].decode(errors="replace").strip()
        if not code:
            return ""
        return logs.tail(self._log_file())

    def _log_file(self) -> Path:
        uid = self._pod["metadata"]["uid"]
        return logs.log_file(
            self._host.settings.pods_dir, uid, self.state.name, self.state.restarts
        )

    # Starting again.

    def _runs_again(self) -> bool:
        if self._stopped:
            return False
        policy = self._pod["spec"].get("restartPolicy") or "Always"
        ended = self.state.terminated
        good = ended is not None and ended["exitCode"] == 0
        if self.state.role == "sidecar":
            return True
        if self.state.role == "init":
            return not good and policy != "Never"
        return policy == "Always" or (policy == "OnFailure" and not good)

    async def _back_off(self, run: Run) -> None:
        settings, clock = self._host.settings, self._host.clock
        finished = run.finished or clock.now().timestamp()
        if finished - run.started >= settings.restart_reset:
            self._crashes = 0
        self._crashes += 1
        delay = settings.restart_backoff.delay(self._crashes)
        metadata = self._pod["metadata"]
        self.state.mark_waiting(
            "CrashLoopBackOff",
            f"back-off {delay:g}s restarting failed container={self.state.name}"
            f" pod={metadata['name']}_{metadata.get('namespace', '')}({metadata['uid']})",
        )
        self._changed()
        left = finished + delay - clock.now().timestamp()
        await self._tell("Warning", "BackOff", f"Back-off restarting container {self.state.name}")
        await clock.sleep(max(0.0, left))
        self.state.restarts = run.attempt + 1

    async def _tell(self, type: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        await self._host.events.record(self._pod, type, reason, message)


def _nothing() -> None:
    """No slot is held."""


async def _end_task(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, SandboxError):
        await task


def _start_failure(error: Exception) -> tuple[str, str]:
    """Reason and message of a container that could not be started."""
    if isinstance(error, SandboxError):
        full = os.strerror(errno.ENOSPC) in error.message
        fix = _DISK_FIX if full else _STEP_FIXES.get(error.step, "")
        return "CreateContainerError", f"{error.step}: {error.message}" + fix
    if isinstance(error, ApiError):
        return "CreateContainerConfigError", f"the API did not answer: {error}"
    if isinstance(error, KedgeError):
        return error.reason, str(error)
    if isinstance(error, OSError):
        fix = _DISK_FIX if error.errno == errno.ENOSPC else ""
        return "CreateContainerError", f"{error}.{fix}"
    return "CreateContainerConfigError", str(error)


_DISK_FIX = " Fix: free space on that disk; the container is tried again by itself."
_STEP_FIXES: dict[str, str] = {
    "exec": " Fix: correct the container's `command`, or the image's in images.yaml.",
    "workdir": " Fix: correct the container's `workingDir`.",
}
