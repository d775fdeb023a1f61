"""What waits goes together, and nobody notices but the clock."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy as np
import pytest
from tests.unit.server.models import Doubler, Hanging

from kedge.protocol.datatypes import Array
from kedge.protocol.errors import DeadlineExceeded, InferenceError, InvalidInput, Overloaded
from kedge.protocol.inference import InferRequest, RequestedOutput
from kedge.protocol.v1 import Rows
from kedge.server.batching import Batching, Job
from kedge.server.dataplane import DataPlane
from kedge.server.limits import Limits
from kedge.server.metrics import Metrics
from kedge.server.model import Model
from kedge.server.repository import Entry, Repository
from kedge.server.statistics import added


class Counting(Doubler):
    """Doubles, remembers how many rows it was asked with, and refuses negative numbers."""

    independent_rows = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.asked: list[int] = []

    def output_names(self) -> tuple[str, ...]:
        return ("output-0",)

    def check(self, rows: Rows) -> None:
        if isinstance(rows, np.ndarray) and rows.shape[1] != 2:
            raise InvalidInput("two columns")

    def compute(self, rows: Rows, outputs: tuple[str, ...]) -> Mapping[str, Array]:
        array = np.asarray(rows)
        self.asked.append(len(array))
        if (array == -1).any():
            raise InvalidInput("a number is negative")
        if (array == -2).any():
            raise ValueError("the secret is 42")
        if np.isnan(array).any():
            raise InvalidInput("a number is missing")
        return super().compute(rows, outputs)


class Held(Counting):
    """Answers when it is let go."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.go = threading.Event()
        self.began = threading.Event()
        self.holding = False

    def compute(self, rows: Rows, outputs: tuple[str, ...]) -> Mapping[str, Array]:
        if self.holding and np.asarray(rows).any():
            self.began.set()
            assert self.go.wait(20)
        return super().compute(rows, outputs)


class World:
    """A data plane of one model."""

    def __init__(self, plane: DataPlane, entry: Entry, metrics: Metrics) -> None:
        self.plane, self.entry, self.metrics = plane, entry, metrics

    def ask(self, *rows: float, columns: int = 2) -> asyncio.Task[Any]:
        payload = {"instances": [[row] * columns for row in rows]}
        return asyncio.create_task(self.answer(self.plane.run(self.entry, payload, "")))

    async def answer(self, outcome: Any) -> Any:
        answer = await outcome
        return answer["predictions"].tolist()


async def world(
    model: Model, batching: Batching | None = None, limits: Limits | None = None
) -> World:
    metrics = Metrics()
    repository = Repository(metrics, batching=batching or Batching(), limits=limits or Limits())
    entry = await repository.start(model)
    if isinstance(model, Counting):
        entry.pace.inline = not isinstance(model, Held)
        entry.pace.rows = 1000
        model.asked.clear()
    if isinstance(model, Held):
        model.holding = True
    return World(DataPlane(repository), entry, metrics)


@pytest.fixture
async def held() -> AsyncIterator[Held]:
    model = Held("m")
    yield model
    model.go.set()


async def together(*asked: asyncio.Task[Any]) -> list[Any]:
    return await asyncio.gather(*asked)


async def begun(model: Held) -> None:
    await asyncio.to_thread(model.began.wait)


async def test_statistics_tell_of_batches() -> None:
    here = await world(Counting("m"))
    await together(here.ask(1), here.ask(2, 3), here.ask(4))
    await together(here.ask(5))
    (told,) = here.plane.statistics.of("m")
    assert (told.inference_count, told.execution_count) == (5, 2)
    assert told.durations["queue"].count == 4
    assert {rows: one["compute_infer"].count for rows, one in told.batches.items()} == {4: 1, 1: 1}
    assert all(one["compute_output"].ns > 0 for one in told.batches.values())
    (doubled,) = added([told], [told, told])
    assert doubled.batches[4]["compute_infer"].count == 2
    assert doubled.inference_count == 10


