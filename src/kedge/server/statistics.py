"""The statistics extension of Open Inference, from the figures that the server keeps anyway."""

from __future__ import annotations

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
        inference_count: requests that were answered.
        execution_count: runs of the model.
    """

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    durations: dict[str, Duration]

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "version": self.version,
            "last_inference": self.last_inference,
            "inference_count": self.inference_count,
            "execution_count": self.execution_count,
            "inference_stats": {
                name: {"count": one.count, "ns": one.ns} for name, one in self.durations.items()
            },
        }


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
        before, predict, after = (
            _duration(one) for one in (metrics.preprocess, metrics.predict, metrics.postprocess)
        )
        return ModelStatistics(
            name=entry.model.name,
            version=entry.model.version,
            last_inference=self._seen.get(entry.model.name, (0, 0))[1],
            inference_count=answered,
            execution_count=predict.count,
            durations={
                "success": Duration(answered, before.ns + predict.ns + after.ns),
                "fail": Duration(failed, 0),
                "compute_input": before,
                "compute_infer": predict,
                "compute_output": after,
            },
        )


def _duration(histogram: Histogram) -> Duration:
    return Duration(sum(histogram.counts), int(histogram.total * 1e9))


def added(own: list[ModelStatistics], all_of_them: list[ModelStatistics]) -> list[ModelStatistics]:
    """For each of `own`, the sum of what is told of it in `all_of_them`."""
    found: dict[tuple[str, str], ModelStatistics] = {}
    for one in all_of_them:
        key = one.name, one.version
        found[key] = _sum(found[key], one) if key in found else one
    return [found.get((one.name, one.version), one) for one in own]


def _sum(one: ModelStatistics, other: ModelStatistics) -> ModelStatistics:
    durations = {
        name: Duration(
            duration.count + other.durations[name].count, duration.ns + other.durations[name].ns
        )
        for name, duration in one.durations.items()
    }
    return ModelStatistics(
        name=one.name,
        version=one.version,
        last_inference=max(one.last_inference, other.last_inference),
        inference_count=one.inference_count + other.inference_count,
        execution_count=one.execution_count + other.execution_count,
        durations=durations,
    )
