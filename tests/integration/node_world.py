"""A node agent over a local cluster: what the tests of the node agent start from."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kedge.api.scheme import EVENT, POD
from kedge.cluster.base import EventType, Object
from kedge.cluster.local.admission import AdmitAll
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.node import NodeAgent
from kedge.cluster.local.node.cgroups import Cgroups
from kedge.cluster.local.store import Store
from kedge.lib.backoff import Backoff
from kedge.reconcile import EventRecorder, Informer
from kedge.settings.local import runtime_dir
from kedge.settings.node import Capacity, ImageRule, NodeSettings

NODE_NAME = "here"


class World:
    """One data directory, its objects, and an agent that can be stopped and started.

    Args:
        life: read and write end of the pipe that stands for the supervisor's life.
    """

    def __init__(
        self, folder: Path, *, life: tuple[int, int] | None = None, **settings: Any
    ) -> None:
        self.folder = folder
        self.store = Store(folder / "kedge.db")
        self.cluster = LocalCluster(self.store, AdmitAll(), pods_dir=folder / "pods")
        self.life_read, self.life_write = life or os.pipe()
        self.history: list[tuple[float, Object]] = []
        self.settings = NodeSettings(
            **{
                "name": NODE_NAME,
                "data_dir": folder,
                "runtime_dir": runtime_dir(folder),
                "capacity": Capacity(cpu=2.0, memory=1 << 30),
                "images": (ImageRule("test/python*", ("python",)), ImageRule("test/sh*", ("sh",))),
                "python": sys.executable,
                "restart_backoff": Backoff(initial=0.05, limit=0.4),
                "drain_seconds": 0.5,
                **settings,
            }
        )
        self._changed = asyncio.Condition()
        self._running: list[asyncio.Task[None]] = []

    async def start(self, **agent: Any) -> None:
        pods = Informer(self.cluster, POD)
        pods.on_change(self._note)
        made = NodeAgent(
            self.cluster,
            self.settings,
            pods=pods,
            events=EventRecorder(self.cluster, "kubelet"),
            life_fd=self.life_read,
            **agent,
        )
        self._running = [asyncio.create_task(made.run()), asyncio.create_task(pods.run())]

    async def stop(self) -> None:
        """End the agent as a kill would, as far as the pods can tell."""
        for task in self._running:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._running = []

    def end_life(self) -> None:
        """What the supervisor's death does."""
        if self.life_write >= 0:
            os.close(self.life_write)
            self.life_write = -1

    async def close(self) -> None:
        await self.stop()
        self.end_life()
        await until(lambda: not list(self.settings.runtime_dir.glob("*.sock")))
        os.close(self.life_read)
        self.store.close()
        self._remove_cgroups()
        shutil.rmtree(self.settings.runtime_dir, ignore_errors=True)

    def _remove_cgroups(self) -> None:
        groups = Cgroups.find(self.folder)
        groups.remove_strays(set())
        for base in {groups.memory, groups.cpu} - {None}:
            with contextlib.suppress(OSError):
                os.rmdir(str(base))

    async def run_pod(self, name: str, *containers: Object, **spec: Any) -> Object:
        """Create a pod on this node; its containers' images default to `test/sh`."""
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "nodeName": NODE_NAME,
                "terminationGracePeriodSeconds": 2,
                "containers": [{"image": "test/sh", **c} for c in containers],
                **spec,
            },
        }
        return await self.cluster.create(POD, pod)

    async def wait_for(
        self, name: str, condition: Callable[[Object], Any], seconds: float = 15.0
    ) -> Object:
        """The pod, once `condition` holds for it."""

        async def holds() -> Object | None:
            with contextlib.suppress(KeyError, IndexError, TypeError):
                pod = await self.cluster.get(POD, name, "default")
                return pod if condition(pod) else None
            return None

        async with asyncio.timeout(seconds), self._changed:
            while (pod := await holds()) is None:
                await self._changed.wait()
            return pod

    async def delete_pod(self, name: str, grace: int | None = None) -> None:
        await self.cluster.delete(POD, name, "default", grace_seconds=grace)

    async def wait_gone(self, name: str, seconds: float = 15.0) -> None:
        async with asyncio.timeout(seconds), self._changed:
            while any(p["metadata"]["name"] == name for p in await self._pods()):
                await self._changed.wait()

    async def _pods(self) -> list[Object]:
        return (await self.cluster.list(POD)).items

    async def events(self, reason: str) -> list[str]:
        """The messages of all events with a reason."""
        found = (await self.cluster.list(EVENT)).items
        return [event["message"] for event in found if event["reason"] == reason]

    async def wait_log(self, pod: Object, container: str, lines: int) -> list[str]:
        """The lines of a container's log, once there are as many."""
        await until(lambda: self.log(pod, container).count("\n") >= lines)
        return self.log(pod, container).splitlines()

    def log(self, pod: Object, container: str, attempt: int = 0) -> str:
        path = self.folder / "pods" / pod["metadata"]["uid"] / "logs" / container
        text: str = (path / f"{attempt}.log").read_text()
        return text

    def _note(self, type: EventType, pod: Object, _old: Object | None) -> None:
        if type is not EventType.DELETED:
            self.history.append((time.perf_counter(), pod))
        self._announcing = asyncio.ensure_future(self._announce())

    async def _announce(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def container(pod: Object, name: str | None = None) -> Object:
    """The status of a container, the first by default."""
    status = pod["status"]
    everyone = [*status["containerStatuses"], *(status.get("initContainerStatuses") or [])]
    found: Object = next(s for s in everyone if name is None or s["name"] == name)
    return found


def is_ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


async def until(condition: Callable[[], Any], seconds: float = 15.0) -> None:
    """Wait for something that nobody announces."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (nothing tells us)
            await asyncio.sleep(0.01)