async def test_requests_of_one_turn_are_computed_together() -> None:
    here = await world(model := Counting("m"))
    answers = await together(here.ask(1), here.ask(2, 3), here.ask(4))
    assert answers == [[[2, 2]], [[4, 4], [6, 6]], [[8, 8]]]
    assert model.asked == [4]
    page = here.metrics.exposition("")[0].decode()
    assert 'model_batch_requests_sum{model_name="m"} 3.0' in page
    assert 'model_batch_rows_sum{model_name="m"} 4.0' in page
    assert 'model_queue_seconds_count{model_name="m"} 3.0' in page
    assert 'model_requests_waiting{model_name="m"} 0.0' in page
    assert here.entry.metrics.in_flight == 0


async def test_v1_and_infer_share_a_batch_and_each_has_its_form() -> None:
    here = await world(model := Counting("m"))
    request = InferRequest.from_json("m", {"x": ("INT64", [1, 2], [5, 5])})
    request.id = "7"
    v1, v2 = here.ask(1), asyncio.ensure_future(here.plane.run(here.entry, request, ""))
    assert await v1 == [[2, 2]]
    assert (await v2).id == "7"
    assert (await v2).outputs[0].array.tolist() == [[10, 10]]
    assert model.asked == [2]


async def test_other_outputs_or_types_wait_for_the_next_turn() -> None:
    here = await world(model := Counting("m"))
    floats = InferRequest.from_json("m", {"x": ("FP32", [1, 2], [5, 5])})
    one, two = here.ask(1), asyncio.ensure_future(here.plane.run(here.entry, floats, ""))
    assert (await one, (await two).outputs[0].datatype) == ([[2, 2]], "FP32")
    assert model.asked == [1, 1]
    unknown = InferRequest.from_json("m", {"x": ("FP32", [1, 2], [5, 5])})
    unknown.outputs = [RequestedOutput("no")]
    with pytest.raises(InvalidInput, match="Unexpected inference output"):
        here.plane.run(here.entry, unknown, "")


@pytest.mark.parametrize(
    ("bad", "expected"),
    [(-1.0, InvalidInput), (float("nan"), InvalidInput), (-2.0, InferenceError)],
)
async def test_a_bad_request_fails_alone(bad: float, expected: type[Exception]) -> None:
    here = await world(Counting("m"))
    asked = [here.ask(float(number)) for number in range(1, 8)]
    wrong = here.ask(1.0, bad)
    asked += [here.ask(float(number)) for number in range(8, 12)]
    with pytest.raises(expected):
        await wrong
    assert await asyncio.gather(*asked) == [[[2 * n, 2 * n]] for n in range(1, 12)]


async def test_a_gap_costs_two_further_computations() -> None:
    here = await world(model := Counting("m"))
    asked = [here.ask(float(number)) for number in range(1, 32)]
    wrong = here.ask(float("nan"))
    await asyncio.wait([*asked, wrong])
    assert model.asked == [32, 31, 1]
    assert isinstance(wrong.exception(), InvalidInput)


async def test_what_can_be_checked_is_never_joined() -> None:
    here = await world(model := Counting("m"))
    good = here.ask(1)
    with pytest.raises(InvalidInput, match="two columns"):
        here.ask(1, columns=3)
    assert await good == [[2, 2]]
    assert model.asked == [1]


async def test_what_waits_for_the_thread_is_its_next_batch(held: Held) -> None:
    here = await world(held)
    first = here.ask(1)
    await begun(held)
    rest = [here.ask(number) for number in range(2, 6)]
    await asyncio.sleep(0)
    assert here.entry.metrics.waiting == 4
    held.go.set()
    assert await first == [[2, 2]]
    assert await asyncio.gather(*rest) == [[[2 * n, 2 * n]] for n in range(2, 6)]
    assert held.asked == [1, 4]


async def test_limits_of_a_batch_in_rows_and_bytes() -> None:
    here = await world(model := Counting("m"), Batching(rows=4))
    answers = await asyncio.gather(*(here.ask(n, n) for n in range(1, 6)), here.ask(*range(1, 8)))
    assert [len(answer) for answer in answers] == [2, 2, 2, 2, 2, 7]
    assert model.asked == [4, 4, 2, 7]
    here = await world(model := Counting("m"), Batching(bytes=40))
    await asyncio.gather(*(here.ask(n) for n in range(1, 6)))
    assert model.asked == [2, 2, 1]
    here = await world(model := Counting("m"), limits=Limits(concurrency=3))
    await asyncio.gather(*(here.ask(n) for n in range(1, 6)))
    assert model.asked == [3, 2]


