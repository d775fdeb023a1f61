"""The node agent: one task per pod of this node, and the Node object."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import shutil
from collections.abc import Callable
from decimal import Decimal

from kedge.api.scheme import POD
from kedge.cluster.base import Cluster, EventType, Object
from kedge.cluster.errors import ApiError
from kedge.cluster.local.node import bindshim, logs, ownfaults
from kedge.cluster.local.node.addresses import Addresses
from kedge.cluster.local.node.cgroups import Cgroups
from kedge.cluster.local.node.host import (
    Drains,
    Host,
    NoDrains,
    PodCache,
    Recorder,
    StartSlots,
)
from kedge.cluster.local.node.images import Images
from kedge.cluster.local.node.memory_watch import MemoryWatch
from kedge.cluster.local.node.notices import Notices
from kedge.cluster.local.node.pod import PodLife
from kedge.cluster.local.node.registration import Registration
from kedge.cluster.local.node.resources import GPU, Gpus
from kedge.cluster.local.node.sandbox import Sandboxes
from kedge.cluster.local.node.status import unready_status
from kedge.cluster.local.node.templates import Templates
from kedge.cluster.local.node.tokens import RequestToken, Tokens
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.settings.node import NodeSettings

log = logging.getLogger(__name__)

_ROTATION = 10.0
_REFRESH = 60.0
_GOODBYE = 3.0


class NodeAgent:
    """Runs the pods whose `spec.nodeName` is this node's.

    Cancelling `run` leaves the pods running: a later agent adopts them. They end when their object
    is deleted, and when the life pipe reads end-of-file.

    Args:
        pods: a cache of Pods, run by the caller (`reconcile.Informer(cluster, POD)`).
        events: writes events on pods (`reconcile.EventRecorder`).
        drains: knows when the gateway no longer sends to a pod that ends.
        asked: when a request asked for a pod (`starts.Wakes`).
        request_token: has the API make tokens of service accounts; None where it makes none.
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
        request_token: RequestToken | None = None,
        life_fd: int | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        capacity = settings.capacity
        self._settings = settings
        self._clock = clock
        self._pods = pods
        self._lives: dict[str, PodLife] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._amounts = {
            "cpu": Decimal(str(capacity.cpu)),
            "memory": Decimal(capacity.memory),
            "pods": Decimal(capacity.pods),
            **({GPU: Decimal(len(capacity.gpus))} if capacity.gpus else {}),
            **({"ephemeral-storage": Decimal(capacity.disk)} if capacity.disk else {}),
        }
        network = settings.pod_network
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
            addresses=Addresses(
                settings.data_dir, ipaddress.IPv4Network(network) if network else None
            ),
            gpus=Gpus(capacity.gpus),
            cgroups=Cgroups(),
            slots=StartSlots(max(1, int(capacity.cpu))),
            allocatable=self._amounts,
            asked=asked,
            tokens=Tokens(request_token, clock) if request_token is not None else None,
        )
        self._registration = Registration(
            cluster,
            settings,
            clock,
            amounts=self._amounts,
            templates=self._host.templates,
            sandboxes=sandboxes,
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
                tasks.create_task(self._registration.run())
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

    async def check(self) -> None:
        """Make sure that this node may be.

        Raises:
            NodeTaken: a kubelet's node has its name.
        """
        await self._registration.check()

    async def leave(self) -> None:
        """Say that the node and its pods are not ready any more; after `run`, where pods end with
        it."""
        ours = filter(self._is_ours, self._pods.list())
        try:
            async with asyncio.timeout(_GOODBYE):
                await asyncio.gather(self._registration.leave(), *map(self._disown, ours))
        except (ApiError, OSError, TimeoutError) as error:
            log.info("that the agent ends could not be told: %s", error)

    async def _disown(self, pod: Object) -> None:
        """Without it, the pod would be an endpoint until somebody finds the node dead."""
        if (status := unready_status(pod, self._clock.now())) is not None:
            metadata = pod["metadata"]
            await self._host.cluster.patch(
                POD,
                metadata["name"],
                {"metadata": {"uid": metadata["uid"]}, "status": status},
                namespace=metadata["namespace"],
                subresource="status",
            )

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
        """Until the pod's end; a life that breaks off is taken up again."""
        failures = 0
        try:
            while True:
                try:
                    await life.run()
                    return
                except Exception as error:
                    failures += 1
                    log.exception("the life of pod %s broke off", uid)
                    await life.tell_own_fault("taking care of the pod", error)
                    await self._clock.sleep(ownfaults.RETRY.delay(failures))
                    life = self._lives[uid] = life.begin_again()
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
