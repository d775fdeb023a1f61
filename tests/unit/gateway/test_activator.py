"""Who gets which pod, and when."""

from __future__ import annotations

import asyncio

import pytest

from kedge.gateway.activator import Activator
from kedge.gateway.ir import Endpoint, Endpoints, Hold
from kedge.gateway.revision import Ask, Refused

IRIS, GRPC, OTHER = "default/iris/80", "default/iris/8081", "default/other/80"


class Bench:
    """An activator whose pods take connections or not, as `dead` says."""

    def __init__(self, max_held: int = 100) -> None:
        self.dead: set[str] = set()
        self.woken: list[str] = []
        self.activator = Activator(max_held=max_held, accepts=self._accepts)
        self.activator.on_wake(self.woken.append)

    async def _accepts(self, endpoint: Endpoint) -> bool:
        return endpoint.address not in self.dead

    def pods(
        self, *addresses: str, cluster: str = IRIS, concurrency: int = 0, cause: str = ""
    ) -> None:
        ready = tuple(Endpoint(address, 8080) for address in addresses)
        hold = Hold(concurrency, cause, cluster.rpartition("/")[0])
        self.activator.update(Endpoints(cluster, ready, hold))

    def ask(self, count: int = 1, cluster: str = IRIS) -> list[Ask]:
        return [self.activator.ask(cluster) for _ in range(count)]


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def placed(asks: list[Ask]) -> list[str]:
    """Where each was sent; `-` for one that waits."""
    return [ask.address or "-" for ask in asks]


async def test_they_wait_until_there_is_a_pod_and_then_all_go() -> None:
    bench = Bench()
    bench.pods()
    asks = bench.ask(50)
    assert bench.woken == ["default/iris"]
    assert bench.activator.held() == {"default/iris": 50}
    bench.pods("a")
    await settle()
    assert set(placed(asks)) == {"a"}
    assert bench.activator.held() == {}
    assert bench.activator.busy("a") == 50


async def test_slots_go_in_the_order_of_arrival() -> None:
    bench = Bench()
    bench.pods("a", "b", concurrency=2)
    asks = bench.ask(7)
    assert placed(asks) == ["a", "b", "a", "b", "-", "-", "-"]
    bench.activator.release(asks[1])
    await settle()
    assert placed(asks)[4:] == ["b", "-", "-"]
    # One that goes away while it waits loses its place and nothing else.
    bench.activator.release(asks[5])
    bench.activator.release(asks[0])
    await settle()
    assert placed(asks)[6] == "a"
    assert bench.activator.busy("a") == bench.activator.busy("b") == 2


async def test_one_that_goes_away_as_its_turn_comes_takes_no_slot() -> None:
    bench = Bench()
    bench.pods(concurrency=1)
    asks = bench.ask(2)
    asks[0].placed.cancel()
    bench.pods("a", concurrency=1)
    await settle()
    assert placed(asks) == ["-", "a"]
    bench.activator.release(asks[0])
    assert bench.activator.busy("a") == 1


async def test_the_ports_of_a_service_share_its_slots() -> None:
    bench = Bench()
    bench.pods("a", concurrency=1)
    bench.pods(cluster=GRPC, concurrency=1)
    rest = bench.ask()
    grpc = bench.ask(2, GRPC)
    assert placed(rest + grpc) == ["a", "-", "-"]
    bench.pods("a", cluster=GRPC, concurrency=1)
    late = bench.ask()
    for ask in (*rest, *grpc):
        bench.activator.release(ask)
        await settle()
        assert bench.activator.busy("a") == 1
    assert placed(late) == ["a"]


async def test_a_port_without_pods_keeps_no_other_waiting() -> None:
    bench = Bench()
    bench.pods(cluster=GRPC)
    bench.pods("a")
    grpc, rest = bench.ask(3, GRPC), bench.ask()
    assert placed(grpc + rest) == ["-", "-", "-", "a"]


async def test_what_is_inherited_takes_slots() -> None:
    bench = Bench()
    bench.activator.inherited = {"a": 1}
    bench.pods("a", concurrency=2)
    asks = bench.ask(2)
    assert placed(asks) == ["a", "-"]
    bench.activator.inherited = {}
    bench.activator.pods_changed(["a"])
    await settle()
    assert placed(asks) == ["a", "a"]