async def test_a_latency_lets_a_batch_fill() -> None:
    here = await world(model := Counting("m"), Batching(rows=3, seconds=30.0))
    one, two = here.ask(1), here.ask(2)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not model.asked
    await asyncio.gather(one, two, here.ask(3))
    assert model.asked == [3]


async def test_a_cancelled_request_is_not_computed(held: Held) -> None:
    here = await world(held)
    first = here.ask(1)
    await begun(held)
    gone, stays = here.ask(2), here.ask(3)
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    assert here.entry.metrics.waiting == 1
    held.go.set()
    assert await stays == [[6, 6]]
    assert await first == [[2, 2]]
    assert held.asked == [1, 1]
    assert here.entry.metrics.in_flight == 0


async def test_a_job_cancelled_by_its_transport_is_never_delivered() -> None:
    here = await world(model := Counting("m"))
    job = here.plane.begin(here.entry, {"instances": [[1, 1]]}, "")
    assert isinstance(job, Job)
    delivered: list[Job] = []
    job.deliver = delivered.append
    job.cancel()
    await here.ask(2)
    assert (delivered, model.asked) == ([], [1])


async def test_more_than_the_queue_holds_is_refused(held: Held) -> None:
    here = await world(held, limits=Limits(waiting=2))
    asked = [here.ask(1)]
    await begun(held)
    asked += [here.ask(2), here.ask(3)]
    with pytest.raises(Overloaded, match="2 requests waiting"):
        here.ask(4)
    held.go.set()
    assert len(await asyncio.gather(*asked)) == 3
    here = await world(model := Held("m"), limits=Limits(waiting_bytes=20))
    asked = [here.ask(1)]
    await begun(model)
    asked.append(here.ask(2))
    with pytest.raises(Overloaded):
        here.ask(3)
    model.go.set()
    await asyncio.gather(*asked)


async def test_a_time_out_frees_the_place_and_the_thread(held: Held) -> None:
    here = await world(held, limits=Limits(request_seconds=0.02))
    with pytest.raises(DeadlineExceeded, match=r"Model m did not answer within 0.02 s"):
        await here.ask(1)
    assert here.entry.metrics.in_flight == here.entry.metrics.waiting == 0
    assert await here.ask(0) == [[0, 0]]  # Another thread answers while the first still hangs.


async def test_a_long_way_is_limited_and_timed() -> None:
    here = await world(Hanging("m"), limits=Limits(concurrency=1, waiting=1, request_seconds=0.02))
    asked = [here.ask(1) for _ in range(3)]
    await asyncio.wait(asked)
    kinds = [type(task.exception()) for task in asked]
    assert kinds == [DeadlineExceeded, DeadlineExceeded, Overloaded]
    assert here.entry.users == here.entry.metrics.in_flight == 0


async def test_models_join_by_declaration_or_by_option() -> None:
    for batching, joins in (("known", False), ("all", True), ("none", False)):
        here = await world(Doubler("m"), Batching(models=batching))  # type: ignore[arg-type]  # a literal of each
        assert here.entry.queue is not None
        assert here.entry.queue.joins is joins


async def test_a_model_that_loses_rows_is_no_longer_joined(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Losing(Counting):
        def compute(self, rows: Rows, outputs: tuple[str, ...]) -> Mapping[str, Array]:
            results = super().compute(rows, outputs)
            return {n: a[:1] for n, a in results.items()} if np.asarray(rows).any() else results

    here = await world(Losing("m"))
    assert here.entry.queue is not None
    here.entry.queue.joins = True
    assert await together(here.ask(1), here.ask(2)) == [[[2, 2]], [[4, 4]]]
    assert not here.entry.queue.joins
    assert "no longer joined: output 'output-0' has shape [1, 2] for 2 rows" in caplog.text


async def test_a_replaced_model_answers_what_it_was_asked(held: Held) -> None:
    here = await world(held)
    first = here.ask(1)
    await begun(held)
    second = here.ask(2)
    await here.plane.repository.start(Counting("m"))
    assert held.ready
    held.go.set()
    assert [await first, await second] == [[[2, 2]], [[4, 4]]]
    await asyncio.sleep(0)
    assert not held.ready
