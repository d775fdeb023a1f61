"""Slots of several replicas: never more than the limit in a pod, and nobody waits for nothing."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque

import pytest

from kedge.gateway.activator import Activator
from kedge.gateway.ir import Endpoint, Endpoints, Hold
from kedge.gateway.members import Member, Members
from kedge.gateway.peers import Line
from kedge.gateway.peerwire import Message
from kedge.gateway.revision import Ask, Refused
from kedge.gateway.sharing import SharedAsk, Sharing

SERVICES = [f"default/s{number}/80" for number in range(4)]


class Wire(Line):
    """A line whose messages are delivered when the test says so, in order."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.queue: deque[Message] = deque()

    def send(self, message: Message) -> None:
        self.queue.append(message)


class Replica:
    def __init__(self, fleet: Fleet, name: str) -> None:
        self.name = name
        self.fleet = fleet
        self.members = Members(name)
        self.activator = Activator(max_held=10_000)
        self.sharing = Sharing(self.activator, self.members)
        self.asks: list[Ask | SharedAsk] = []
        for cluster in SERVICES:
            self.see_pods(cluster)

    def see_pods(self, cluster: str) -> None:
        ready = tuple(Endpoint(one, 8080) for one in self.fleet.pods[cluster])
        self.activator.update(Endpoints(cluster, ready, Hold(self.fleet.limit, "", cluster)))

    def see_members(self) -> None:
        self.members.take(tuple(self.fleet.members.values()))

    def ask(self, cluster: str) -> Ask | SharedAsk:
        made = self.sharing.ask(cluster)
        self.asks.append(made)
        return made

    @property
    def running(self) -> list[Ask | SharedAsk]:
        return [
            one
            for one in self.asks
            if one.placed.done() and not one.placed.cancelled() and one.placed.exception() is None
        ]

    @property
    def waiting(self) -> list[Ask | SharedAsk]:
        return [one for one in self.asks if not one.placed.done()]

    def finish(self, ask: Ask | SharedAsk) -> None:
        self.asks.remove(ask)
        self.sharing.release(ask)


class Fleet:
    """Replicas in memory; what they see and hear comes late, each at its own time."""

    def __init__(self, names: list[str], limit: int, pods: int) -> None:
        self.limit = limit
        self.pods = {
            cluster: [f"{cluster}-{number}" for number in range(pods)] for cluster in SERVICES
        }
        self.members: dict[str, Member] = {}
        self.replicas: dict[str, Replica] = {}
        self.wires: dict[tuple[str, str], tuple[Wire, Wire]] = {}
        for name in names:
            self.members[name] = Member(name, name, "IPv4", 8888, 9445, ready=True)
        for name in names:
            self.replicas[name] = Replica(self, name)
            self.replicas[name].see_members()
        for name in names:
            self.replicas[name].sharing.follow()

    def connect(self, source: str, target: str) -> None:
        if (source, target) in self.wires:
            return
        there, back = Wire(target), Wire(source)
        self.wires[source, target] = (there, back)
        self.replicas[target].sharing.guest_came(back)
        self.replicas[source].sharing.opened(there)

    def cut(self, source: str, target: str) -> None:
        wires = self.wires.pop((source, target), None)
        if wires is not None:
            self.replicas[source].sharing.lost(wires[0])
            self.replicas[target].sharing.guest_left(wires[1])

    def deliver(self, source: str, target: str, *, back: bool) -> bool:
        there, home = self.wires[source, target]
        if back and home.queue:
            self.replicas[source].sharing.heard(there, home.queue.popleft())
            return True
        if not back and there.queue:
            self.replicas[target].sharing.guest_said(home, there.queue.popleft())
            return True
        return False

    def connect_all(self) -> None:
        for source in self.replicas:
            for target in self.replicas:
                if source != target:
                    self.connect(source, target)

    async def settle(self) -> None:
        """Everything that is on its way arrives."""
        self.connect_all()
        moved = True
        while moved:
            for _ in range(10):
                await asyncio.sleep(0)
            moved = False
            for ends in self.wires:
                for back in (True, False):
                    moved |= self.deliver(*ends, back=back)

    def check(self) -> None:
        found: Counter[str] = Counter()
        for replica in self.replicas.values():
            found.update(one.placed.result().address for one in replica.running)
        most = max(found.values(), default=0)
        assert most <= self.limit, found


