"""The stream between a gateway and the autoscaler, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.ports import free_port

from kedge.autoscaler.leader import NoLeader
from kedge.autoscaler.signals_client import Peer, SignalsClient
from kedge.autoscaler.signals_server import SignalsServer
from kedge.autoscaler.wire import (
    Count,
    Counted,
    Goodbye,
    Hello,
    Message,
    Report,
    Wake,
    decode,
    encode,
)


class Heard:
    def __init__(self) -> None:
        self.said: list[tuple[str, Message]] = []
        self.present: list[str] = []
        self._news = asyncio.Event()

    def connected(self, gateway: str) -> None:
        self.present.append(gateway)
        self._tell()

    def disconnected(self, gateway: str) -> None:
        self.present.remove(gateway)
        self._tell()

    def take(self, gateway: str, message: Message) -> None:
        self.said.append((gateway, message))
        self._tell()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await self._news.wait()

    def reports(self) -> list[Report]:
        return [message for _, message in self.said if isinstance(message, Report)]

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class Meter:
    """A gateway's demand, made up."""

    def __init__(self) -> None:
        self.blind = False
        self.now: dict[str, tuple[float, float, float]] = {}
        self.wake: Callable[[str], None] = lambda key: None

    def sample(self) -> dict[str, tuple[float, float, float]]:
        return self.now

    def on_wake(self, callback: Callable[[str], None]) -> None:
        self.wake = callback


@pytest.fixture
async def heard() -> Heard:
    return Heard()


@pytest.fixture
async def meter(tmp_path: Path) -> AsyncIterator[Meter]:
    meter = Meter()
    client = asyncio.create_task(SignalsClient(tmp_path / "s.sock", "one", meter).run())
    yield meter
    client.cancel()
    await asyncio.gather(client, return_exceptions=True)


async def serve(heard: Heard, tmp_path: Path) -> asyncio.Task[None]:
    return asyncio.create_task(SignalsServer(heard, tmp_path / "s.sock").run())


async def stop(server: asyncio.Task[None]) -> None:
    server.cancel()
    await asyncio.gather(server, return_exceptions=True)


@pytest.mark.parametrize(
    "message",
    [Hello("one"), Report(1.0, {"ns/a": (1.5, 30.0, 0.0)}), Wake("ns/a", 3.0), Goodbye()],
)
def test_messages_come_out_as_they_went_in(message: Message) -> None:
    assert decode(encode(message)) == message


