"""The models a server holds, by name, and how they come and go."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

from kedge.protocol.errors import ModelNotFound, ModelNotReady, ServingError
from kedge.server import garbage, phases
from kedge.server.batching import DEFAULT_BATCHING, Batching, Queue
from kedge.server.errors import ModelFileMissing, ModelLoadFailed, StartFailure
from kedge.server.execution import Gate, Pace, Worker
from kedge.server.joining import dependence
from kedge.server.limits import DEFAULT_LIMITS, Limits
from kedge.server.log import logger
from kedge.server.metrics import Metrics, ModelMetrics
from kedge.server.model import ArrayModel, Model

WARM_UP_RUNS = 6
SETTLE_SECONDS = 30.0

Loader = Callable[[str], Model]
"""Makes the (not yet loaded) model of a name; raises `ModelNotFound` or `ModelFileMissing`."""


@dataclass
class Entry:
    """A model, where it runs, and what is counted of it.

    Attributes:
        queue: what waits for a plain model.
        gate: what limits how many of any other model's requests are worked on at once.
        users: requests under way on the long way.
        gone: it has answered its last request, and is unloaded.
        plain: nothing but `compute` is the model's own: the shortest way through the data plane.
        asynchronous: one of its steps is a coroutine.
        streams: its `predict` is a generator: one request has many answers.
    """

    model: Model
    metrics: ModelMetrics
    batching: Batching = DEFAULT_BATCHING
    limits: Limits = DEFAULT_LIMITS
    pace: Pace = field(default_factory=Pace)
    worker: Worker = field(init=False)
    queue: Queue | None = field(init=False)
    gate: Gate | None = field(init=False)
    users: int = field(default=0, init=False)
    gone: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    plain: bool = field(init=False)
    asynchronous: bool = field(init=False)
    streams: bool = field(init=False)

    def __post_init__(self) -> None:
        model = self.model
        self.worker = Worker(model.name)
        kind = type(model)
        self.plain = (
            isinstance(model, ArrayModel)
            and kind.preprocess is Model.preprocess
            and kind.postprocess is Model.postprocess
            and kind.predict is ArrayModel.predict
        )
        self.streams = inspect.isasyncgenfunction(model.predict) or inspect.isgeneratorfunction(
            model.predict
        )
        limits = self.limits
        self.queue = (
            Queue(model, self.pace, self.worker, self.metrics, self.batching, limits)
            if isinstance(model, ArrayModel)
            else None
        )
        self.limit(limits)
        self._retired = False
        self.asynchronous = self.streams or any(
            inspect.iscoroutinefunction(step)
            for step in (model.preprocess, model.predict, model.postprocess, model.explain)
        )

    def limit(self, limits: Limits) -> None:
        at_once = limits.concurrency
        self.gate = Gate(self.model.name, at_once, limits.waiting) if at_once else None
        if self.queue is not None:
            self.queue.limit(limits)

    def hold(self) -> None:
        """A request begins its long way through the model."""
        self.users += 1

    def release(self) -> None:
        self.users -= 1
        if self._retired and not self.users:
            self._end()

    def retire(self) -> None:
        """Unloads the model when the requests that have begun are answered."""
        self._retired = True
        if not self.users:
            self._end()

    @property
    def over(self) -> bool:
        """It answers no one any more."""
        return self.gone.is_set()

    def _end(self) -> None:
        if self.queue is None:
            self._go()
        else:
            self.queue.drain(self._go)

    def _go(self) -> None:
        self.stop()
        self.gone.set()
        garbage.look_again_soon()

    def stop(self) -> None:
        self.worker.stop()
        self.model.unload()


class Changes(Protocol):
    """Other processes that hold the same models: a change is theirs too, or nobody's."""

    async def load(self, name: str) -> None: ...

    async def unload(self, name: str) -> None: ...


