"""The life of one pod: admitted, prepared, run, ended; and its status, written as it changes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
from collections.abc import Coroutine
from datetime import datetime
from typing import Any, Literal

from kedge.api.scheme import POD
from kedge.cluster.base import Object, PatchType
from kedge.cluster.errors import ApiError, Conflict, NotFound
from kedge.cluster.local.node import ownfaults
from kedge.cluster.local.node.container import ContainerLife
from kedge.cluster.local.node.host import Host, wait_until
from kedge.cluster.local.node.plan import PodPlace
from kedge.cluster.local.node.resources import gpus_wanted
from kedge.cluster.local.node.sandbox import Sandbox, SandboxError, SandboxLost
from kedge.cluster.local.node.status import ContainerState, PodFacts, make_status, restored
from kedge.cluster.local.node.unsupported import is_hardening, unsupported_fields
from kedge.cluster.local.node.volumes import VolumeError, Volumes
from kedge.lib.backoff import Backoff
from kedge.lib.errors import KedgeError

log = logging.getLogger(__name__)

_RETRY = Backoff(initial=0.5, limit=5.0)
_API_RETRY = Backoff(initial=0.05, limit=5.0)
_DEFAULT_GRACE = 30.0
_TOGETHER = 0.15
"""Seconds that the status of a pod that is starting waits for what comes next; as many times as
long as there are pods that want to start, since each of them takes longer."""
_LONGEST_TOGETHER = 1.5


class PodLife:
    """Carries one pod from its first sight to its end."""

    def __init__(self, host: Host, pod: Object) -> None:
        self._host = host
        self._pod = pod
        self._uid: str = pod["metadata"]["uid"]
        self._dir = host.settings.pods_dir / self._uid
        self._facts = _facts_of(pod, host)
        self._dirty = asyncio.Event()
        self._published: Object | None = None
        self._written = 0
        self._arrived = asyncio.Event()
        self._ending = asyncio.Event()
        self._vanished = False
        self._leaving = False
        self._sandbox: Sandbox | None = None
        self._lives: list[ContainerLife] = []
        self._volumes: Volumes | None = None
        self._seen = host.clock.monotonic()
        self._woken = host.asked(pod)
        self._began_before = bool((pod.get("status") or {}).get("startTime"))

    @property
    def sandbox(self) -> Sandbox | None:
        return self._sandbox

    @property
    def lives(self) -> list[ContainerLife]:
        return self._lives

    def update(self, pod: Object) -> None:
        """Take in a newer version of the object."""
        self._pod = pod
        if pod["metadata"].get("deletionTimestamp"):
            self._ending.set()
        elif pod["spec"].get("readinessGates"):
            self._changed()
        elif self._is_contradicted(pod):
            self._published = None
            self._changed()

    def _is_contradicted(self, pod: Object) -> bool:
        """Whether somebody took the pod for dead, as a node controller does that hears nothing."""
        if self._published is None or _version(pod) <= self._written:
            return False
        return _is_ready(pod.get("status") or {}) != _is_ready(self._published)

    def vanish(self) -> None:
        """The object is gone from the API: nothing is left to be polite to."""
        self._vanished = True
        self._ending.set()

    async def run(self) -> None:
        """Live until the object is gone; the pod goes on when this is cancelled."""
        publishing = asyncio.create_task(self._publish(), name=f"status:{self._uid}")
        working = asyncio.create_task(self._work(), name=f"pod:{self._uid}")
        try:
            self.update(self._pod)
            await self._ending.wait()
            await _cancel(working)
            await self._end_surely()
        finally:
            await _cancel(working)
            await _cancel(publishing)
            self._let_go()

    def _let_go(self) -> None:
        """Close the connection to the shim, which may go on."""
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None

    async def tell_own_fault(self, doing: str, error: Exception) -> None:
        """Say on the pod and by an event that we failed, while doing what."""
        message = ownfaults.describe(doing, error)
        self._facts.reason, self._facts.message = ownfaults.REASON, message
        self._wait_all(ownfaults.REASON, message)
        await self._tell("Warning", ownfaults.REASON, message)

    def begin_again(self) -> PodLife:
        """A life in the place of this one, which broke off; it tells the same of the pod."""
        again = PodLife(self._host, self._pod)
        again._facts = self._facts
        again._changed()
        if self._vanished:
            again.vanish()
        return again

    async def refresh_volumes(self) -> None:
        """Bring mounted ConfigMaps and Secrets up to date."""
        if self._volumes is not None and self._volumes.refreshable:
            with contextlib.suppress(KedgeError):
                await self._volumes.prepare()

    # Work, until the pod is done or ends.

    async def _work(self) -> None:
        if self._facts.phase in ("Succeeded", "Failed"):
            return
        failures = 0
        while True:
            try:
                await self._live()
                return
            except SandboxLost:
                self._let_go()
                await self._tell(
                    "Warning", "SandboxChanged", "the pod's processes were killed; starting again"
                )
            except (KedgeError, OSError) as error:
                failures += 1
                self._let_go()
                log.exception("pod %s", self._name)
                self._wait_all("CreateContainerError", f"{type(error).__name__}: {error}")
                await self._host.clock.sleep(_RETRY.delay(failures))
            except Exception as error:
                failures += 1
                self._let_go()
                log.exception("pod %s", self._name)
                await self.tell_own_fault("running the pod", error)
                await self._host.clock.sleep(_RETRY.delay(failures))

    async def _live(self) -> None:
        if not await self._admit():
            return
        place = await self._prepare()
        self._lives = self._make_lives(place)
        sandbox = self._sandbox = await self._take_sandbox(place)
        if self._facts.reason == ownfaults.REASON:
            self._facts.reason = self._facts.message = ""
        self._changed()
        running = asyncio.create_task(self._run_containers(sandbox))
        try:
            await asyncio.wait({running}, timeout=self._seconds_to_deadline())
            if running.done():
                running.result()
            else:
                await _cancel(running)
                await self._exceed_deadline(sandbox)
        finally:
            await _cancel(running)
        await sandbox.shutdown()
        self._sandbox = None

    def _make_lives(self, place: PodPlace) -> list[ContainerLife]:
        return [
            ContainerLife(self._host, self._pod, place, state, self._changed, self._grace)
            for state in self._facts.containers
        ]

    async def _admit(self) -> bool:
        """Give the pod its address and GPUs, and say what it will not have."""
        saved = self._read_place()
        self._facts.address = self._host.addresses.keep(
            self._uid, self._facts.address or saved.get("address") or ""
        ) or self._host.addresses.take(self._uid)
        gpus: dict[str, list[str]] = saved.get("gpus") or {}
        for name, ids in gpus.items():
            self._host.gpus.keep(self._uid, name, ids)
        for state in self._facts.containers:
            count = gpus_wanted(state.spec)
            taken = self._host.gpus.take(self._uid, state.name, count)
            if taken is None:
                self._fail(
                    "UnexpectedAdmissionError",
                    f"container {state.name} asks for {count} GPU(s), of which too few are free."
                    " Fix: stop a pod that has one, or ask for fewer.",
                )
                return False
            gpus[state.name] = list(taken)
        await self._save_place({"address": self._facts.address, "gpus": gpus})
        if not self._began_before:
            self._began_before = True
            await self._tell_limits()
        return True

    async def _tell_limits(self) -> None:
        if fields := unsupported_fields(self._pod, tokens=self._host.tokens is not None):
            await self._tell(
                # What only hardens a container is no reason to worry on one's own machine.
                "Normal" if all(map(is_hardening, fields)) else "Warning",
                "UnsupportedFields",
                f"pods are processes here; not honoured: {', '.join(fields)}.",
            )
        isolation = self._host.sandboxes.isolation
        if not isolation.mounts:
            await self._tell(
                "Warning",
                "NoMountNamespace",
                f"the kernel refuses namespaces ({isolation.refusal}): mount paths are rewritten in"
                " command, arguments and environment; paths inside programs are not.",
            )

    def _read_place(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self._dir / "pod.json").read_text()))
        except (OSError, ValueError):
            return {}

    async def _save_place(self, place: dict[str, Any]) -> None:
        failures = 0
        metadata = self._pod["metadata"]
        named = {"namespace": metadata.get("namespace"), "name": metadata["name"], **place}
        while True:
            try:
                self._dir.mkdir(parents=True, exist_ok=True)
                draft = self._dir / "pod.json.new"
                draft.write_text(json.dumps(named))
                draft.replace(self._dir / "pod.json")
                return
            except OSError as error:
                failures += 1
                await self._tell_trouble("FailedCreatePodSandBox", _explain(error), failures)

    async def _prepare(self) -> PodPlace:
        """Make the volumes, however long it takes until that can be done."""
        place = self._make_place()
        failures = 0
        while True:
            try:
                await place.volumes.prepare()
                self._volumes = place.volumes
                return place
            except (KedgeError, OSError, ValueError) as error:
                failures += 1
                reason = error.reason if isinstance(error, VolumeError) else "FailedMount"
                await self._tell_trouble(reason, _explain(error), failures)

    def _make_place(self) -> PodPlace:
        namespace = self._pod["metadata"].get("namespace", "default")
        settings = self._host.settings
        volumes = Volumes(
            self._pod,
            self._dir,
            None if settings.bound_claims else settings.volumes_dir,
            self._host.cluster,
            self._host.fetcher(namespace),
            self._host.allocatable,
            self._host.models,
            self._host.tokens,
        )
        return PodPlace(self._dir, self._facts.address, volumes, self._seen, self._woken)

    async def _tell_trouble(self, reason: str, message: str, failures: int) -> None:
        """Something that all containers wait for cannot be had yet."""
        before = [state.waiting for state in self._facts.containers]
        self._wait_all("ContainerCreating", f"{reason}: {message}")
        if [state.waiting for state in self._facts.containers] != before:
            await self._tell("Warning", reason, message)
        await self._host.clock.sleep(_RETRY.delay(failures))

    def _wait_all(self, reason: str, message: str) -> None:
        for state in self._facts.containers:
            if state.running_since is None and state.terminated is None:
                state.waiting = (reason, message)
        self._changed()

    async def _take_sandbox(self, place: PodPlace) -> Sandbox:
        """Adopt the shim that a former agent left, else make one and begin again."""
        sandbox = await self._host.sandboxes.adopt(self._uid)
        if sandbox is not None:
            return sandbox
        self._forget_runs()
        if not self._facts.of_role("init", "sidecar"):
            # Namespaces and the first fork are part of the work, and of its memory.
            await self._lives[0].take_slot()
        memory_volumes = place.volumes.memory_volumes()
        for life in self._lives:
            if life.state.role == "main" and (plan := await life.foresee()) is not None:
                program = {"argv": plan.argv, "env": plan.env}
                return await self._host.templates.create(
                    self._uid, memory_volumes, plan.imported, program
                )
        return await self._host.sandboxes.create(self._uid, memory_volumes)

    def _forget_runs(self) -> None:
        for life in self._lives:
            life.note_loss()
            state = life.state
            if state.role == "init" and state.terminated is not None:
                state.mark_waiting("PodInitializing")
        self._facts.initialized = False
        if self._facts.of_role("init", "sidecar"):
            self._wait_all("PodInitializing", "")

    async def _run_containers(self, sandbox: Sandbox) -> None:
        tasks: list[asyncio.Task[None]] = []
        try:
            for life in self._lives:
                if life.state.role == "sidecar":
                    tasks.append(asyncio.create_task(life.run(sandbox)))
                    await _first(life.started.wait(), tasks[-1])
                elif life.state.role == "init" and not life.state.done:
                    await life.run(sandbox)
                    if not life.state.done:
                        self._fail("", f"init container {life.state.name} failed")
                        return
            self._facts.initialized = True
            self._changed()
            mains = [
                asyncio.create_task(life.run(sandbox))
                for life in self._lives
                if life.state.role == "main"
            ]
            tasks += mains
            await _all_of(mains, tasks)
            await self._stop_containers(sandbox)
        finally:
            for task in tasks:
                await _cancel(task)
        self._finish()

    def _finish(self) -> None:
        """All containers have ended for good."""
        good = all(state.done for state in self._facts.of_role("main"))
        self._facts.phase = "Succeeded" if good else "Failed"
        self._changed()

    def _fail(self, reason: str, message: str) -> None:
        self._facts.phase, self._facts.reason, self._facts.message = "Failed", reason, message
        self._changed()

    def _seconds_to_deadline(self) -> float | None:
        seconds = self._pod["spec"].get("activeDeadlineSeconds")
        if seconds is None:
            return None
        passed = (self._host.clock.now() - self._facts.started_at).total_seconds()
        return max(0.0, float(seconds) - passed)

    async def _exceed_deadline(self, sandbox: Sandbox) -> None:
        await self._stop_containers(sandbox)
        self._fail(
            "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
        )

    async def _stop_containers(self, sandbox: Sandbox, grace: float | None = None) -> None:
        """Containers together, then sidecars in reverse order."""
        ordinary = [life for life in self._lives if life.state.role != "sidecar"]
        await asyncio.gather(*(life.stop(sandbox, grace) for life in ordinary))
        for life in reversed([life for life in self._lives if life.state.role == "sidecar"]):
            await life.stop(sandbox, grace)

    # The end.

    @property
    def _grace(self) -> float:
        metadata, spec = self._pod["metadata"], self._pod["spec"]
        for value in (
            metadata.get("deletionGracePeriodSeconds"), spec.get("terminationGracePeriodSeconds"),
        ):  # fmt: skip
            if value is not None:
                return float(value)
        return _DEFAULT_GRACE

    async def _end_surely(self) -> None:
        while True:
            try:
                await self._end()
                return
            except SandboxLost:
                self._let_go()  # It was killed meanwhile: there is less to end now.

    async def _end(self) -> None:
        if self._sandbox is None:
            self._sandbox = await self._host.sandboxes.adopt(self._uid)
        if not self._vanished:
            if self._sandbox is not None:
                await self._drain()
            self._leaving = not self._pod["metadata"].get("finalizers")
            vanishing = asyncio.create_task(self._wait_vanished())
            stopping = asyncio.create_task(self._stop_politely())
            await asyncio.wait({vanishing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await _cancel(vanishing)
            await _cancel(stopping)
        if self._sandbox is not None:
            await self._sandbox.shutdown()
            self._sandbox = None
        if not self._vanished:
            await self._delete()
        await self._clean_up()

    async def _wait_vanished(self) -> None:
        while not self._vanished:
            self._ending.clear()
            await self._ending.wait()

    async def _drain(self) -> None:
        """The gateway stops sending first; only then is the server asked to stop."""
        try:
            async with asyncio.timeout(self._host.settings.drain_seconds):
                await self._host.drains.drained(self._facts.address)
        except TimeoutError:
            log.warning("pod %s: the gateway did not let go of %s", self._name, self._facts.address)

    async def _stop_politely(self) -> None:
        if self._sandbox is not None:
            # An agent that came while the pod was ending has not begun its containers' lives.
            self._lives = self._lives or self._make_lives(self._make_place())
            await self._stop_containers(self._sandbox, self._grace)
            if self._facts.phase in ("Pending", "Running"):
                self._finish()

    async def _delete(self) -> None:
        metadata = self._pod["metadata"]
        failures = 0
        while not self._vanished:
            try:
                await self._host.cluster.delete(
                    POD, metadata["name"], metadata.get("namespace"),
                    uid=self._uid, grace_seconds=0,
                )  # fmt: skip
                return
            except (NotFound, Conflict):
                return
            except (ApiError, OSError) as error:
                failures += 1
                log.warning("pod %s cannot be deleted from the API: %s", self._name, error)
                await self._host.clock.sleep(_API_RETRY.delay(failures))

    async def _clean_up(self) -> None:
        for state in self._facts.containers:
            self._host.cgroups.remove(f"{self._uid}.{state.name}")
        self._host.addresses.release(self._uid)
        self._host.gpus.release(self._uid)
        if self._host.tokens is not None:
            self._host.tokens.forget(self._uid)
        await asyncio.to_thread(shutil.rmtree, self._dir, ignore_errors=True)

    # The status.

    @property
    def _name(self) -> str:
        metadata = self._pod["metadata"]
        return f"{metadata.get('namespace', '')}/{metadata['name']}"

    def _changed(self) -> None:
        facts = self._facts
        if facts.phase == "Pending" and any(
            s.running_since or s.terminated or s.last for s in facts.of_role("main")
        ):
            facts.phase = "Running"
        if self._leaving and not any(state.running_since for state in facts.containers):
            return  # The object is deleted next: that says it all.
        self._dirty.set()
        if not facts.is_starting:
            self._arrived.set()

    async def _publish(self) -> None:
        """Write the status whenever it differs from what was last written."""
        failures = 0
        while True:
            await self._dirty.wait()
            if not self._arrived.is_set():
                # Nobody acts on the steps of a start: a quick one is told in one write.
                crowd = _TOGETHER * (1 + self._host.slots.waiting)
                patience = min(crowd, _LONGEST_TOGETHER)
                await wait_until(self._arrived, self._host.clock, patience)
            self._dirty.clear()
            try:
                await self._write_status()
                failures = 0
            except (NotFound, Conflict):
                continue
            except Exception as error:
                failures += 1
                if isinstance(error, ApiError | OSError):
                    log.info("status of pod %s not written: %s", self._name, error)
                else:
                    log.exception("status of pod %s", self._name)
                    message = ownfaults.describe("writing the pod's status", error)
                    await self._tell("Warning", ownfaults.REASON, message)
                await self._host.clock.sleep(_API_RETRY.delay(failures))
                self._dirty.set()

    async def _write_status(self) -> None:
        now, metadata = self._host.clock.now(), self._pod["metadata"]
        status = make_status(self._pod, self._facts, now, self._published or {})
        if status == self._published:
            return
        self._pod = await self._host.cluster.patch(
            POD,
            metadata["name"],
            {"metadata": {"uid": self._uid}, "status": status},
            namespace=metadata.get("namespace"),
            type=PatchType.MERGE,
            subresource="status",
        )
        self._written = _version(self._pod)
        self._published = status

    async def _tell(self, type: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        await self._host.events.record(self._pod, type, reason, message)


def _facts_of(pod: Object, host: Host) -> PodFacts:
    """What the pod's spec asks for and its status already tells."""
    spec, status = pod["spec"], pod.get("status") or {}
    states = []
    for container in spec.get("initContainers") or []:
        always = container.get("restartPolicy") == "Always"
        states.append(ContainerState(container, "sidecar" if always else "init"))
    states += [ContainerState(container) for container in spec.get("containers") or []]
    told = [
        *(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])
    ]  # fmt: skip
    started = status.get("startTime")
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or []}
    reason = status.get("reason") or ""
    if reason == ownfaults.REASON:
        reason = ""  # A former agent's, and nothing of the pod's.
    return PodFacts(
        started_at=datetime.fromisoformat(started) if started else host.clock.now(),
        host_address=host.settings.address,
        address=status.get("podIP") or "",
        phase=status.get("phase") or "Pending",
        initialized=conditions.get("Initialized") == "True",
        reason=reason,
        message=(status.get("message") or "") if reason else "",
        containers=[restored(state, told) for state in states],
    )


def _version(obj: Object) -> int:
    version = str(obj["metadata"].get("resourceVersion") or "")
    return int(version) if version.isdigit() else 0


def _is_ready(status: Object) -> bool:
    conditions = status.get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _explain(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == 28:
        return f"{error}. Fix: free space on that disk; the pod is tried again by itself."
    return str(error)


async def _cancel(task: asyncio.Task[Any]) -> None:
    """End a task and take what it raised, unless it had already ended well."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, SandboxError):
        await asyncio.gather(task, return_exceptions=True)


async def _first(waiting: Coroutine[Any, Any, Any], running: asyncio.Task[None]) -> None:
    """Wait for one thing, unless `running` ends first; raises what that raised."""
    wait = asyncio.ensure_future(waiting)
    try:
        await asyncio.wait({wait, running}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        wait.cancel()
    if running.done():
        running.result()


async def _all_of(wanted: list[asyncio.Task[None]], all: list[asyncio.Task[None]]) -> None:
    """Wait until all wanted tasks have ended; raises as soon as any task of `all` raised."""
    open = set(all)
    while any(not task.done() for task in wanted):
        done, open = await asyncio.wait(open, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
