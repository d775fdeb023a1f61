"""The statistics extension of Open Inference, from the figures that the server keeps anyway."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kedge.server.metrics import Histogram
from kedge.server.repository import Entry, Repository

_OK = frozenset({0, 200})


@dataclass(frozen=True)
class Duration:
    """How often, and how long altogether."""

    count: int
    ns: int


@dataclass(frozen=True)
class ModelStatistics:
    """One model since it was first loaded.

    Attributes:
        last_inference: milliseconds since 1970, to the second; 0 before the first.
        inference_count: rows that were answered.
        execution_count: runs of the model.
        batches: by rows, what was spent before, in and after the runs of that many.
    """

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    durations: dict[str, Duration]
    batches: dict[int, dict[str, Duration]]

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "version": self.version,
            "last_inference": self.last_inference,
            "inference_count": self.inference_count,
            "execution_count": self.execution_count,
            "inference_stats": _told(self.durations),
            "batch_stats": [
                {"batch_size": rows, **_told(durations)}
                for rows, durations in sorted(self.batches.items())
            ],
        }


def _told(durations: dict[str, Duration]) -> dict[str, dict[str, int]]:
    return {name: {"count": one.count, "ns": one.ns} for name, one in durations.items()}


class Statistics:
    """Reads the figures; `glance`, once a second, notes which models were asked since."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._seen: dict[str, tuple[int, int]] = {}

    def glance(self, now: float) -> None:
        """Remembers `now` (seconds since 1970) for each model that was asked since the last."""
        for entry in self._repository.entries():
            count = sum(entry.metrics.requests.values())
            if count != self._seen.get(entry.model.name, (0, 0))[0]:
                self._seen[entry.model.name] = count, int(now * 1000)

    def of(self, name: str = "", version: str = "") -> list[ModelStatistics]:
        """One model's, or everyone's."""
        if not name:
            return [self._read(entry) for entry in self._repository.entries()]
        return [self._read(self._repository.find(name, version))]

    def _read(self, entry: Entry) -> ModelStatistics:
        metrics = entry.metrics
        answered = sum(n for (_, code), n in metrics.requests.items() if code in _OK)
        failed = sum(metrics.requests.values()) - answered
        queue, before, predict, after = map(
            _duration, (metrics.wait, metrics.preprocess, metrics.predict, metrics.postprocess)
        )
        return ModelStatistics(
            name=entry.model.name,
            version=entry.model.version,
            last_inference=self._seen.get(entry.model.name, (0, 0))[1],
            inference_count=metrics.inferences,
            execution_count=sum(int(figures[0]) for figures in metrics.batches.values()),
            durations={
                "success": Duration(answered, queue.ns + before.ns + predict.ns + after.ns),
                "fail": Duration(failed, 0),
                "queue": queue,
                "compute_input": before,
                "compute_infer": predict,
                "compute_output": after,
            },
            batches={rows: _batch(figures) for rows, figures in metrics.batches.items()},
        )


def _duration(histogram: Histogram) -> Duration:
    return Duration(sum(histogram.counts), int(histogram.total * 1e9))


def _batch(figures: list[float]) -> dict[str, Duration]:
    runs, *seconds = figures
    parts = ("compute_input", "compute_infer", "compute_output")
    return {
        part: Duration(int(runs), int(one * 1e9)) for part, one in zip(parts, seconds, strict=True)
    }


def added(own: list[ModelStatistics], all_of_them: list[ModelStatistics]) -> list[ModelStatistics]:
    """For each of `own`, the sum of what is told of it in `all_of_them`."""
    found = {(one.name, one.version): one for one in summed(all_of_them)}
    return [found.get((one.name, one.version), one) for one in own]


def summed(told: Iterable[ModelStatistics]) -> list[ModelStatistics]:
    """One of each model and version: the sum of what is told of it."""
    found: dict[tuple[str, str], ModelStatistics] = {}
    for one in told:
        key = one.name, one.version
        found[key] = _sum(found[key], one) if key in found else one
    return list(found.values())


def _sum(one: ModelStatistics, other: ModelStatistics) -> ModelStatistics:
    batches = dict(one.batches)
    for rows, durations in other.batches.items():
        batches[rows] = _joined(batches[rows], durations) if rows in batches else durations
    return ModelStatistics(
        name=one.name,
        version=one.version,
        last_inference=max(one.last_inference, other.last_inference),
        inference_count=one.inference_count + other.inference_count,
        execution_count=one.execution_count + other.execution_count,
        durations=_joined(one.durations, other.durations),
        batches=batches,
    )


def _joined(one: dict[str, Duration], other: dict[str, Duration]) -> dict[str, Duration]:
    return {
        name: Duration(mine.count + other[name].count, mine.ns + other[name].ns)
        for name, mine in one.items()
    }
