"""What all pods of one node share, and what the agent asks of others."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Literal, Protocol

from kedge.api.scheme import CONFIG_MAP, SECRET
from kedge.cluster.base import Cluster, EventType, Object
from kedge.cluster.errors import NotFound
from kedge.cluster.local.models import ModelCache
from kedge.cluster.local.node.addresses import Addresses
from kedge.cluster.local.node.cgroups import Cgroups
from kedge.cluster.local.node.env import Fetch
from kedge.cluster.local.node.images import Images
from kedge.cluster.local.node.notices import Notices
from kedge.cluster.local.node.resources import Gpus
from kedge.cluster.local.node.sandbox import Sandboxes
from kedge.cluster.local.node.templates import Templates
from kedge.cluster.local.node.tokens import Tokens
from kedge.lib.clock import Clock
from kedge.settings.node import NodeSettings


class Drains(Protocol):
    """Knows when the gateway has stopped sending to a pod."""

    async def drained(self, address: str) -> None:
        """Return once no Envoy sends new requests to `address`."""
        ...


class Recorder(Protocol):
    """Writes events (`kedge.reconcile.EventRecorder`)."""

    async def record(
        self, obj: Object, type: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None: ...


class PodCache(Protocol):
    """The Pods of the API as last seen (`kedge.reconcile.Informer`)."""

    synced: asyncio.Event

    def list(
        self, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> list[Object]: ...

    def on_change(self, handler: Callable[[EventType, Object, Object | None], None]) -> None: ...


class NoDrains:
    """Where there is no gateway, nothing needs draining."""

    async def drained(self, address: str) -> None:
        return


class StartSlots:
    """How many containers may start at once: more than there are cores would only make each of
    them, and the services that run, slower. What a request waits for goes before everything else.

    A slot is given back when its container is ready, and after `longest` seconds in any case, so
    that a container that hangs holds up nobody.
    """

    def __init__(self, count: int, longest: float = 5.0) -> None:
        self._free = count
        self._waiting: tuple[deque[asyncio.Future[None]], ...] = (deque(), deque())
        self._longest = longest

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return sum(map(len, self._waiting))

    async def take(self, *, urgent: bool = False) -> Callable[[], None]:
        """Wait for a slot; what gives it back, once however often it is called."""
        if self._free > 0:
            self._free -= 1
        else:
            await self._queue(urgent)
        held = True

        def release() -> None:
            nonlocal held
            if held:
                held = False
                timer.cancel()
                self._give_back()

        timer = asyncio.get_running_loop().call_later(self._longest, release)
        return release

    async def _queue(self, urgent: bool) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting[0 if urgent else 1].append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back()  # It was given at the moment when nobody wanted it any more.
            raise

    def _give_back(self) -> None:
        for queue in self._waiting:
            while queue:
                turn = queue.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self._free += 1


@dataclass
class Host:
    """The machine, as its pods use it.

    Attributes:
        allocatable: resource name -> amount; what a container without limits may use.
        bind_library: preloaded into containers (`bindshim`); None where it could not be built.
        asked: when a request asked for a pod, on the monotonic clock; None where none did.
        tokens: of service accounts, for pods; None where the API gives none.
        models: the models that revisions are pinned to.
        starting: containers that have begun and are not ready yet; many share the probing.
    """

    cluster: Cluster
    settings: NodeSettings
    clock: Clock
    events: Recorder
    drains: Drains
    sandboxes: Sandboxes
    templates: Templates
    notices: Notices
    images: Images
    addresses: Addresses
    gpus: Gpus
    cgroups: Cgroups
    slots: StartSlots
    allocatable: Mapping[str, Decimal] = field(default_factory=dict)
    asked: Callable[[Object], float | None] = lambda _pod: None
    bind_library: Path | None = None
    tokens: Tokens | None = None
    starting: int = 0
    models: ModelCache = field(init=False)

    def __post_init__(self) -> None:
        self.models = ModelCache(self.settings.models_dir)

    def fetcher(self, namespace: str) -> Fetch:
        """Reads ConfigMaps and Secrets of a namespace."""

        async def fetch(
            kind: Literal["ConfigMap", "Secret"], name: str
        ) -> Mapping[str, bytes] | None:
            try:
                obj = await self.cluster.get(
                    CONFIG_MAP if kind == "ConfigMap" else SECRET, name, namespace
                )
            except NotFound:
                return None
            return _data_of(obj, encoded=kind == "Secret")

        return fetch


def _data_of(obj: Object, *, encoded: bool) -> dict[str, bytes]:
    data = obj.get("data") or {}
    if encoded:
        plain = {key: value.encode() for key, value in (obj.get("stringData") or {}).items()}
        return {key: base64.b64decode(value) for key, value in data.items()} | plain
    binary = obj.get("binaryData") or {}
    return {key: value.encode() for key, value in data.items()} | {
        key: base64.b64decode(value) for key, value in binary.items()
    }


async def wait_until(event: asyncio.Event, clock: Clock, seconds: float) -> bool:
    """Wait for an event, but no longer than `seconds`; whether it came."""
    if event.is_set() or seconds <= 0:
        return event.is_set()
    waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(clock.sleep(seconds))]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await wait
    return event.is_set()
