"""A node agent over objects in a dictionary: what the tests of the node agent start from."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from kedge.api.scheme import POD, Kind
from kedge.cluster.base import EventType, Object, ObjectList, PatchType, WatchEvent
from kedge.cluster.errors import AlreadyExists, Conflict, NotFound
from kedge.cluster.local.node.agent import NodeAgent
from kedge.lib.backoff import Backoff
from kedge.settings.node import Capacity, ImageRule, NodeSettings

NODE_NAME = "here"
Handler = Callable[[EventType, Object, Object | None], None]


class Objects:
    """As much of a `Cluster` as the node agent uses, and its pod cache and event recorder."""

    def __init__(self) -> None:
        self.synced = asyncio.Event()
        self.synced.set()
        self.stored: dict[tuple[str, str | None, str], Object] = {}
        self.events: list[tuple[str, str, str]] = []
        self.history: list[tuple[float, Object]] = []
        self.changed = asyncio.Condition()
        self._handlers: list[Handler] = []
        self._versions = itertools.count(1)

    # The pod cache.

    def list_pods(self) -> list[Object]:
        return [obj for (plural, _, _), obj in self.stored.items() if plural == "pods"]

    def on_change(self, handler: Handler) -> None:
        self._handlers.append(handler)
        for pod in self.list_pods():
            handler(EventType.ADDED, pod, None)

    def forget_handlers(self) -> None:
        self._handlers.clear()

    # The event recorder.

    async def record(
        self, obj: Object, type: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None:
        self.events.append((obj["metadata"]["name"], reason, message))
        await self._announce()

    # The cluster.

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        try:
            return self.stored[kind.plural, namespace, name]
        except KeyError:
            raise NotFound(f"{kind.plural} {name!r} not found") from None

    async def create(self, kind: Kind, obj: Object) -> Object:
        obj = copy.deepcopy(obj)
        metadata = obj["metadata"]
        place = (kind.plural, metadata.get("namespace"), metadata["name"])
        if place in self.stored:
            raise AlreadyExists(f"{place} exists")
        metadata.setdefault("uid", f"uid-{metadata['name']}-{next(self._versions)}")
        await self._put(kind, place, obj, EventType.ADDED)
        return obj

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Any,
        *,
        namespace: str | None = None,
        type: PatchType = PatchType.MERGE,
        subresource: str | None = None,
    ) -> Object:
        old = await self.get(kind, name, namespace)
        uid = (patch.get("metadata") or {}).get("uid")
        if uid is not None and uid != old["metadata"]["uid"]:
            raise Conflict("another object")
        obj = _merge(old, patch)
        await self._put(kind, (kind.plural, namespace, name), obj, EventType.MODIFIED)
        return obj

    async def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str | None = None,
        *,
        propagation: str = "Background",
        uid: str | None = None,
        grace_seconds: int | None = None,
    ) -> None:
        place = (kind.plural, namespace, name)
        obj = await self.get(kind, name, namespace)
        if uid is not None and uid != obj["metadata"]["uid"]:
            raise Conflict("another object")
        grace = obj["spec"].get("terminationGracePeriodSeconds", 30)
        grace = grace if grace_seconds is None else grace_seconds
        if kind is POD and grace:
            marks = {
                "deletionTimestamp": datetime.now(UTC).isoformat(),
                "deletionGracePeriodSeconds": grace,
            }
            await self._put(kind, place, _merge(obj, {"metadata": marks}), EventType.MODIFIED)
            return
        del self.stored[place]
        for handler in self._handlers:
            handler(EventType.DELETED, obj, obj)
        await self._announce()

    async def list(self, *args: Any, **kwargs: Any) -> ObjectList:
        raise NotImplementedError

    def watch(self, *args: Any, **kwargs: Any) -> AsyncIterator[WatchEvent]:
        raise NotImplementedError

    async def replace(self, *args: Any, **kwargs: Any) -> Object:
        raise NotImplementedError

    async def apply(self, *args: Any, **kwargs: Any) -> Object:
        raise NotImplementedError

    async def replace_status(self, *args: Any, **kwargs: Any) -> Object:
        raise NotImplementedError

    async def scale(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError

    def logs(self, *args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
        raise NotImplementedError

    async def _put(
        self, kind: Kind, place: tuple[str, str | None, str], obj: Object, type: EventType
    ) -> None:
        obj["metadata"]["resourceVersion"] = str(next(self._versions))
        old = self.stored.get(place)
        self.stored[place] = obj
        if kind is POD:
            self.history.append((time.perf_counter(), obj))
            for handler in self._handlers:
                handler(type, obj, old)
        await self._announce()

    async def _announce(self) -> None:
        async with self.changed:
            self.changed.notify_all()


class PodCacheOf:
    """The informer's face of `Objects`."""

    def __init__(self, objects: Objects) -> None:
        self.synced = objects.synced
        self._objects = objects

    def list(
        self, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> list[Object]:
        return self._objects.list_pods()

    def on_change(self, handler: Handler) -> None:
        self._objects.on_change(handler)


class World:
    """One data directory, its objects, and an agent that can be stopped and started."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.objects = Objects()
        self.folder = folder
        # A pipe of our own stands for the supervisor's: its end is the end of all pods.
        self.life_read, self.life_write = os.pipe()
        self.settings = NodeSettings(
            **{
                "name": NODE_NAME,
                "data_dir": folder,
                "runtime_dir": folder / "run",
                "capacity": Capacity(cpu=2.0, memory=1 << 30),
                "images": (ImageRule("test/python*", ("python",)), ImageRule("test/sh*", ("sh",))),
                "python": sys.executable,
                "restart_backoff": Backoff(initial=0.05, limit=0.4),
                "drain_seconds": 0.5,
                **settings,
            }
        )
        self._running: asyncio.Task[None] | None = None

    async def start(self, **agent: Any) -> NodeAgent:
        made = NodeAgent(
            self.objects,
            self.settings,
            pods=PodCacheOf(self.objects),
            events=self.objects,
            life_fd=self.life_read,
            **agent,
        )
        self._running = asyncio.create_task(made.run())
        return made

    async def stop(self) -> None:
        """End the agent as a kill would, as far as the pods can tell."""
        self.objects.forget_handlers()
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
            self._running = None

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

    async def run_pod(self, name: str, *containers: Object, **spec: Any) -> Object:
        """Create a pod on this node; its containers' images default to `test/sh`."""
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "nodeName": NODE_NAME,
                "restartPolicy": "Always",
                "terminationGracePeriodSeconds": 2,
                "containers": [{"image": "test/sh", **c} for c in containers],
                **spec,
            },
        }
        return await self.objects.create(POD, pod)

    def pod(self, name: str) -> Object | None:
        return self.objects.stored.get(("pods", "default", name))

    async def wait_for(
        self, name: str, condition: Callable[[Object], Any], seconds: float = 15.0
    ) -> Object:
        """The pod, once `condition` holds for it."""
        async with asyncio.timeout(seconds):
            async with self.objects.changed:
                while True:
                    pod = self.pod(name)
                    try:
                        if pod is not None and condition(pod):
                            return pod
                    except (KeyError, IndexError, TypeError):
                        pass
                    await self.objects.changed.wait()

    async def delete_pod(self, name: str, grace: int | None = None) -> None:
        await self.objects.delete(POD, name, "default", grace_seconds=grace)

    async def wait_gone(self, name: str, seconds: float = 15.0) -> None:
        async with asyncio.timeout(seconds):
            async with self.objects.changed:
                await self.objects.changed.wait_for(lambda: self.pod(name) is None)

    async def wait_log(self, pod: Object, container: str, lines: int) -> list[str]:
        """The lines of a container's log, once there are as many."""
        await until(lambda: self.log(pod, container).count("\n") >= lines)
        return self.log(pod, container).splitlines()

    def log(self, pod: Object, container: str, attempt: int = 0) -> str:
        path = self.folder / "pods" / pod["metadata"]["uid"] / "logs" / container
        return (path / f"{attempt}.log").read_text()


def container(pod: Object, name: str | None = None) -> Object:
    """The status of a container, the first by default."""
    status = pod["status"]
    everyone = [*status["containerStatuses"], *(status.get("initContainerStatuses") or [])]
    found: Object = next(s for s in everyone if name is None or s["name"] == name)
    return found


def is_ready(pod: Object) -> bool:
    conditions = pod["status"]["conditions"]
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


async def until(condition: Callable[[], Any], seconds: float = 15.0) -> None:
    """Wait for something that nobody announces."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (nothing tells us)
            await asyncio.sleep(0.01)


def _merge(old: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge(result.get(key), value)
    return result
