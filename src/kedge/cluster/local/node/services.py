"""Services' own addresses and names, on a machine where nobody else gives them a meaning.

Each address is put on `lo`; a connection to one of its ports goes on to a ready endpoint, byte by
byte, as long as either end wants it. Pods are given the names in their /etc/hosts. This is what
kube-proxy and a cluster's DNS do for a whole cluster, for one machine and TCP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from kedge.cluster.base import EventType, Object
from kedge.cluster.local.node import loopback
from kedge.lib.clock import SYSTEM_CLOCK, Clock

log = logging.getLogger(__name__)

SERVICE_INDEX = "service"
"""Of the EndpointSlices: those of one `namespace/service`."""
_OF_SERVICE = "kubernetes.io/service-name"
_PIECE = 1 << 16
_CONNECT_SECONDS = 2.0
_TOGETHER = 0.05

Door = tuple[str, int]
Target = tuple[str, str]
"""`namespace/service`, and the name of the port."""


class Cache(Protocol):
    """Objects of one kind as last seen (`kedge.reconcile.Informer`)."""

    synced: asyncio.Event

    def by_index(self, name: str, key: str) -> list[Object]: ...

    def add_index(self, name: str, keys: Callable[[Object], Iterable[str]]) -> None: ...

    def on_change(self, handler: Callable[[EventType, Object, Object | None], None]) -> None: ...

    def list(
        self, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> list[Object]: ...


def _address_of(service: Object) -> str:
    """Its address of IPv4, as pods have here; empty where it has none."""
    spec = service.get("spec") or {}
    found = spec.get("clusterIPs") or [spec.get("clusterIP") or "None"]
    return next((one for one in found if one != "None" and ":" not in one), "")


def doors_of(service: Object) -> dict[Door, Target]:
    """Where a Service listens; nothing for one without an address of its own."""
    metadata, spec = service["metadata"], service.get("spec") or {}
    address = _address_of(service)
    if not address:
        return {}
    key = f"{metadata['namespace']}/{metadata['name']}"
    return {
        (address, int(port["port"])): (key, port.get("name") or "")
        for port in spec.get("ports") or ()
        if port.get("protocol", "TCP") == "TCP"
    }


def places_of(slices: Iterable[Object], port: str) -> list[Door]:
    """Where a port's endpoints are: the ready ones, else those that end and still serve."""
    ready: list[Door] = []
    serving: list[Door] = []
    for one in slices:
        numbers = [
            int(found["port"])
            for found in one.get("ports") or ()
            if (found.get("name") or "") == port and found.get("port")
        ]
        for endpoint in one.get("endpoints") or ():
            conditions = endpoint.get("conditions") or {}
            places = [(address, n) for address in endpoint["addresses"] for n in numbers]
            if conditions.get("ready") is not False:
                ready += places
            elif conditions.get("serving"):
                serving += places
    return ready or serving


def make_hosts(services: Iterable[Object], domain: str, before: str) -> str:
    """An /etc/hosts with the names of all Services, after what the machine's own says."""
    lines = [before.rstrip("\n")]
    for service in services:
        if address := _address_of(service):
            name = f"{service['metadata']['name']}.{service['metadata']['namespace']}"
            lines.append(f"{address} {name}.svc.{domain} {name}.svc {name}")
    return "\n".join([lines[0], *sorted(lines[1:])]) + "\n"


class Services:
    """Keeps the doors of all Services open.

    Args:
        slices: EndpointSlices; gets an index here.
        hosts: the file that pods see as /etc/hosts.
        own_hosts: what it begins with.
    """

    def __init__(
        self,
        services: Cache,
        slices: Cache,
        hosts: Path,
        domain: str,
        *,
        own_hosts: Path = Path("/etc/hosts"),
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._services = services
        self._slices = slices
        self._hosts = hosts
        self._domain = domain
        self._own_hosts = own_hosts
        self._clock = clock
        self._dirty = asyncio.Event()
        self._addresses: dict[str, bool] = {}  # Whether it was us who put it on `lo`.
        self._open: dict[Door, tuple[Target, asyncio.Server]] = {}
        self._talks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled; then none of the addresses is this machine's any more."""
        self._slices.add_index(SERVICE_INDEX, _keys)
        self._services.on_change(lambda *_: self._dirty.set())
        await self._services.synced.wait()
        self._dirty.set()
        try:
            while True:
                await self._dirty.wait()
                await self._clock.sleep(_TOGETHER)
                self._dirty.clear()
                await self._follow()
        finally:
            self._close_all()

    async def _follow(self) -> None:
        services = self._services.list()
        wanted = {door: target for one in services for door, target in doors_of(one).items()}
        for door in [d for d, (target, _) in self._open.items() if wanted.get(d) != target]:
            self._open.pop(door)[1].close()
        for address in self._addresses.keys() - {address for address, _ in wanted}:
            self._give_up(address)
        self._write_hosts(services)
        for door in wanted.keys() - self._open.keys():
            await self._open_door(door, wanted[door])

    def _write_hosts(self, services: list[Object]) -> None:
        """In place: what is mounted into pods is the file, not its name."""
        try:
            before = self._own_hosts.read_text() if self._own_hosts.exists() else ""
            text = make_hosts(services, self._domain, before)
            if not self._hosts.exists() or self._hosts.read_text() != text:
                self._hosts.write_text(text)
        except OSError as error:
            log.warning("the names of Services are not written: %s", error)

    async def _open_door(self, door: Door, target: Target) -> None:
        address, port = door
        try:
            if address not in self._addresses:
                self._addresses[address] = loopback.add(address, 32)
            server = await asyncio.start_server(
                lambda reader, writer: self._answer(reader, writer, target), address, port
            )
        except OSError as error:
            log.warning("Service %s is not answered at %s:%d: %s", target[0], *door, error)
            return
        self._open[door] = (target, server)

    def _give_up(self, address: str) -> None:
        if self._addresses.pop(address):
            with contextlib.suppress(OSError):
                loopback.remove(address, 32)

    def _close_all(self) -> None:
        for _, server in self._open.values():
            server.close()
        for talk in self._talks:
            talk.cancel()
        for address in list(self._addresses):
            self._give_up(address)

    # One connection.

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Target
    ) -> None:
        talk = asyncio.current_task()
        assert talk is not None
        self._talks.add(talk)
        far = None
        try:
            far = await self._dial(target)
            if far is None:
                writer.transport.abort()
                return
            async with asyncio.TaskGroup() as both:
                both.create_task(_carry(reader, far[1]))
                both.create_task(_carry(far[0], writer))
        finally:
            self._talks.discard(talk)
            writer.close()
            if far is not None:
                far[1].close()

    async def _dial(
        self, target: Target
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        service, port = target
        places = places_of(self._slices.by_index(SERVICE_INDEX, service), port)
        for address, number in random.sample(places, len(places)):
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_CONNECT_SECONDS):
                    return await asyncio.open_connection(address, number)
        return None


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bytes of one direction, and their end; what breaks breaks off both ends."""
    try:
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.transport.abort()


def _keys(one: Object) -> list[str]:
    metadata = one["metadata"]
    service = (metadata.get("labels") or {}).get(_OF_SERVICE)
    return [f"{metadata['namespace']}/{service}"] if service else []