async def test_the_queue_is_bounded_for_each_revision() -> None:
    bench = Bench(max_held=2)
    bench.pods()
    bench.pods(cluster=OTHER)
    asks = bench.ask(3)
    with pytest.raises(Refused, match="2 requests wait for a pod already") as caught:
        await asks[2].placed
    assert caught.value.retry_after == 1
    assert not bench.ask(1, OTHER)[0].placed.done()


async def test_what_cannot_start_is_said_to_all() -> None:
    bench = Bench()
    bench.pods()
    waiting = bench.ask()
    bench.pods(cause="OOMKilled.")
    later = bench.ask()
    for ask in waiting + later:
        with pytest.raises(Refused, match=r"default/iris cannot start: OOMKilled\."):
            await ask.placed
        bench.activator.release(ask)
    assert bench.activator.held() == {}
    # Pods that are ready answer, whatever is said of others.
    bench.pods("a", cause="OOMKilled.")
    assert placed(bench.ask()) == ["a"]


async def test_revisions_take_turns() -> None:
    bench = Bench(max_held=1000)
    bench.pods()
    bench.pods(cluster=OTHER)
    many, few = bench.ask(500), bench.ask(5, OTHER)
    bench.pods("a")
    bench.pods("b", cluster=OTHER)
    await asyncio.sleep(0)
    assert placed(few) == ["b"] * 5
    assert placed(many).count("a") < 100
    await settle()
    assert placed(many).count("a") == 500


async def test_a_pod_that_takes_no_connection_is_passed_over_until_it_does() -> None:
    bench = Bench()
    bench.pods("a", "b", concurrency=1)
    checking = asyncio.ensure_future(bench.activator.check_doubts())
    first = bench.activator.ask(IRIS, b"1")
    assert first.address == "a"
    bench.dead = {"a"}
    bench.activator.release(first)
    again = bench.activator.ask(IRIS, b"1")
    assert again.address == "b"
    await settle()
    assert placed(bench.ask()) == ["-"]
    assert "a" in bench.activator.lost
    # It is gone: nobody need try it any more.
    bench.pods("b", concurrency=1)
    assert bench.activator.lost == {}
    checking.cancel()


async def test_a_doubt_is_over_when_the_pod_takes_a_connection() -> None:
    bench = Bench()
    bench.pods("a", concurrency=1)
    checking = asyncio.ensure_future(bench.activator.check_doubts())
    bench.activator.release(bench.activator.ask(IRIS, b"1"))
    again = bench.activator.ask(IRIS, b"1")
    assert placed([again]) == ["-"]
    await settle()
    assert placed([again]) == ["a"]
    checking.cancel()


async def test_a_pod_is_drained_when_it_is_named_no_more_and_nothing_runs_in_it() -> None:
    bench = Bench()
    bench.pods("a", concurrency=1)
    [ask] = bench.ask()
    drained = asyncio.ensure_future(bench.activator.drained("a"))
    await settle()
    bench.pods("b", concurrency=1)
    await settle()
    assert not drained.done()
    bench.activator.release(ask)
    await settle()
    assert drained.done()
    await bench.activator.drained("never seen")


async def test_those_that_wait_get_their_pod_though_no_more_come_to_wait() -> None:
    bench = Bench()
    bench.pods(concurrency=1)
    asks = bench.ask(3)
    bench.activator.update(Endpoints(IRIS))
    assert placed(asks) == ["-", "-", "-"]
    bench.activator.update(Endpoints(IRIS, (Endpoint("a", 8080),)))
    await settle()
    assert placed(asks) == ["a", "a", "a"]
    bench.activator.update(Endpoints(IRIS, (Endpoint("b", 8080),)))
    assert bench.activator.find(IRIS) is None


async def test_a_service_that_goes_away_lets_nobody_wait() -> None:
    bench = Bench()
    bench.pods()
    [ask] = bench.ask()
    bench.activator.forget(IRIS)
    with pytest.raises(Refused, match="default/iris is gone"):
        await ask.placed
    bench.activator.release(ask)
    [late] = bench.ask()
    with pytest.raises(Refused, match="default/iris is gone"):
        await late.placed
