"""What workers say to each other, and how it is added up."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from typing import Any

import pytest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from kedge.protocol.errors import ModelNotFound
from kedge.server.limits import Limits
from kedge.server.metrics import Metrics, page
from kedge.server.statistics import Duration, ModelStatistics
from kedge.server.workers import figures
from kedge.server.workers.board import Board, State
from kedge.server.workers.changes import Changes
from kedge.server.workers.distribution import Distribution, Outlet
from kedge.server.workers.door import receive
from kedge.server.workers.processes import threads_each
from kedge.server.workers.seat import VARIABLE, Held, Seat, read, share
from kedge.server.workers.wire import Gone, Kind, Line, Message, Peer, Refused

# -- figures -----------------------------------------------------------------------------------


def counted(count: float, waiting: float) -> figures.Figures:
    requests = CounterMetricFamily("r", "requests", labels=["m"])
    requests.add_metric(["a"], count)
    queue = GaugeMetricFamily("w", "waiting", labels=["m"])
    queue.add_metric(["a"], waiting)
    python = GaugeMetricFamily("python_info", "python")
    python.add_metric([], 1)
    durations = {"success": Duration(int(count), 5)}
    told = ModelStatistics("a", "1", int(count), int(count), 1, durations, {2: durations})
    return figures.taken([requests, queue, python], [told])


def text(found: figures.Figures) -> str:
    return page(figures.metrics(found), "")[0].decode()


def test_figures_are_added() -> None:
    both = figures.add([counted(3, 1), figures.decode(figures.encode(counted(4, 2)))])
    assert 'r_total{m="a"} 7.0' in text(both)
    assert 'w{m="a"} 3.0' in text(both)
    assert "python_info 1.0" in text(both)
    (one,) = both.statistics
    assert (one.last_inference, one.inference_count, one.execution_count) == (4, 7, 2)
    assert one.durations == one.batches[2] == {"success": Duration(7, 10)}


def test_what_a_lost_worker_counted_stays_and_what_it_held_does_not() -> None:
    left = figures.lasting(counted(3, 1))
    both = text(figures.add([left, counted(4, 2)]))
    assert 'r_total{m="a"} 7.0' in both
    assert 'w{m="a"} 2.0' in both


def test_the_sum_of_one_reads_like_itself() -> None:
    metrics = Metrics()
    own = metrics.model("m")
    own.predict.observe(0.01)
    own.requests["v1", 200] += 1
    families = list(metrics.collect())
    assert text(figures.add([figures.taken(families, [])])) == page(families, "")[0].decode()


# -- who is who --------------------------------------------------------------------------------


def test_a_seat_travels_through_the_environment() -> None:
    import msgspec

    held = Held(("a",), {"b": "unloaded"})
    seat = Seat("worker", 2, 1, 3, 4, 80, None, slot=1, inboxes={1: 9}, held=held)
    assert read({VARIABLE: msgspec.json.encode(seat).decode()}) == seat
    assert read({}) is None


@pytest.mark.parametrize(
    ("most", "of", "shares"), [(5, 2, [3, 2]), (4, 4, [1] * 4), (0, 2, [0] * 2)]
)
def test_the_shares_of_a_limit_add_up(most: int, of: int, shares: list[int]) -> None:
    limits = Limits(concurrency=most, waiting=3)
    found = [share(limits, slot, of) for slot in range(of)]
    assert [one.concurrency for one in found] == shares
    assert {one.waiting for one in found} == {-(-3 // of)}


def test_threads_are_shared_too() -> None:
    assert threads_each(2, {}, 8) == 4
    assert threads_each(4, {"OMP_NUM_THREADS": "2"}, 8) == 1


# -- questions ---------------------------------------------------------------------------------


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Peer, Peer]]:
    """Two ends; the second one answers."""

    async def double(number: int) -> int:
        return number * 2

    async def refuse(_: Any) -> None:
        raise ModelNotFound("m")

    async def never(_: Any) -> None:
        await asyncio.Event().wait()

    one, other = socket.socketpair()
    asks, answers = Peer({}), Peer({"double": double, "refuse": refuse, "never": never})
    await asks.connect(one)
    await answers.connect(other)
    tasks = [asyncio.create_task(peer.run()) for peer in (asks, answers)]
    yield asks, answers
    asks.close()
    answers.close()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task


async def test_a_question_is_answered_or_refused(ends: tuple[Peer, Peer]) -> None:
    asks, _ = ends
    assert await asyncio.gather(*(asks.ask("double", n) for n in range(3))) == [0, 2, 4]
    with pytest.raises(Refused, match="Model with name m does not exist") as caught:
        await asks.ask("refuse")
    assert caught.value.reason == "ModelNotFound"


async def test_whoever_goes_away_leaves_no_question_open(ends: tuple[Peer, Peer]) -> None:
    asks, answers = ends
    waiting = asyncio.create_task(asks.ask("never"))
    await asyncio.sleep(0)
    answers.close()
    with pytest.raises(Gone):
        await waiting
    with pytest.raises(Gone):
        await asks.ask("double", 1)


async def test_a_process_without_a_loop_is_asked_too() -> None:
    one, other = socket.socketpair()
    peer, line = Peer({}), Line(other)
    await peer.connect(one)
    run = asyncio.create_task(peer.run())
    asked = asyncio.create_task(peer.ask("fork", 1))
    await asyncio.sleep(0)
    message = line.receive()
    assert message is not None and (message.what, message.body) == ("fork", 1)
    line.send(Message(Kind.ANSWER, message.number, "", 77))
    assert await asked == 77
    peer.close()
    await run
    assert line.receive() is None
    line.close()


# -- connections -------------------------------------------------------------------------------


def address_of(handed: tuple[bytes, socket.socket] | None) -> object:
    assert handed is not None
    with handed[1] as connection:
        return handed[0], connection.getpeername()


async def accepted(distribution: Distribution, listener: socket.socket, count: int) -> list[Any]:
    """So many clients, accepted and handed out."""
    clients = [socket.create_connection(listener.getsockname()) for _ in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    return clients


async def test_the_fewest_get_the_next_and_nothing_is_lost_with_a_worker() -> None:
    board = Board.make(2)
    outlets = [Outlet(0), Outlet(1)]
    distribution = Distribution(board, outlets)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    clients: list[socket.socket] = []
    with closing(board), listener:
        distribution.open(listener, None)
        clients += await accepted(distribution, listener, 2)
        assert [one.handed for one in outlets] == [0, 0]  # Nobody serves.
        board.set_connections(0, 2)
        distribution.begin(0)
        distribution.begin(1)
        await asyncio.sleep(0.01)
        assert [one.handed for one in outlets] == [0, 2]
        clients += await accepted(distribution, listener, 2)
        assert [one.handed for one in outlets] == [1, 3]
        taken = address_of(receive(outlets[1].theirs))
        assert taken == (b"h", clients[0].getsockname())
        board.set_taken(1, 1)
        distribution.end(1)
        assert [one.handed for one in outlets] == [3, 1]
        found = {address_of(receive(outlets[0].theirs)) for _ in range(3)}
        assert found == {(b"h", one.getsockname()) for one in clients[1:]}
        distribution.close()
    for client in clients:
        client.close()
    for outlet in outlets:
        outlet.close()


def test_ready_is_when_nobody_is_not() -> None:
    with closing(Board.make(3)) as board:
        assert not board.all_ready()
        board.set_state(0, State.READY)
        assert board.all_ready()
        board.set_state(1, State.UNREADY)
        assert not board.all_ready()
        other = Board(os.dup(board.file), 3)
        other.set_state(1, State.ABSENT)
        assert board.all_ready()
        other.close()


# -- changes -----------------------------------------------------------------------------------


class Holder(Peer):
    """A worker that only notes what it is asked."""

    def __init__(self, fails: str = "") -> None:
        super().__init__({})
        self.asked: list[str] = []
        self._fails = fails

    async def ask(self, what: str, body: Any = None) -> Any:
        if what == "names":
            return ["a", "b"]
        self.asked.append(f"{what} {body}")
        if what == self._fails:
            raise Refused("cannot", reason="ModelLoadFailed")
        if self._fails == "gone":
            raise Gone("gone")
        return None


async def test_a_change_is_everyone_s() -> None:
    holders = [Holder(), Holder(), Holder("gone")]
    changes = Changes(lambda: holders)
    assert changes.held is None
    await changes.load("c")
    await changes.unload("a")
    assert holders[0].asked == ["prepare c", "commit c", "remove a"]
    assert changes.held == Held(("b", "c"), {"a": "unloaded"})
    assert changes.epoch == 2
    await changes.load("a")
    assert changes.held == Held(("b", "c", "a"), {})


async def test_a_change_that_one_cannot_make_is_nobody_s() -> None:
    holders = [Holder(), Holder("prepare")]
    changes = Changes(lambda: holders)
    with pytest.raises(Refused, match="cannot"):
        await changes.load("c")
    assert holders[0].asked == ["prepare c", "abort c"]
    assert (changes.held, changes.epoch) == (None, 0)
    alone = Changes(lambda: [Holder("gone")])
    with pytest.raises(Gone):
        await alone.load("c")