@pytest.mark.parametrize("seed", range(40))
async def test_no_pod_has_more_than_the_limit_whatever_comes_late(seed: int) -> None:
    dice = random.Random(seed)
    fleet = Fleet(["a", "b", "c"], limit=dice.choice([1, 2, 5]), pods=dice.choice([1, 3]))
    fleet.connect_all()
    for _ in range(400):
        step = dice.randrange(10)
        replica = fleet.replicas[dice.choice("abc")]
        if step < 3:
            replica.ask(dice.choice(SERVICES))
        elif step < 5 and replica.running:
            replica.finish(dice.choice(replica.running))
        elif step == 5 and replica.waiting:
            replica.finish(dice.choice(replica.waiting))
        elif step == 6 and dice.random() < 0.3:
            name = dice.choice("abc")
            one = fleet.members[name]
            fleet.members[name] = Member(
                name, name, "IPv4", 8888, 9445, ready=not one.ready
            )  # fmt: skip
        elif step == 7:
            replica.see_members()
        elif step == 8 and dice.random() < 0.3:
            ends = dice.choice("abc"), dice.choice("abc")
            if ends in fleet.wires:
                fleet.cut(*ends)
            elif ends[0] != ends[1]:
                fleet.connect(*ends)
        elif fleet.wires:
            fleet.deliver(*dice.choice(list(fleet.wires)), back=dice.random() < 0.5)
        await asyncio.sleep(0)
        fleet.check()
    for replica in fleet.replicas.values():
        replica.see_members()
    await fleet.settle()
    fleet.check()
    # As long as one ends, another goes.
    while any(replica.asks for replica in fleet.replicas.values()):
        running = [(one, ask) for one in fleet.replicas.values() for ask in one.running]
        assert running, "somebody waits, and every slot is free"
        for replica, ask in running:
            replica.finish(ask)
        await fleet.settle()
        fleet.check()
    for replica in fleet.replicas.values():
        assert all(replica.activator.busy(one) == 0 for pods in fleet.pods.values() for one in pods)


async def test_one_replica_hands_out_all_slots_of_a_service_in_order() -> None:
    fleet = Fleet(["a", "b"], limit=1, pods=1)
    await fleet.settle()
    cluster = SERVICES[0]
    asks = [fleet.replicas[name].ask(cluster) for name in "abab"]
    await fleet.settle()
    assert sum(one.placed.done() for one in asks) == 1
    held = [sum(fleet.replicas[name].activator.held().values()) for name in "ab"]
    assert sorted(held) == [0, 3]


async def test_a_service_without_a_limit_is_no_matter_of_others() -> None:
    fleet = Fleet(["a", "b"], limit=0, pods=1)
    ask = fleet.replicas["a"].ask(SERVICES[0])
    await asyncio.sleep(0)
    assert isinstance(ask, Ask) and ask.placed.done()


async def test_a_refusal_comes_from_where_the_slots_are() -> None:
    fleet = Fleet(["a", "b"], limit=1, pods=1)
    await fleet.settle()
    for replica in fleet.replicas.values():
        for cluster in SERVICES:
            replica.activator.update(Endpoints(cluster, (), Hold(1, "no such file", cluster)))
    for name in "ab":
        for cluster in SERVICES:
            asked = fleet.replicas[name].ask(cluster)
            await fleet.settle()
            with pytest.raises(Refused, match="no such file"):
                await asked.placed