async def test_reports_and_wakes_arrive(
    heard: Heard, meter: Meter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # But for the first report, only a wake makes one come.
    monkeypatch.setattr("kedge.autoscaler.signals_client.PERIOD", 3600.0)
    server = await serve(heard, tmp_path)
    meter.now = {"ns/a": (2.0, 10.0, 1.0)}
    await heard.until(lambda: bool(heard.reports()))
    assert heard.present == ["one"]
    first = heard.reports()[0]
    assert first.revisions["ns/a"] == (2.0, 10 / first.seconds, 1.0)
    meter.wake("ns/b")
    await heard.until(lambda: ("one", Wake("ns/b")) in heard.said)
    count = len(heard.reports())
    meter.wake("ns/b")
    await heard.until(lambda: len(heard.reports()) > count)
    await stop(server)


async def test_who_sees_nothing_reports_nothing(heard: Heard, meter: Meter, tmp_path: Path) -> None:
    meter.blind = True
    server = await serve(heard, tmp_path)
    await heard.until(lambda: bool(heard.present))
    meter.wake("ns/a")
    await heard.until(lambda: ("one", Wake("ns/a")) in heard.said)
    assert not heard.reports()
    meter.blind = False
    await heard.until(lambda: bool(heard.reports()))
    await stop(server)


async def test_who_leaves_says_goodbye_and_nothing_more(heard: Heard, tmp_path: Path) -> None:
    client = SignalsClient(tmp_path / "s.sock", "one", Meter())
    running = asyncio.create_task(client.run())
    server = await serve(heard, tmp_path)
    await heard.until(lambda: bool(heard.reports()))
    await client.leave()
    assert heard.said[-1] == ("one", Goodbye())
    await heard.until(lambda: not heard.present)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await stop(server)


async def test_who_leaves_does_not_wait_for_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kedge.autoscaler.signals_client.LEAVE_SECONDS", 0.01)
    client = SignalsClient(tmp_path / "s.sock", "one", Meter())
    running = asyncio.create_task(client.run())
    await client.leave()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_counts_wait_until_they_can_be_sent(heard: Heard, tmp_path: Path) -> None:
    read = asyncio.Event()

    async def count() -> dict[str, Count]:
        read.set()
        return {"ns/a": (1, 2, 3, (4, 5))}

    client = asyncio.create_task(
        SignalsClient(tmp_path / "s.sock", "one", Meter(), count=count).run()
    )
    await read.wait()
    server = await serve(heard, tmp_path)
    await heard.until(lambda: any(isinstance(one, Counted) for _, one in heard.said))
    (counted,) = (one for _, one in heard.said if isinstance(one, Counted))
    assert counted.revisions == {"ns/a": (1, 2, 3, (4, 5))}
    client.cancel()
    await asyncio.gather(client, return_exceptions=True)
    await stop(server)


async def test_a_restarted_autoscaler_is_found_again(
    heard: Heard, meter: Meter, tmp_path: Path
) -> None:
    server = await serve(heard, tmp_path)
    await heard.until(lambda: bool(heard.reports()))
    await stop(server)
    await heard.until(lambda: not heard.present)
    meter.now = {"ns/a": (1.0, 1.0, 1.0)}
    server = await serve(heard, tmp_path)
    await heard.until(lambda: heard.present == ["one"])
    await heard.until(lambda: "ns/a" in heard.reports()[-1].revisions)
    await stop(server)


async def test_who_does_not_say_who_it_is_is_sent_away(heard: Heard, tmp_path: Path) -> None:
    import grpc

    from kedge.autoscaler.wire import METHOD

    server = await serve(heard, tmp_path)
    for data, code in (
        (encode(Wake("ns/a")), grpc.StatusCode.FAILED_PRECONDITION),
        (b"\xc1", grpc.StatusCode.INVALID_ARGUMENT),
    ):
        async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s.sock") as channel:
            stream = channel.stream_stream(METHOD, None, None)(None, wait_for_ready=True)
            await stream.write(data)
            assert await stream.code() is code
    assert not heard.said
    await stop(server)


async def test_over_tcp_who_shows_the_token_is_heard(heard: Heard) -> None:
    place = f"127.0.0.1:{free_port()}"
    token = "right"

    async def wanted() -> str:
        return token

    async def find() -> Peer:
        return Peer(place, "right")

    async def find_wrongly() -> Peer:
        return Peer(place, "wrong")

    server = asyncio.create_task(SignalsServer(heard, place, token=wanted).run())
    stranger = asyncio.create_task(SignalsClient(find_wrongly, "stranger", Meter()).run())
    client = asyncio.create_task(SignalsClient(find, "one", Meter()).run())
    await heard.until(lambda: bool(heard.reports()))
    assert {gateway for gateway, _ in heard.said} == {"one"}
    for task in (client, stranger, server):
        await stop(task)


async def test_a_leader_is_looked_for_until_there_is_one(heard: Heard) -> None:
    place = f"127.0.0.1:{free_port()}"
    asked = 0

    async def find() -> Peer:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise NoLeader("nobody leads")
        return Peer(place)

    server = asyncio.create_task(SignalsServer(heard, place).run())
    client = asyncio.create_task(SignalsClient(find, "one", Meter()).run())
    await heard.until(lambda: bool(heard.reports()))
    for task in (client, server):
        await stop(task)