class Repository:
    """Models by name. Changed from the event loop only.

    Attributes:
        streaming: the names of the models that stream.
        changes: who brings about a change that a client asks for; None where this process is
            the only one.
    """

    changes: Changes | None = None

    def __init__(
        self,
        metrics: Metrics,
        loader: Loader | None = None,
        *,
        batching: Batching = DEFAULT_BATCHING,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._metrics = metrics
        self._batching = batching
        self.limits = limits
        self._loader = loader
        self._entries: dict[str, Entry] = {}
        self._unloaded: dict[str, str] = {}
        self.streaming: frozenset[str] = frozenset()

    def add(self, model: Model) -> Entry:
        """Registers `model` under its name, in place of what was there."""
        entry = self._entry(model)
        previous = self._entries.get(model.name)
        self._entries[model.name] = entry
        self._note_streaming()
        self._unloaded.pop(model.name, None)
        if previous is not None:
            previous.retire()
        return entry

    def _note_streaming(self) -> None:
        entries = self._entries.items()
        self.streaming = frozenset(name for name, entry in entries if entry.streams)

    def configure(self, limits: Limits, batching: Batching) -> None:
        """For models that are added from now on."""
        self.limits, self._batching = limits, batching

    def _entry(self, model: Model) -> Entry:
        return Entry(model, self._metrics.model(model.name), self._batching, self.limits)

    def names(self) -> list[str]:
        return list(self._entries)

    def entries(self) -> list[Entry]:
        return list(self._entries.values())

    def find(self, name: str, version: str = "") -> Entry:
        """The model's entry, ready or not."""
        entry = self._entries.get(name)
        if entry is None:
            raise ModelNotFound(name)
        if version and version != entry.model.version:
            raise ModelNotFound(name, version)
        return entry

    def find_ready(self, name: str, version: str = "") -> Entry:
        entry = self.find(name, version)
        if not entry.model.ready:
            raise ModelNotReady(name)
        return entry

    def index(self, *, only_ready: bool = False) -> list[dict[str, str]]:
        """Every model and its state, as the repository extension words it."""
        listed = []
        for name, entry in self._entries.items():
            state = "READY" if entry.model.ready else "UNAVAILABLE"
            row = {"name": name, "state": state, "reason": ""}
            if entry.model.version:
                row["version"] = entry.model.version
            listed.append(row)
        for name, reason in self._unloaded.items():
            listed.append({"name": name, "state": "UNAVAILABLE", "reason": reason})
        return [row for row in listed if row["state"] == "READY"] if only_ready else listed

    async def load(self, name: str) -> Entry:
        """Loads a model, or loads it anew; the one being served answers until then."""
        if self.changes is not None:
            await self.changes.load(name)
            return self.find(name)
        fresh = await self.prepare(name)
        await settled(name, self.place(fresh))
        return fresh

    async def prepare(self, name: str, *, threaded: bool = True) -> Entry:
        """The model of a name, loaded and tried, which nobody is answered by yet.

        Where no loader finds models by name, the one that is here is loaded anew in its place.
        """
        if self._loader is None:
            entry = self.find(name)
        else:
            try:
                made = asyncio.to_thread(self._loader, name) if threaded else self._loader(name)
                entry = self._entry(await made if inspect.isawaitable(made) else made)
            except ModelFileMissing as error:
                raise ModelNotFound(name) from error
        await load(entry, threaded=threaded)
        return entry

    def place(self, fresh: Entry) -> asyncio.Event | None:
        """Puts a prepared model in the place of the one of its name.

        What is returned is set when that one has answered its last request.
        """
        name = fresh.model.name
        previous = self._entries.get(name)
        self._entries[name] = fresh
        self._note_streaming()
        self._unloaded.pop(name, None)
        if previous is None or previous.model is fresh.model:
            return None
        previous.retire()
        return previous.gone

    def discard(self, fresh: Entry) -> None:
        """Gives up a prepared model."""
        if self._entries.get(fresh.model.name) is not fresh:
            fresh.stop()

    async def start(self, model: Model) -> Entry:
        """Loads and warms `model`, and serves it.

        At the start a model is loaded in the main thread, where some frameworks insist on being
        imported; later beside requests, in another.
        """
        fresh = self._entry(model)
        if not model.ready:  # A script may have loaded it when it made it.
            await load(fresh)
        self.place(fresh)
        return fresh

    async def unload(self, name: str) -> None:
        """The model is gone when this returns; requests that had begun are answered."""
        self.find(name)
        if self.changes is not None:
            await self.changes.unload(name)
        else:
            await settled(name, self.remove(name))

    def remove(self, name: str) -> asyncio.Event:
        """Unloads a model of this process; the event is set when it is gone."""
        entry = self.find(name)
        del self._entries[name]
        self._note_streaming()
        self._unloaded[name] = "unloaded"
        entry.retire()
        return entry.gone

    def note_unloaded(self, reasons: Mapping[str, str]) -> None:
        """Names that the index tells of although no model is here."""
        self._unloaded.update(reasons)

    def limit(self, limits: Limits) -> None:
        """For the models that are here, before the first request, and for those to come."""
        self.limits = limits
        for entry in self._entries.values():
            entry.limit(limits)

    def stop(self) -> None:
        for entry in self._entries.values():
            entry.stop()


async def settled(name: str, gone: asyncio.Event | None) -> None:
    """Waits until the model that was replaced or unloaded has answered its last request."""
    if gone is None:
        return
    try:
        async with asyncio.timeout(SETTLE_SECONDS):
            await gone.wait()
    except TimeoutError:
        logger.warning(
            "model %s: what was replaced or unloaded still answers after %g s", name, SETTLE_SECONDS
        )


async def load(entry: Entry, *, threaded: bool = False) -> None:
    """Loads a model and tries it, so that its first request finds it warm."""
    model = entry.model
    started = perf_counter()
    try:
        loaded = await asyncio.to_thread(model.load) if threaded else model.load()
        if inspect.isawaitable(loaded):
            await loaded
    except (ServingError, StartFailure):
        raise
    except Exception as error:
        logger.exception("model %s did not load", model.name)
        raise ModelLoadFailed(
            f"Model {model.name} raised {type(error).__name__} while loading: {error}.",
            fix="The traceback is in the log.",
        ) from error
    phases.mark("weights")
    if threaded:
        await asyncio.to_thread(warm_up, entry)
    else:
        warm_up(entry)
    phases.mark("inference")
    entry.metrics.load_seconds = perf_counter() - started


def warm_up(entry: Entry) -> None:
    """Runs the model on a sample of its own, where it has one, and settles where it will run."""
    model = entry.model
    if not model.ready or entry.asynchronous:
        return
    sample = model.warm_up()
    if sample is None:
        return
    durations = []
    try:
        for _ in range(WARM_UP_RUNS):
            started = perf_counter()
            model.postprocess(model.predict(model.preprocess(sample, {}), {}), {})
            durations.append(perf_counter() - started)
            if durations[-1] > 1.0:
                break
    except Exception as error:
        logger.info("model %s: no warm-up, its sample was refused: %s", model.name, error)
        return
    entry.pace.decide(durations)
    logger.info(
        "model %s: warm-up took %.1f ms, then %.2f ms; it runs %s",
        model.name,
        durations[0] * 1000,
        min(durations) * 1000,
        "on the event loop" if entry.pace.inline else "in a worker thread",
    )
    if isinstance(model, ArrayModel) and entry.plain and entry.queue is not None:
        entry.queue.joins = _joins(model, sample, entry.batching)


def _joins(model: ArrayModel, sample: Any, batching: Batching) -> bool:
    """Whether requests are computed together: the model allows it, and a comparison agrees."""
    if batching.models == "none":
        return False
    if not model.independent_rows and batching.models != "all":
        logger.info(
            "model %s: requests are not joined, for its rows are not known to be independent "
            "(independent_rows, or --batching true)",
            model.name,
        )
        return False
    try:
        rows, _ = model.rows(sample)
        reason = dependence(model, rows, model.output_names())
    except Exception as error:
        reason = f"the comparison failed: {error}"
    if reason:
        logger.warning("model %s: requests are not joined: %s", model.name, reason)
    return not reason
