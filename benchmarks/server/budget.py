"""Where the time of one request goes, in µs: `python -m benchmarks.server.budget`.

The server's own connections are fed from memory, 64 at once as 64 clients would, so that neither
the kernel nor a load generator is in the figures. Every function below is timed without those it
calls, less what the timing itself costs; of many short slices the quiet ones count. The rest is
the way between the functions. What a real server spends beyond that, the kernel and the event loop
take.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, cast

from benchmarks.load import read_requests
from benchmarks.server.payloads import Materials

CLIENTS = (1, 64)
SLICE = 256
SLICES = 120
SECONDS = 6.0
_QUIET = 0.1
"""Share of the slices that count: the others were disturbed by what else the machine did."""


class Timers:
    """Time within functions by stage, without the functions they call."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._within = [0.0]

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        within, spent, calls = self._within, self.spent, self.calls
        spent.setdefault(stage, 0.0)
        calls.setdefault(stage, 0)

        def timed(*args: Any, **kwargs: Any) -> Any:
            within.append(0.0)
            began = perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                took = perf_counter() - began
                spent[stage] += took - within.pop()
                calls[stage] += 1
                within[-1] += took

        return timed


def points() -> Iterator[tuple[str, Any, str]]:
    """Stage, owner and name of what is timed."""
    from kedge.protocol.open_inference import rest
    from kedge.runtimes.sklearn import SklearnModel
    from kedge.server import batching, dataplane
    from kedge.server.http import inference
    from kedge.server.http.connection import Connection
    from kedge.server.http.heads import Heads
    from kedge.server.log import RequestLog
    from kedge.server.metrics import Histogram

    yield "parse", Connection, "data_received"
    yield "parse", Connection, "_receive_whole"
    yield "parse", Heads, "find"
    yield "validate", inference.Inference, "answer"
    yield "validate", rest, "decode_request"
    yield "validate", SklearnModel, "rows"
    yield "validate", SklearnModel, "check"
    for name in ("_plain", "_settle"):
        yield "batch", dataplane.DataPlane, name
    for name in ("key_of", "size_of"):
        yield "batch", dataplane, name
    for name in ("join", "split"):
        yield "batch", batching, name
    for name in ("put", "_begin", "_take", "_compute", "_done", "_settle"):
        yield "batch", batching.Queue, name
    yield "predict", SklearnModel, "compute"
    yield "encode", rest, "encode_results"
    yield "encode", inference.Call, "settled"
    yield "encode", Connection, "_deliver"
    yield "encode", Connection, "_send"
    yield "metrics", Histogram, "observe"
    yield "metrics", dataplane.DataPlane, "_note"
    yield "log", RequestLog, "latency"


@contextlib.contextmanager
def timing(timers: Timers) -> Iterator[None]:
    """The functions are timed within the block."""
    originals = []
    for stage, owner, name in points():
        original = getattr(owner, name)
        inherited = isinstance(owner, type) and name not in vars(owner)
        originals.append((owner, name, original, inherited))
        setattr(owner, name, timers.timed(stage, original))
    try:
        yield
    finally:
        for owner, name, original, inherited in originals:
            delattr(owner, name) if inherited else setattr(owner, name, original)


class Silent(asyncio.Transport):
    """Takes what is written; counts answers."""

    def __init__(self) -> None:
        super().__init__({})
        self.answers = 0

    def write(self, data: Any) -> None:
        self.answers += 1

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        return


