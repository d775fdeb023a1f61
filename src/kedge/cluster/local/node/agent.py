"""The node agent: one task per pod of this node, and the Node object."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
import shutil
from collections.abc import Callable
from decimal import Decimal

from kedge.api.scheme import NODE
from kedge.cluster.base import Cluster, EventType, Object
from kedge.cluster.errors import AlreadyExists, ApiError
from kedge.cluster.local.node import bindshim, logs
from kedge.cluster.local.node.addresses import Addresses
from kedge.cluster.local.node.cgroups import Cgroups
from kedge.cluster.local.node.host import (
    HOST_ADDRESS,
    Drains,
    Host,
    NoDrains,
    PodCache,
    Recorder,
    StartSlots,
    wait_until,
)
from kedge.cluster.local.node.images import Images
from kedge.cluster.local.node.memory_watch import MemoryWatch
from kedge.cluster.local.node.notices import Notices
from kedge.cluster.local.node.pod import PodLife
from kedge.cluster.local.node.resources import GPU, Gpus
from kedge.cluster.local.node.sandbox import Sandboxes
from kedge.cluster.local.node.templates import Templates
from kedge.lib.backoff import Backoff
from kedge.lib.clock import SYSTEM_CLOCK, Clock, format_time
from kedge.settings.node import NodeSettings

log = logging.getLogger(__name__)

_HEARTBEAT = 60.0
_BETWEEN_WRITES = 2.0
_ROTATION = 10.0
_REFRESH = 60.0
TEMPLATES_ANNOTATION = "serving.kedge.dev/templates"
"""On the Node: the warm templates, as JSON."""
_API_RETRY = Backoff(initial=0.05, limit=5.0)


class NodeAgent:
    """Runs the pods whose `spec.nodeName` is this node's.

    Cancelling `run` leaves the pods running: a later agent adopts them. They end when their object
    is deleted, and when the life pipe reads end-of-file.

    Args:
        pods: a cache of Pods, run by the caller (`reconcile.Informer(cluster, POD)`).
        events: writes events on pods (`reconcile.EventRecorder`).
        drains: knows when the gateway no longer sends to a pod that ends.
        asked: when a request asked for a pod (`starts.Wakes`).
        life_fd: end-of-file there ends all pods; None ties them to this process.
    """

    def __init__(
        self,
        cluster: Cluster,
        settings: NodeSettings,
        *,
        pods: PodCache,
        events: Recorder,
        drains: Drains | None = None,
        asked: Callable[[Object], float | None] = lambda _pod: None,
        life_fd: int | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        capacity = settings.capacity
        self._settings = settings
        self._cluster = cluster
        self._clock = clock
        self._pods = pods
        self._lives: dict[str, PodLife] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._amounts = {
            "cpu": Decimal(str(capacity.cpu)),
            "memory": Decimal(capacity.memory),
            "pods": Decimal(capacity.pods),
            **({GPU: Decimal(len(capacity.gpus))} if capacity.gpus else {}),
        }
        sandboxes = Sandboxes(settings.runtime_dir, life_fd, settings.namespaces)
        self._host = Host(
            cluster=cluster,
            settings=settings,
            clock=clock,
            events=events,
            drains=drains or NoDrains(),
            sandboxes=sandboxes,
            templates=Templates(
                sandboxes,
                settings.data_dir,
                clock,
                most=settings.templates,
                idle_seconds=settings.template_idle_seconds,
            ),
            notices=Notices(settings.runtime_dir),
            images=Images(settings),
            addresses=Addresses(settings.data_dir),
            gpus=Gpus(capacity.gpus),
            cgroups=Cgroups(),
            slots=StartSlots(max(1, int(capacity.cpu))),
            allocatable=self._amounts,
            asked=asked,
        )

    async def run(self) -> None:
        """Work until cancelled."""
        host = self._host
        for folder in (self._settings.pods_dir, self._settings.volumes_dir):
            folder.mkdir(parents=True, exist_ok=True)
        self._settings.runtime_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            host.cgroups = Cgroups.find(self._settings.data_dir)
            host.cgroups.weigh(self._settings.capacity.cpu)
            isolation = await host.sandboxes.open()
            if isolation.refusal:
                log.warning("pods have less isolation here: %s", isolation.refusal)
            host.bind_library = await bindshim.build(self._settings.data_dir / "cache")
            _make_termination_point()
            host.notices.open()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._register())
                tasks.create_task(self._follow_pods(tasks))
                tasks.create_task(host.templates.run())
                tasks.create_task(self._rotate_logs())
                tasks.create_task(self._refresh_volumes())
                watch = MemoryWatch(
                    self._clock, lambda: list(self._lives.values()), host.cgroups.limits_memory()
                )
                tasks.create_task(watch.run())
        finally:
            host.notices.close()
            await host.templates.close()
            await host.sandboxes.close()

    # Pods.

    async def _follow_pods(self, tasks: asyncio.TaskGroup) -> None:
        await self._pods.synced.wait()
        wanted = {pod["metadata"]["uid"] for pod in self._pods.list() if self._is_ours(pod)}
        await self._remove_strays(wanted)
        # Handlers are called for what is there already, then for every change.
        self._pods.on_change(lambda type, pod, _old: self._take(type, pod, tasks))

    def _is_ours(self, pod: Object) -> bool:
        return bool(pod["spec"].get("nodeName") == self._settings.name)

    def _take(self, type: EventType, pod: Object, tasks: asyncio.TaskGroup) -> None:
        if not self._is_ours(pod):
            return
        uid = pod["metadata"]["uid"]
        life = self._lives.get(uid)
        if type is EventType.DELETED:
            if life is not None:
                life.vanish()
        elif life is not None:
            life.update(pod)
        else:
            life = self._lives[uid] = PodLife(self._host, pod)
            self._tasks[uid] = tasks.create_task(self._run_life(uid, life), name=f"life:{uid}")

    async def _run_life(self, uid: str, life: PodLife) -> None:
        try:
            await life.run()
        except Exception:
            log.exception("the life of pod %s broke off", uid)
        finally:
            self._lives.pop(uid, None)
            self._tasks.pop(uid, None)

    async def _remove_strays(self, wanted: set[str]) -> None:
        """What pods left that were deleted while there was no agent."""
        ended = await self._host.sandboxes.end_strays(wanted)
        if ended:
            log.info("ended %d pods that are no longer in the API", ended)
        self._host.cgroups.remove_strays(wanted)
        for folder in self._settings.pods_dir.iterdir():
            if folder.name not in wanted:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    # The Node object.

    async def _register(self) -> None:
        failures = 0
        while True:
            try:
                await self._write_node()
                failures = 0
                self._host.templates.changed.clear()
                await self._clock.sleep(_BETWEEN_WRITES)
                await wait_until(self._host.templates.changed, self._clock, _HEARTBEAT)
            except (ApiError, OSError) as error:
                failures += 1
                log.info("the Node object was not written: %s", error)
                await self._clock.sleep(_API_RETRY.delay(failures))

    async def _write_node(self) -> None:
        node = self._make_node()
        try:
            await self._cluster.create(NODE, node)
        except AlreadyExists:
            metadata = {key: node["metadata"][key] for key in ("labels", "annotations")}
            await self._cluster.patch(NODE, self._settings.name, {"metadata": metadata})
        await self._cluster.patch(
            NODE, self._settings.name, {"status": node["status"]}, subresource="status"
        )

    def _make_node(self) -> Object:
        name, now = self._settings.name, format_time(self._clock.now())
        amounts = {resource: _plain(amount) for resource, amount in self._amounts.items()}
        isolation = self._host.sandboxes.isolation
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "AgentReady",
            "message": "pods run as processes"
            + (f"; less isolated: {isolation.refusal}" if isolation.refusal else ""),
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        machine = platform.machine()
        architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
        system = platform.system().lower()
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {
                    "kubernetes.io/hostname": name,
                    "kubernetes.io/os": system,
                    "kubernetes.io/arch": architecture,
                },
                "annotations": {TEMPLATES_ANNOTATION: json.dumps(self._host.templates.describe())},
            },
            "spec": {},
            "status": {
                "capacity": amounts,
                "allocatable": amounts,
                "conditions": [ready],
                "addresses": [
                    {"type": "InternalIP", "address": HOST_ADDRESS},
                    {"type": "Hostname", "address": name},
                ],
                "nodeInfo": {
                    "architecture": architecture,
                    "operatingSystem": system,
                    "kernelVersion": platform.release(),
                    "osImage": platform.platform(),
                    "containerRuntimeVersion": "kedge://processes",
                    "kubeletVersion": "kedge",
                    "kubeProxyVersion": "",
                    "machineID": "",
                    "systemUUID": "",
                    "bootID": "",
                },
            },
        }

    # Housekeeping.

    async def _rotate_logs(self) -> None:
        while True:
            await self._clock.sleep(_ROTATION)
            try:
                await asyncio.to_thread(self._rotate_all)
            except OSError as error:
                log.warning("logs were not rotated: %s", error)

    def _rotate_all(self) -> None:
        for path in self._settings.pods_dir.glob("*/logs/*/*.log"):
            logs.rotate(path, self._settings.log_limit_bytes, self._settings.log_files)

    async def _refresh_volumes(self) -> None:
        while True:
            await self._clock.sleep(_REFRESH)
            for life in list(self._lives.values()):
                try:
                    await life.refresh_volumes()
                except (ApiError, OSError) as error:
                    log.warning("a pod's volumes were not brought up to date: %s", error)


def _make_termination_point() -> None:
    """/dev is memory: an empty file there, once, lets programs that know no other place for their
    last words have it; each container sees its own file over it."""
    if os.geteuid() == 0 and not os.path.exists("/dev/termination-log"):
        try:
            os.close(os.open("/dev/termination-log", os.O_CREAT | os.O_WRONLY, 0o666))
        except OSError as error:
            log.info("no /dev/termination-log: %s", error)


def _plain(amount: Decimal) -> str:
    whole = amount.to_integral_value()
    return str(int(whole)) if amount == whole else f"{int(amount * 1000)}m"
