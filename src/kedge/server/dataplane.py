"""From a request to its answer, blind to transport.

A transport asks `find` for the model, decodes the body, and calls `run`. What comes back is the
answer itself when the model is quick and synchronous, else a coroutine: most requests never become
a task. Errors are `ServingError`s; what a model raises of its own becomes an `InferenceError` that
names the model, and its traceback goes to the log.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol, cast

import orjson

from kedge.protocol.errors import (
    InferenceError,
    InvalidInput,
    ModelNotReady,
    ServingError,
    Unsupported,
)
from kedge.protocol.inference import (
    InferRequest,
    InferResponse,
    ModelMetadata,
    ServerMetadata,
    misfit,
)
from kedge.protocol.open_inference import rest
from kedge.server.batching import Job, Queue, took_too_long
from kedge.server.execution import MODEL_FAULTS
from kedge.server.joining import key_of, size_of
from kedge.server.log import RequestLog, logger
from kedge.server.model import ArrayModel, Headers, Model, RequestHeaders, row_count
from kedge.server.repository import Entry, Repository
from kedge.server.side.process import SideProcess
from kedge.server.statistics import ModelStatistics, Statistics, added
from kedge.server.streaming import END, Talk, settled

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from kedge.server.predictor import Predictor

Verb = Literal["predict", "explain"]
Answer = Any
"""A JSON value for V1, an `InferResponse` for Open Inference."""

EXTENSIONS = ("binary_tensor_data", "model_repository", "statistics", "generate")


class Crew(Protocol):
    """All processes that serve the same ports; this one is among them."""

    def ready(self) -> bool: ...

    async def families(self) -> list[Metric]: ...

    async def statistics(self) -> list[ModelStatistics]: ...

    def leaving(self) -> None:
        """This process was told to end, and not by the others."""


class DataPlane:
    """Everything a transport may ask of the models.

    Attributes:
        crew: None where this process is the only one.
        health: the predictor whose readiness counts with this server's own; mostly None.
        on_step: told of each step of a request that is not in a queue: its name, and when it
            began and ended (`time.perf_counter`); None when nobody listens.
        side: reads large JSON.
    """

    crew: Crew | None = None

    def __init__(
        self, repository: Repository, *, version: str = "", log: RequestLog | None = None
    ) -> None:
        self.repository = repository
        self.find: Callable[[str, str], Entry] = repository.find_ready
        self.statistics = Statistics(repository)
        self.health: Predictor | None = None
        self.on_step: Callable[[str, float, float], None] | None = None
        self.side = SideProcess(repository.limits)
        self._version = version
        self._log = log

    # -- what is here ----------------------------------------------------------------------------

    def ready(self) -> bool:
        """All models can answer, in every process."""
        return self.ready_here() and (self.crew is None or self.crew.ready())

    def ready_here(self) -> bool:
        return all(entry.model.ready for entry in self.repository.entries())

    async def whole_ready(self) -> bool:
        """The same, and the predictor behind them where that is asked for."""
        ready = self.ready()
        return ready if self.health is None or not ready else await self.health.ready()

    async def check_ready(self, name: str, version: str = "") -> None:
        """Raises `ModelNotReady` where the model, or what it forwards to, cannot answer."""
        model = self.find(name, version).model
        if self.health is not None:
            predictor = model.predictor if model.forwards("predict") else None
            if not await (predictor or self.health).ready(name):
                raise ModelNotReady(name)

    def server_metadata(self) -> ServerMetadata:
        return ServerMetadata("kedge", self._version, EXTENSIONS)

    async def model_statistics(self, name: str = "", version: str = "") -> list[ModelStatistics]:
        """One model's, or everyone's; those of all processes together."""
        own = self.statistics.of(name, version)
        return own if self.crew is None else added(own, await self.crew.statistics())

    def model_metadata(self, name: str, version: str = "") -> ModelMetadata:
        model = self.repository.find(name, version).model
        about = model.metadata()
        if model.version and not about.versions:
            about = replace(about, versions=(model.version,))
        return about

    # -- inference -------------------------------------------------------------------------------

    def run(
        self, entry: Entry, payload: Any, request_id: str, headers: Headers | None = None
    ) -> Answer | Coroutine[Any, Any, Answer]:
        """The prediction, or a coroutine that gives it."""
        outcome = self.begin(entry, payload, request_id, headers)
        return outcome.wait() if isinstance(outcome, Job) else outcome

    def begin(
        self, entry: Entry, payload: Any, request_id: str, headers: Headers | None = None
    ) -> Answer | Job | Coroutine[Any, Any, Answer]:
        """The same without a coroutine where the request waits in the model's queue.

        Who gets a `Job` sets its `deliver` before the loop's turn ends.
        """
        if entry.plain:
            return self._plain(entry, cast(ArrayModel, entry.model), payload, request_id)
        if entry.streams:
            raise InvalidInput(
                f"Model {entry.model.name} gives many answers to one request.",
                fix=f"Ask /v2/models/{entry.model.name}/infer_stream, or ModelStreamInfer.",
            )
        return self.answer(entry, "predict", payload, request_id, headers or {})

    def _plain(
        self, entry: Entry, model: ArrayModel, payload: Any, request_id: str
    ) -> Answer | Job:
        """The shortest way: no step but the model's own."""
        started = perf_counter()
        queue, pace = cast(Queue, entry.queue), entry.pace
        try:
            rows, outputs = model.rows(payload)
            count = row_count(rows)
            key = None
            if queue.joins and (key := key_of(rows, outputs)) is not None:
                model.check(rows)
            elif pace.inline and count <= pace.rows and queue.idle:
                return self._at_once(entry, payload, request_id, rows, outputs, started)
        except ServingError:
            raise
        except MODEL_FAULTS as error:
            raise failed(model, error, request_id) from error
        job = Job(
            rows,
            outputs,
            count,
            size_of(rows),
            key=key,
            payload=payload,
            request_id=request_id,
            entry=entry,
            settle=self._settle,
            before=perf_counter() - started,
        )
        queue.put(job)
        return job

    def _at_once(
        self,
        entry: Entry,
        payload: Any,
        request_id: str,
        rows: Any,
        outputs: tuple[str, ...],
        started: float,
    ) -> Answer:
        """What is quick and joins no others is computed where it stands."""
        model = cast(ArrayModel, entry.model)
        ready = perf_counter()
        results = model.compute(rows, outputs)
        computed = perf_counter()
        answer = model.answer(payload, results)
        if self.on_step is not None:
            self.on_step("predict", ready, computed)
        count = row_count(rows)
        entry.pace.note(computed - ready, count)
        before, seconds, after = ready - started, computed - ready, perf_counter() - computed
        entry.metrics.inferences += count
        entry.metrics.ran(count, before, seconds, after)
        self._note(entry, request_id, before, seconds, after)
        return answer

    def _settle(self, job: Job) -> None:
        """From what the model gave to the answer, or to the error that the client is told.

        A transport that can write a model's arrays as they are makes the answer itself.
        """
        entry: Entry = job.entry
        model = cast(ArrayModel, entry.model)
        computed = perf_counter()
        plain = type(model).answer is ArrayModel.answer and isinstance(job.payload, InferRequest)
        if job.error is None and not (plain and job.encode is not None):
            try:
                job.answer = model.answer(job.payload, job.results)
            except MODEL_FAULTS as error:
                job.error = error
        if job.error is not None and not isinstance(job.error, ServingError):
            job.error = failed(model, job.error, job.request_id)
        self._note(entry, job.request_id, job.before, job.seconds, perf_counter() - computed)

    def _note(
        self, entry: Entry, request_id: str, before: float, predict: float, after: float
    ) -> None:
        metrics = entry.metrics
        metrics.preprocess.observe(before)
        metrics.predict.observe(predict)
        metrics.postprocess.observe(after)
        if self._log is not None:
            self._log.latency(request_id, before, 0.0, predict, after)

    async def answer(
        self, entry: Entry, verb: Verb, payload: Any, request_id: str, headers: Headers
    ) -> Answer:
        """The long way: any model, any step, here or in its thread."""
        entry = self._present(entry, payload)
        entry.hold()
        try:
            return await self._in_time(entry, verb, payload, request_id, headers)
        finally:
            entry.release()

    def _present(self, entry: Entry, payload: Any) -> Entry:
        """The model that has meanwhile taken the place of one that was found a moment ago."""
        if not entry.over:
            return entry
        version = payload.model_version if isinstance(payload, InferRequest) else ""
        return self.find(entry.model.name, version)

    async def _in_time(
        self, entry: Entry, verb: Verb, payload: Any, request_id: str, headers: Headers
    ) -> Answer:
        seconds = self.repository.limits.request_seconds
        deadline = asyncio.get_running_loop().time() + seconds if seconds else None
        try:
            async with asyncio.timeout_at(deadline):
                if entry.gate is None:
                    return await self._steps(entry, verb, payload, request_id, headers, deadline)
                async with entry.gate:
                    return await self._steps(entry, verb, payload, request_id, headers, deadline)
        except TimeoutError as error:
            raise took_too_long(entry.model.name, seconds) from error

    async def _steps(
        self,
        entry: Entry,
        verb: Verb,
        payload: Any,
        request_id: str,
        headers: Headers,
        deadline: float | None,
    ) -> Answer:
        model, metrics = entry.model, entry.metrics
        metrics.in_flight += 1
        spent = {"preprocess": 0.0, "predict": 0.0, "explain": 0.0, "postprocess": 0.0}

        async def step(name: str, work: Callable[[], Any]) -> Any:
            started = perf_counter()
            try:
                outcome = work()
                return await outcome if inspect.isawaitable(outcome) else outcome
            finally:
                ended = perf_counter()
                spent[name] = ended - started
                getattr(metrics, name).observe(spent[name])
                if self.on_step is not None:
                    self.on_step(name, started, ended)

        try:
            question = await step("preprocess", partial(model.preprocess, payload, headers))
            result = await step(verb, self._main_step(entry, verb, question, headers, deadline))
            result = await step("postprocess", _asked(model.postprocess, result, headers))
            answer = _checked(model, payload, result)
            if verb == "predict":
                metrics.inferences += 1
                metrics.ran(1, spent["preprocess"], spent["predict"], spent["postprocess"])
            return answer
        except MODEL_FAULTS as error:
            blame(model, error, request_id)
        finally:
            metrics.in_flight -= 1
            if self._log is not None:
                self._log.latency(
                    request_id,
                    spent["preprocess"],
                    spent["explain"],
                    spent["predict"],
                    spent["postprocess"],
                )

    async def stream(
        self, entry: Entry, payload: Any, request_id: str, headers: Headers
    ) -> AsyncGenerator[Answer, None]:
        """The answers of a model that gives many; of any other, its one."""
        if not entry.streams:
            outcome = self.run(entry, payload, request_id, headers)
            yield await outcome if inspect.isawaitable(outcome) else outcome
            return
        entry = self._present(entry, payload)
        model = entry.model
        started = perf_counter()
        talk = Talk(entry, self.repository.limits.request_seconds)

        async def predict() -> Any:
            return model.predict(await settled(model.preprocess(payload, headers)), headers)

        async def finish(item: Any) -> Answer:
            return _checked(model, payload, await settled(model.postprocess(item, headers)))

        try:
            await talk.begin(partial(_guarded, model, request_id, predict))
            following = partial(_guarded, model, request_id, partial(talk.next, finish))
            while (answer := await following()) is not END:
                yield answer
            entry.metrics.inferences += 1
        finally:
            await talk.end()
            seconds = perf_counter() - started
            entry.metrics.ran(1, 0.0, seconds, 0.0)
            self._note(entry, request_id, 0.0, seconds, 0.0)

    def _main_step(
        self, entry: Entry, verb: Verb, payload: Any, headers: Headers, deadline: float | None
    ) -> Callable[[], Any]:
        model = entry.model
        method = model.predict if verb == "predict" else model.explain
        if inspect.iscoroutinefunction(method) or model.forwards(verb):
            return _asked(method, payload, headers)
        return partial(self._synchronous, entry, _asked(method, payload, headers), deadline)

    async def _synchronous(
        self, entry: Entry, work: Callable[[], Any], deadline: float | None
    ) -> Any:
        if entry.pace.inline:
            started = perf_counter()
            outcome = work()
            seconds = perf_counter() - started
        else:
            if self.on_step is not None:
                work = partial(copy_context().run, work)  # Its own spans belong to the request's.
            outcome, seconds = await entry.worker.run(work, deadline)
        entry.pace.note(seconds)
        return await outcome if inspect.isawaitable(outcome) else outcome


