"""When a route is answered by all replicas."""

from __future__ import annotations

from kedge.gateway.conditions import Condition
from kedge.gateway.peers import Line
from kedge.gateway.peerwire import Message, Verdicts, decode, encode
from kedge.gateway.status import ANSWERING
from kedge.gateway.verdicts import PATIENCE_SECONDS, VerdictBoard

KEY = ("default", "iris")
GOOD = Condition(ANSWERING, True, "Answering", "A request sent now is answered.")
BAD = Condition(ANSWERING, False, "NoReadyEndpoints", "Service has no ready endpoint.")


class Heard(Line):
    def __init__(self) -> None:
        super().__init__("peer")
        self.messages: list[Message] = []

    def send(self, message: Message) -> None:
        assert decode(encode(message)) == message
        self.messages.append(message)


class Bench:
    def __init__(self, *peers: str) -> None:
        self.now = 100.0
        self.board = VerdictBoard(lambda: peers, lambda: self.now)

    def reason(self, generation: int = 1) -> str:
        return self.board.join(KEY, generation, GOOD).reason


def test_alone_it_is_our_own_verdict() -> None:
    bench = Bench()
    assert bench.board.join(KEY, 1, GOOD) is GOOD
    assert bench.board.join(KEY, 1, BAD) is BAD


def test_all_ready_replicas_must_have_it() -> None:
    bench = Bench("b", "c")
    assert bench.reason() == "NotAcknowledged"
    assert bench.board.hear("b", {"default/iris": (1, True, "Answering", "")}) == [KEY]
    assert bench.reason() == "NotAcknowledged"
    bench.board.hear("c", {"default/iris": (1, True, "Answering", "")})
    assert bench.reason() == "Answering"
    assert bench.reason(generation=2) == "NotAcknowledged"
    bench.board.hear("c", {"default/iris": (1, False, "NoReadyEndpoints", "none")})
    joined = bench.board.join(KEY, 1, GOOD)
    assert (joined.reason, joined.message) == (
        "NoReadyEndpoints", "Replica c of the gateway: none",
    )  # fmt: skip
    bench.board.hear("c", {"default/iris": None})
    assert bench.reason() == "NotAcknowledged"
    # Our own view needs nobody's consent.
    assert bench.board.join(KEY, 1, BAD) is BAD


def test_a_replica_that_is_out_of_reach_is_not_waited_for_for_ever() -> None:
    bench = Bench("b")
    bench.board.hear("b", {"default/iris": (1, True, "Answering", "")})
    bench.board.lose("b")
    assert bench.reason() == "NotAcknowledged"
    bench.now += PATIENCE_SECONDS + 1
    assert bench.reason() == "Answering"


def test_others_are_told_what_changed() -> None:
    bench, line = Bench(), Heard()
    bench.board.publish(KEY, 1, BAD)
    bench.board.follow(line)
    bench.board.publish(KEY, 1, BAD)
    bench.board.publish(KEY, 1, GOOD)
    bench.board.forget(KEY)
    bench.board.forget(KEY)
    bench.board.leave(line)
    bench.board.publish(KEY, 2, GOOD)
    told = [one.routes for one in line.messages if isinstance(one, Verdicts)]
    assert told == [
        {"default/iris": (1, False, "NoReadyEndpoints", BAD.message)},
        {"default/iris": (1, True, "Answering", GOOD.message)},
        {"default/iris": None},
    ]
