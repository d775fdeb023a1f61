"""A place for a worker, and what was counted there."""

from __future__ import annotations

from kedge.server.errors import StartFailure
from kedge.server.workers.distribution import Outlet
from kedge.server.workers.figures import Family, Figures, add, lasting
from kedge.server.workers.wire import Peer

_REQUESTS = "model_requests_total"


class Slot:
    """See the module.

    Attributes:
        peer: who has the place; None while nobody has.
        epoch: of the changes, when that worker began.
        arrived: it has loaded its models.
        failure: why it could not.
        last: what it counted, as it last said.
        past: what those counted who had the place before.
        restarts: how many had it before.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.outlet = Outlet(number)
        self.peer: Peer | None = None
        self.pid = 0
        self.epoch = 0
        self.arrived = False
        self.failure: StartFailure | None = None
        self.last = Figures()
        self.past = Figures()
        self.restarts = 0

    def vacate(self) -> None:
        """The worker is gone; what it counted is not."""
        self.past = add([self.past, lasting(self.last)])
        self.last = Figures()
        self.peer, self.pid, self.arrived = None, 0, False

    @property
    def requests(self) -> float:
        """Answered by everyone who has had the place."""
        return sum(
            value
            for figures in (self.past, self.last)
            for family in figures.families
            for name, _, value in family.samples
            if name == _REQUESTS
        )


def describe(slots: list[Slot], connections: list[int]) -> Figures:
    """What the parent has to say of its workers."""

    def family(name: str, text: str, kind: str, values: list[float]) -> Family:
        suffix = "_total" if kind == "counter" else ""
        samples = [
            (name + suffix, {"worker": str(slot.number)}, value)
            for slot, value in zip(slots, values, strict=True)
        ]
        return Family(name, text, kind, samples)

    return Figures(
        [
            family(
                "server_worker_up", "whether the worker takes connections", "gauge",
                [float(slot.outlet.serving) for slot in slots],
            ),
            family(
                "server_worker_connections", "connections the worker has", "gauge",
                [float(count) for count in connections],
            ),
            family(
                "server_worker_requests", "requests the worker answered", "counter",
                [slot.requests for slot in slots],
            ),
            family(
                "server_worker_restarts", "how often the worker was replaced", "counter",
                [float(slot.restarts) for slot in slots],
            ),
        ]
    )  # fmt: skip