def _asked(method: Callable[..., Any], payload: Any, headers: Headers) -> Callable[[], Any]:
    """A step of a model; one in KServe's manner is given the answer's headers, too."""
    if not isinstance(headers, RequestHeaders):
        return partial(method, payload, headers)
    if "response_headers" in inspect.signature(method).parameters:
        return partial(method, payload, headers, response_headers=headers.response)
    return partial(method, payload, headers)


def _checked(model: Model, payload: Any, result: Any) -> Any:
    """An Open Inference request needs an `InferResponse`; its id and outputs are set straight."""
    if not isinstance(payload, InferRequest):
        return result
    if isinstance(result, dict) and "outputs" in result:
        result = rest.decode_response(orjson.dumps({"model_name": model.name, **result}))
    if not isinstance(result, InferResponse):
        logger.error(
            "model %s answered an InferRequest with %s; return an InferResponse",
            model.name,
            type(result).__name__,
        )
        raise InferenceError(f"Model {model.name} gave an answer that Open Inference cannot carry.")
    for tensor in result.outputs:
        if fault := misfit(tensor):
            logger.error("model %s: output %r: %s", model.name, tensor.name, fault)
            raise InferenceError(f"Model {model.name} gave an output that is not what it says.")
    result.id = result.id or payload.id
    result.model_version = result.model_version or model.version
    return result.select(payload.outputs)


