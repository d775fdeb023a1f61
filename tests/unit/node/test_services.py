"""Services' addresses and names: what they lead to, and connections that are carried."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kedge.cluster.base import EventType, Object
from kedge.cluster.local.node import loopback
from kedge.cluster.local.node.addresses import port_is_free
from kedge.cluster.local.node.services import Services, doors_of, make_hosts, places_of


def service(name: str = "web", address: str = "10.0.0.7", **spec: Any) -> Object:
    ports = [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    return {
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {"clusterIP": address, "ports": ports, **spec},
    }


def endpoints(*places: tuple[str, dict[str, bool]], port: int = 8080) -> Object:
    return {
        "metadata": {"namespace": "ns", "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"name": "http", "port": port}, {"name": "grpc", "port": 9000}],
        "endpoints": [{"addresses": [at], "conditions": conditions} for at, conditions in places],
    }


def test_a_service_has_a_door_per_port() -> None:
    assert doors_of(service()) == {("10.0.0.7", 80): ("ns/web", "http")}
    assert doors_of(service(address="None")) == {}
    assert doors_of(service(address="fd00::7")) == {}
    both = service(address="fd00::7", clusterIPs=["fd00::7", "10.0.0.7"])
    assert doors_of(both) == doors_of(service())
    assert make_hosts([both], "c.l", "") == make_hosts([service()], "c.l", "")
    assert doors_of({"metadata": {"name": "x", "namespace": "ns"}}) == {}


def test_the_ready_are_asked_and_else_those_that_still_serve() -> None:
    ending = {"ready": False, "serving": True, "terminating": True}
    broken = {"ready": False, "serving": False}
    both = endpoints(("1.1.1.1", {"ready": True}), ("1.1.1.2", ending), ("1.1.1.3", broken))
    assert places_of([both], "http") == [("1.1.1.1", 8080)]
    assert places_of([endpoints(("1.1.1.2", ending), ("1.1.1.3", broken))], "grpc") == [
        ("1.1.1.2", 9000)
    ]
    assert places_of([endpoints(("1.1.1.4", {}))], "http") == [("1.1.1.4", 8080)]
    assert places_of([], "http") == []


def test_names_follow_what_the_machine_says() -> None:
    text = make_hosts(
        [service("b"), service("a"), service("none", "None")], "c.l", "127.0.0.1 localhost\n"
    )
    assert text.splitlines() == [
        "127.0.0.1 localhost",
        "10.0.0.7 a.ns.svc.c.l a.ns.svc a.ns",
        "10.0.0.7 b.ns.svc.c.l b.ns.svc b.ns",
    ]


class Kept:
    """A cache that holds what it is given."""

    def __init__(self, *objects: Object) -> None:
        self.objects = list(objects)
        self.synced = asyncio.Event()
        self.synced.set()
        self._keys: Callable[[Object], Iterable[str]] = lambda _obj: ()
        self._handler: Callable[..., None] = lambda *_: None

    def add_index(self, name: str, keys: Callable[[Object], Iterable[str]]) -> None:
        self._keys = keys

    def by_index(self, name: str, key: str) -> list[Object]:
        return [obj for obj in self.objects if key in self._keys(obj)]

    def on_change(self, handler: Callable[[EventType, Object, Object | None], None]) -> None:
        self._handler = handler

    def list(self, namespace: str | None = None, labels: Any = None) -> list[Object]:
        return self.objects

    def change(self, *objects: Object) -> None:
        self.objects = list(objects)
        self._handler(EventType.MODIFIED, {}, None)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with all that came, once the other end has said all."""
    try:
        writer.write(b"heard " + await reader.read())
    finally:
        writer.close()
        await writer.wait_closed()
        heard.set()


heard = asyncio.Event()


async def ask(door: tuple[str, int]) -> bytes:
    """What is answered; nothing where the connection ends without an answer."""
    reader, writer = await asyncio.open_connection(*door)
    try:
        writer.write(b"hello")
        writer.write_eof()
        return await reader.read()
    except OSError:
        return b""
    finally:
        writer.close()


@asynccontextmanager
async def running(services: Kept, slices: Kept, hosts: Path) -> AsyncIterator[None]:
    task = asyncio.ensure_future(Services(services, slices, hosts, "c.l").run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def eventually(look: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not look():  # noqa: ASYNC110 (the other end of a socket does it)
            await asyncio.sleep(0.01)


async def test_connections_are_carried_while_there_is_a_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_lo: set[str] = set()
    monkeypatch.setattr(loopback, "add", lambda address, _prefix: not on_lo.add(address))  # type: ignore[func-returns-value]  # it adds
    monkeypatch.setattr(loopback, "remove", lambda address, _prefix: on_lo.discard(address))
    far = await asyncio.start_server(echo, "127.0.0.1", 0)
    free = await asyncio.start_server(echo, "127.77.0.1", 0)
    door = ("127.77.0.1", free.sockets[0].getsockname()[1])
    free.close()
    await free.wait_closed()
    port = far.sockets[0].getsockname()[1]
    web = service(address=door[0], ports=[{"name": "http", "port": door[1]}])
    services, slices = Kept(web), Kept(endpoints(("127.0.0.1", {"ready": True}), port=port))
    hosts = tmp_path / "hosts"
    async with running(services, slices, hosts):
        await eventually(lambda: on_lo and not port_is_free(*door))
        assert await ask(door) == b"heard hello"
        await heard.wait()
        assert "web.ns.svc.c.l" in hosts.read_text()
        slices.objects = []
        assert await ask(door) == b""
        services.change()
        await eventually(lambda: not on_lo and "web.ns" not in hosts.read_text())
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await ask(door)
        services.change(web)
        await eventually(lambda: on_lo)
    assert not on_lo
    far.close()
