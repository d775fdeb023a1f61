"""Adaptive batching: what waits while a model is busy is computed together.

A request that finds its model idle waits for nothing but the end of the loop's present turn, in
which all requests that arrived with it are read. Requests that arrive while a worker thread
computes are its next batch. So batches grow with the load, and no one waits on purpose, unless a
latency is configured.

Everything here runs on the event loop, but `_compute`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal

from kedge.protocol.errors import DeadlineExceeded, InferenceError
from kedge.server.execution import MODEL_FAULTS, Pace, Task, Worker, overloaded
from kedge.server.joining import Key, Unsplittable, is_suspect, join, split
from kedge.server.limits import DEFAULT_LIMITS, MIB, Limits
from kedge.server.log import logger
from kedge.server.metrics import ModelMetrics
from kedge.server.model import ArrayModel

INLINE_SHARE = 0.5
WORKER_SECONDS = 0.1


@dataclass(frozen=True)
class Batching:
    """How requests are joined.

    Attributes:
        models: those whose rows are known to be independent; all that pass the comparison at
            warm-up; or none.
        rows: most rows of a batch; a request that alone has more is not split.
        bytes: most bytes of a batch's inputs.
        seconds: how long the first request of a batch waits for others.
    """

    models: Literal["known", "all", "none"] = "known"
    rows: int = 1024
    bytes: int = 16 * MIB
    seconds: float = 0.0


DEFAULT_BATCHING = Batching()


class Job:
    """One request to an array model, from its rows to its answer.

    Attributes:
        key: jobs with equal keys may be joined; None goes alone.
        settle: turns `results` or `error` into `answer` or a `ServingError`.
        encode: the transport's; from the settled job to what goes over the wire. It may use the
            `results` as they are, where `answer` is still None. If it has a `gone`, that is
            called in its place when nobody waits any more.
        deliver: the transport's; told once, when the job is settled; never after `cancel`.
        call: the transport's own: what it delivers to.
        open: neither settled nor cancelled.
        queued: when it was put; as `began`, by `time.perf_counter`.
        began: when its batch was computed; jobs of one batch have the same.
        joined: requests of its batch.
    """

    __slots__ = ("answer", "before", "began", "call", "count", "deliver", "encode", "entry",
                 "error", "joined", "key", "open", "outputs", "payload", "queue", "queued",
                 "request_id", "results", "rows", "seconds", "settle", "size",
                 "started")  # fmt: skip

    def __init__(
        self,
        rows: Any,
        outputs: tuple[str, ...],
        count: int,
        size: int,
        *,
        key: Key | None = None,
        payload: Any = None,
        request_id: str = "",
        entry: Any = None,
        settle: Callable[[Job], None] | None = None,
        before: float = 0.0,
    ) -> None:
        self.rows = rows
        self.outputs = outputs
        self.count = count
        self.size = size
        self.key = key
        self.open = True
        self.started = False
        self.queued = self.began = self.seconds = 0.0
        self.joined = 0
        self.before = before
        self.payload = payload
        self.request_id = request_id
        self.entry = entry
        self.queue: Queue | None = None
        self.results: Any = None
        self.answer: Any = None
        self.error: BaseException | None = None
        self.settle = settle
        self.encode: Callable[[Job], Any] | None = None
        self.deliver: Callable[[Job], None] | None = None
        self.call: Any = None

    def given(self) -> Any:
        """The answer, made of the results when it is first asked for."""
        if self.answer is None:
            self.answer = self.entry.model.answer(self.payload, self.results)
        return self.answer

    def cancel(self) -> None:
        """Nobody waits for it any more: what has not begun never will."""
        if self.open and self.queue is not None:
            self.queue.forget(self)

    async def wait(self) -> Any:
        """The answer, for those who await it."""
        if self.open:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.deliver = lambda job: None if future.done() else future.set_result(None)
            try:
                await future
            finally:
                self.cancel()
        if self.error is not None:
            raise self.error
        return self.answer


class Queue:
    """The jobs of one model: quick ones run on the loop, slow ones in the model's thread.

    Attributes:
        joins: requests may be computed together; found out at warm-up.
        waiting: jobs that have not begun.
    """

    def __init__(
        self,
        model: ArrayModel,
        pace: Pace,
        worker: Worker,
        metrics: ModelMetrics,
        batching: Batching = DEFAULT_BATCHING,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.joins = False
        self.waiting = 0
        self._model = model
        self._pace = pace
        self._worker = worker
        self._metrics = metrics
        self._batching = batching
        self.limit(limits)
        self._quick: dict[Key, deque[Job]] = {}
        self._slow: dict[Key, deque[Job]] = {}
        self._waiting_bytes = 0
        self._waiting_rows = 0
        self._running: list[Job] = []
        self._task: Task | None = None
        self._turn: asyncio.Handle | None = None
        self._soon = False
        self._open: dict[Job, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._then: Callable[[], None] | None = None

    def limit(self, limits: Limits) -> None:
        self._limits = limits
        self._most = limits.concurrency or 1 << 30

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs: a request may be computed where it stands."""
        return not self.waiting and not self._running

    def put(self, job: Job) -> None:
        """Takes a job; it is settled in a later turn of the loop. Raises `Overloaded`."""
        limits = self._limits
        if self.waiting and (
            self.waiting >= limits.waiting or self._waiting_bytes + job.size > limits.waiting_bytes
        ):
            raise overloaded(self._model.name, self.waiting)
        job.queue = self
        job.queued = perf_counter()
        pace = self._pace
        quick = pace.inline and job.count <= pace.rows
        lane = self._quick if quick else self._slow
        key = job.key or (id(job),)
        group = lane.get(key)
        if group is None:
            lane[key] = deque((job,))
        else:
            group.append(job)
        self.waiting += 1
        self._waiting_bytes += job.size
        self._waiting_rows += job.count
        self._metrics.waiting += 1
        self._metrics.in_flight += 1
        if limits.request_seconds:
            self._watch(job)
        if not self._soon:
            self._wake()

    def forget(self, job: Job) -> None:
        """The job's client has gone, or was told that it took too long."""
        job.open = False
        gone = getattr(job.encode, "gone", None)
        if gone is not None:
            gone(job)
        job.payload = job.deliver = job.call = None
        self._open.pop(job, None)
        self._metrics.in_flight -= 1
        if not job.started:
            self._leave(job)
            job.rows = None
        elif self._task is not None and not any(one.open for one in self._running):
            self._task.cancel()

    def drain(self, then: Callable[[], None]) -> None:
        """Calls `then` when what is here has been answered: at once when nothing is."""
        if self.idle:
            then()
        else:
            self._then = then

    # -- turns -----------------------------------------------------------------------------------

    def _wake(self) -> None:
        """A batch begins at the end of this turn; or when its latency is over, or it is full."""
        loop = asyncio.get_running_loop()
        seconds = self._batching.seconds
        if seconds and self.joins and self._waiting_rows < self._batching.rows:
            if self._turn is None:
                self._turn = loop.call_later(seconds, self._begin)
            return
        if self._turn is not None:
            self._turn.cancel()
        self._soon = True
        self._turn = loop.call_soon(self._begin)

    def _begin(self) -> None:
        """One batch on the loop, and one in the thread if it is free."""
        self._turn, self._soon = None, False
        inline = self._pace.inline
        free = not self._running
        if self._quick and inline and (free or self._model.reentrant):
            most = max(1, int(self._pace.rows * INLINE_SHARE))
            if batch := self._take(self._quick, most):
                began = perf_counter()
                outcomes = self._compute(batch)
                self._done(batch, outcomes, began, perf_counter() - began)
        if not self._running:
            self._begin_slow(inline)
        may_begin = not self._running or self._model.reentrant
        if self._quick and inline and may_begin and not self._soon:
            self._soon = True
            self._turn = asyncio.get_running_loop().call_soon(self._begin)
        if self._then is not None and self.idle:
            then, self._then = self._then, None
            then()

    def _begin_slow(self, inline: bool) -> None:
        lane = self._slow or ({} if inline else self._quick)
        most = max(1, int(self._pace.rows * WORKER_SECONDS / self._pace.limit))
        while lane and not self._running:
            self._running = self._take(lane, most)
        if batch := self._running:
            began = perf_counter()
            self._task = self._worker.submit(
                lambda: self._compute(batch), lambda task: self._back(task, batch, began)
            )

    def _back(self, task: Task, batch: list[Job], began: float) -> None:
        """The thread has answered."""
        if task is not self._task:
            return  # It was given up.
        self._running, self._task = [], None
        outcomes = task.answer
        if outcomes is None:
            outcomes = [task.error or InferenceError("The model's thread has ended.")] * len(batch)
        self._done(batch, outcomes, began, task.seconds)
        self._begin()

    def _take(self, lane: dict[Key, deque[Job]], most: int) -> list[Job]:
        """The next batch: jobs of one key, in order, within the limits."""
        key, group = next(iter(lane.items()))
        most = min(most, self._batching.rows)
        batch: list[Job] = []
        rows = size = 0
        while group:
            job = group[0]
            if job.open:
                rows += job.count
                size += job.size
                full = rows > most or size > self._batching.bytes or len(batch) >= self._most
                if batch and full:
                    break
                job.started = True
                self._leave(job)
                batch.append(job)
            group.popleft()
        del lane[key]
        if group:
            lane[key] = group  # Behind the others.
        return batch

    def _leave(self, job: Job) -> None:
        self.waiting -= 1
        self._waiting_bytes -= job.size
        self._waiting_rows -= job.count
        self._metrics.waiting -= 1

    def _done(
        self, batch: list[Job], outcomes: Sequence[Any], began: float, seconds: float
    ) -> None:
        metrics = self._metrics
        rows = 0
        failed = False
        wait = metrics.wait.observe
        for job, outcome in zip(batch, outcomes, strict=True):
            rows += job.count
            wait(began - job.queued)
            if isinstance(outcome, BaseException):
                job.error = outcome
                failed = True
            else:
                job.results = outcome
        metrics.batch_rows.observe(rows)
        metrics.batch_requests.observe(len(batch))
        if not failed:
            self._pace.note(seconds, rows)
        before, after = metrics.preprocess.total, metrics.postprocess.total
        for job in batch:
            if job.open:
                job.began, job.seconds, job.joined = began, seconds, len(batch)
                self._settle(job)
            job.rows = job.results = None
        metrics.inferences += (
            rows if not failed else sum(job.count for job in batch if job.error is None)
        )
        before = metrics.preprocess.total - before
        metrics.ran(rows, before, seconds, metrics.postprocess.total - after)

    def _settle(self, job: Job) -> None:
        job.open = False
        self._metrics.in_flight -= 1
        if self._open:
            self._open.pop(job, None)
        try:
            if job.settle is not None:
                job.settle(job)
            if job.deliver is not None:
                job.deliver(job)
        except Exception:
            logger.exception("model %s: an answer was lost", self._model.name)
        job.deliver = job.encode = job.call = None

    # -- computing -------------------------------------------------------------------------------

    def _compute(self, batch: list[Job]) -> list[Any]:
        """What each job gets: its results, or what was raised for it."""
        if len(batch) == 1:
            return [self._alone(batch[0])]
        try:
            rows = join([job.rows for job in batch])
            results = self._model.compute(rows, batch[0].outputs)
            return list(split(results, [job.count for job in batch]))
        except Unsplittable as error:
            self.joins = False
            logger.warning("model %s: requests are no longer joined: %s", self._model.name, error)
            return [self._alone(job) for job in batch]
        except MODEL_FAULTS:
            return self._apart(batch)

    def _alone(self, job: Job) -> Any:
        try:
            return self._model.compute(job.rows, job.outputs)
        except MODEL_FAULTS as error:
            return error

    def _apart(self, batch: list[Job]) -> list[Any]:
        """A batch failed: likely culprits go alone, or each half by itself."""
        suspects = [is_suspect(job.rows) for job in batch]
        if all(suspects) or not any(suspects):
            middle = len(batch) // 2
            return self._compute(batch[:middle]) + self._compute(batch[middle:])
        good = [job for job, suspect in zip(batch, suspects, strict=True) if not suspect]
        rest = iter(self._compute(good))
        return [
            self._alone(job) if suspect else next(rest)
            for job, suspect in zip(batch, suspects, strict=True)
        ]

    # -- time-outs -------------------------------------------------------------------------------

    def _watch(self, job: Job) -> None:
        loop = asyncio.get_running_loop()
        seconds = self._limits.request_seconds
        self._open[job] = loop.time() + seconds
        if self._timer is None:
            self._timer = loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        """Tells those whose time is over; a thread that serves nobody else is given up."""
        loop = asyncio.get_running_loop()
        now = loop.time() + 0.001
        for job in [job for job, deadline in self._open.items() if deadline <= now]:
            job.error = took_too_long(self._model.name, self._limits.request_seconds)
            if not job.started:
                self._leave(job)
                job.rows = None
            self._settle(job)
        task = self._task
        unheard = task is not None and not any(job.open for job in self._running)
        if task is not None and unheard and self._worker.abandon(task):
            self._running, self._task = [], None
            self._wake()
        left = next(iter(self._open.values()), None)
        self._timer = None if left is None else loop.call_at(left, self._expire)


def took_too_long(name: str, seconds: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"Model {name} did not answer within {seconds:g} s.")