async def _guarded(model: Model, request_id: str, step: Callable[[], Awaitable[Any]]) -> Any:
    """What a model's step gives, or the error that the client is told."""
    try:
        return await step()
    except MODEL_FAULTS as error:
        blame(model, error, request_id)


def blame(model: Model, error: BaseException, request_id: str) -> NoReturn:
    """Raises what the client is told when a model's step raised `error`.

    A cancellation is the model's own fault where nobody cancelled the request: it would leave its
    client without an answer.
    """
    task = asyncio.current_task()
    cancelled = isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling())
    if cancelled or isinstance(error, ServingError):
        raise error
    if isinstance(error, NotImplementedError):
        raise Unsupported(f"Model {model.name}: {error or 'not implemented'}") from error
    raise failed(model, error, request_id) from error


def failed(model: Model, error: BaseException, request_id: str) -> InferenceError:
    """What the client is told when a model raised: its name, and nothing of what it said."""
    logger.error(
        "model %s failed (request %s)",
        model.name,
        request_id,
        exc_info=error,
        extra={"request": request_id},
    )
    if isinstance(error, MemoryError):
        return InferenceError(
            f"Model {model.name} ran out of memory while answering.",
            fix="Send fewer rows at once, or raise the predictor's limits.memory.",
        )
    return InferenceError(f"Model {model.name} failed while answering; its log tells why.")
