"""From a request to its answer, blind to transport.

A transport asks `find` for the model, decodes the body, and calls `run`. What comes back is the
answer itself when the model is quick and synchronous, else a coroutine: most requests never become
a task. Errors are `ServingError`s; what a model raises of its own becomes an `InferenceError` that
names the model, and its traceback goes to the log.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from functools import partial
from time import perf_counter
from typing import Any, Literal, cast

import orjson

from kedge.protocol.errors import InferenceError, InvalidInput, ServingError, Unsupported
from kedge.protocol.inference import InferRequest, InferResponse, ModelMetadata, ServerMetadata
from kedge.protocol.open_inference import rest
from kedge.server.log import RequestLog, logger
from kedge.server.model import ArrayModel, Headers, Model, row_count
from kedge.server.repository import Entry, Repository
from kedge.server.statistics import Statistics
from kedge.server.streaming import each, settled

Verb = Literal["predict", "explain"]
Answer = Any
"""A JSON value for V1, an `InferResponse` for Open Inference."""

EXTENSIONS = ("binary_tensor_data", "model_repository", "statistics", "generate")


class DataPlane:
    """Everything a transport may ask of the models."""

    def __init__(
        self, repository: Repository, *, version: str = "", log: RequestLog | None = None
    ) -> None:
        self.repository = repository
        self.find: Callable[[str, str], Entry] = repository.find_ready
        self.statistics = Statistics(repository)
        self._version = version
        self._log = log

    # -- what is here ----------------------------------------------------------------------------

    def ready(self) -> bool:
        """All models can answer."""
        return all(entry.model.ready for entry in self.repository.entries())

    def server_metadata(self) -> ServerMetadata:
        return ServerMetadata("kedge", self._version, EXTENSIONS)

    def model_metadata(self, name: str, version: str = "") -> ModelMetadata:
        return self.repository.find(name, version).model.metadata()

    # -- inference -------------------------------------------------------------------------------

    def run(
        self, entry: Entry, payload: Any, request_id: str, headers: Headers | None = None
    ) -> Answer | Coroutine[Any, Any, Answer]:
        """The prediction, or a coroutine that gives it."""
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
    ) -> Answer | Coroutine[Any, Any, Answer]:
        """The shortest way: no step but the model's own, and no coroutine when it is quick."""
        started = perf_counter()
        try:
            rows, outputs = model.rows(payload)
            ready = perf_counter()
            count = row_count(rows)
            if not entry.pace.inline or count > entry.pace.rows:
                work = partial(model.compute, rows, outputs)
                return self._plain_later(entry, model, payload, work, count, request_id)
            results = model.compute(rows, outputs)
            computed = perf_counter()
            answer = model.answer(payload, results)
        except ServingError:
            raise
        except Exception as error:
            raise _failed(model, error) from error
        entry.pace.note(computed - ready, count)
        self._note(entry, request_id, ready - started, computed - ready, perf_counter() - computed)
        return answer

    async def _plain_later(
        self,
        entry: Entry,
        model: ArrayModel,
        payload: Any,
        work: Callable[[], Any],
        count: int,
        request_id: str,
    ) -> Answer:
        """The same in the model's thread: reading and answering stay on the loop."""
        started = perf_counter()
        entry.metrics.in_flight += 1
        try:
            results, seconds = await entry.worker.run(work)
            computed = perf_counter()
            answer = model.answer(payload, results)
        except ServingError:
            raise
        except Exception as error:
            raise _failed(model, error) from error
        finally:
            entry.metrics.in_flight -= 1
        entry.pace.note(seconds, count)
        self._note(entry, request_id, 0.0, computed - started, perf_counter() - computed)
        return answer

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
        model, metrics = entry.model, entry.metrics
        metrics.in_flight += 1
        spent = {"preprocess": 0.0, "predict": 0.0, "explain": 0.0, "postprocess": 0.0}

        async def step(name: str, work: Callable[[], Any]) -> Any:
            started = perf_counter()
            try:
                outcome = work()
                return await outcome if inspect.isawaitable(outcome) else outcome
            finally:
                spent[name] = perf_counter() - started
                getattr(metrics, name).observe(spent[name])

        try:
            question = await step("preprocess", partial(model.preprocess, payload, headers))
            result = await step(verb, self._main_step(entry, verb, question, headers))
            result = await step("postprocess", partial(model.postprocess, result, headers))
            return _checked(model, payload, result)
        except ServingError:
            raise
        except NotImplementedError as error:
            raise Unsupported(f"Model {model.name}: {error or 'not implemented'}") from error
        except Exception as error:
            raise _failed(model, error) from error
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
        model, metrics = entry.model, entry.metrics
        metrics.in_flight += 1
        started = perf_counter()
        try:
            question = await settled(model.preprocess(payload, headers))
            async with aclosing(each(entry.worker, model.predict(question, headers))) as results:
                async for result in results:
                    answer = await settled(model.postprocess(result, headers))
                    yield _checked(model, payload, answer)
        except ServingError:
            raise
        except Exception as error:
            raise _failed(model, error) from error
        finally:
            metrics.in_flight -= 1
            self._note(entry, request_id, 0.0, perf_counter() - started, 0.0)

    def _main_step(
        self, entry: Entry, verb: Verb, payload: Any, headers: Headers
    ) -> Callable[[], Any]:
        model = entry.model
        method = model.predict if verb == "predict" else model.explain
        if inspect.iscoroutinefunction(method) or model.forwards(verb):
            return partial(method, payload, headers)
        return partial(self._synchronous, entry, partial(method, payload, headers))

    async def _synchronous(self, entry: Entry, work: Callable[[], Any]) -> Any:
        if entry.pace.inline:
            started = perf_counter()
            outcome = work()
            seconds = perf_counter() - started
        else:
            outcome, seconds = await entry.worker.run(work)
        entry.pace.note(seconds)
        return await outcome if inspect.isawaitable(outcome) else outcome


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
    result.id = result.id or payload.id
    result.model_version = result.model_version or model.version
    return result.select(payload.outputs)


def _failed(model: Model, error: BaseException) -> InferenceError:
    """What the client is told when a model raised: its name, and nothing of what it said."""
    logger.error("model %s failed", model.name, exc_info=error)
    return InferenceError(f"Model {model.name} failed while answering; its log tells why.")