class Drive:
    """Requests into the connections of a server, and a batch of answers out."""

    def __init__(self, server: Any, clients: int, requests: list[bytes]) -> None:
        from kedge.server.http.connection import Connection

        loop = asyncio.get_running_loop()
        self._requests = requests
        self._turn = 0
        self._wires: list[tuple[Any, Silent]] = []
        for _ in range(clients):
            connection, transport = Connection(server._shared, loop), Silent()
            connection.connection_made(cast(asyncio.Transport, transport))
            self._wires.append((connection, transport))

    async def slice(self) -> float:
        """µs per request."""
        rounds = max(1, SLICE // len(self._wires))
        last = self._wires[-1][1]
        began = perf_counter()
        for _ in range(rounds):
            wanted = last.answers + 1
            for connection, _ in self._wires:
                connection.data_received(self._requests[self._turn])
                self._turn = (self._turn + 1) % len(self._requests)
            while last.answers < wanted:  # noqa: ASYNC110  # one turn of the loop each
                await asyncio.sleep(0)
        return (perf_counter() - began) / (rounds * len(self._wires)) * 1e6


def turns() -> Iterator[int]:
    """So many, or as many as there is time for."""
    end = perf_counter() + SECONDS
    for turn in range(SLICES):
        yield turn
        if perf_counter() > end:
            return


def quiet(values: list[float]) -> float:
    values = sorted(values)
    return statistics.mean(values[: max(1, int(len(values) * _QUIET))])


async def measure(folder: Path, clients: int, requests: list[bytes]) -> dict[str, float]:
    from kedge.runtimes import sklearn
    from kedge.server.options import parse
    from kedge.server.server import ModelServer

    options = parse(["sklearn", "--model_name=iris", f"--model_dir={folder}"])
    server = ModelServer(http_port=0, grpc_port=None, bind_address="127.0.0.1")
    assert server._log is not None
    server._log._write = lambda text: None
    async with server.running([sklearn.make("iris", folder, options)]):
        drive = Drive(server, clients, requests)
        whole = quiet([await drive.slice() for _ in turns()])
        by_stage: list[dict[str, float]] = []
        cost = timer_cost()
        for _ in turns():
            timers = Timers()
            with timing(timers):
                timed = Drive(server, clients, requests)
                await timed.slice()
                for stage in timers.spent:
                    timers.spent[stage], timers.calls[stage] = 0.0, 0
                took = await timed.slice()
            count = max(1, SLICE // clients) * clients
            by_stage.append(stages(timers, took, count, cost))
    by_stage.sort(key=lambda one: one["whole"])
    calm = by_stage[: max(1, int(len(by_stage) * _QUIET))]
    found = {key: statistics.mean(one[key] for one in calm) for key in calm[0]}
    return {**found, "whole, without timers": whole}


def stages(timers: Timers, took: float, count: int, cost: tuple[float, float]) -> dict[str, float]:
    """µs per request by stage, less the timers' own."""
    inner, outer = cost
    found = {
        stage: (spent * 1e6 - timers.calls[stage] * inner) / count
        for stage, spent in timers.spent.items()
    }
    whole = took - sum(timers.calls.values()) * outer / count
    return {**found, "between": whole - sum(found.values()), "whole": whole}


def timer_cost(calls: int = 200, trials: int = 100) -> tuple[float, float]:
    """µs that a timer adds to what it times, and to the whole; undisturbed."""

    def nothing() -> None:
        return

    inner, outer, bare = [], [], []
    for _ in range(trials):
        timers = Timers()
        timed = timers.timed("nothing", nothing)
        began = perf_counter()
        for _ in range(calls):
            timed()
        between = perf_counter()
        for _ in range(calls):
            nothing()
        bare.append(perf_counter() - between)
        outer.append(between - began)
        inner.append(timers.spent["nothing"])
    return min(inner) / calls * 1e6, (min(outer) - min(bare)) / calls * 1e6


def budget() -> dict[str, dict[str, float]]:
    """By number of clients."""
    import uvloop

    with tempfile.TemporaryDirectory(prefix="kedge-budget-") as scratch:
        materials = Materials(Path(scratch))
        folder = materials.model("sklearn")
        url = "http://127.0.0.1:8080/v2/models/iris/infer"
        requests = [one.wire for one in read_requests(url, materials.payload("iris").entries)]
        return {
            str(clients): {
                stage: round(value, 2)
                for stage, value in uvloop.run(measure(folder, clients, requests)).items()
            }
            for clients in CLIENTS
        }


def table(found: dict[str, dict[str, float]]) -> str:
    heads = [f"{clients} client{'s' if clients != '1' else ''}" for clients in found]
    lines = [f"| µs per request | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(heads)}"]
    for stage in next(iter(found.values())):
        cells = (f"{one[stage]:.1f}" for one in found.values())
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    found = budget()
    print(json.dumps(found) if "--json" in sys.argv[1:] else table(found))


if __name__ == "__main__":
    main()
