"""What a worker counted, in a form that can be sent and added up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from kedge.server.statistics import ModelStatistics, summed

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_GREATEST = frozenset({"model_load_seconds", "python_info", "process_max_fds"})
_LEAST = frozenset({"process_start_time_seconds"})
_LASTING = frozenset({"counter", "histogram", "summary"})

Sample = tuple[str, dict[str, str], float]


class Family(msgspec.Struct, array_like=True):
    """One metric of the exposition, with its samples."""

    name: str
    text: str
    kind: str
    samples: list[Sample]


class Figures(msgspec.Struct):
    """Of one worker, or of several together."""

    families: list[Family] = []
    statistics: list[ModelStatistics] = []


def taken(families: Iterable[Metric], statistics: list[ModelStatistics]) -> Figures:
    """The figures of this process."""
    return Figures(
        [
            Family(
                one.name,
                one.documentation,
                one.type,
                [(sample.name, sample.labels, sample.value) for sample in one.samples],
            )
            for one in families
        ],
        statistics,
    )


def encode(figures: Figures) -> bytes:
    return msgspec.msgpack.encode(figures)


def decode(content: bytes) -> Figures:
    return msgspec.msgpack.decode(content, type=Figures)


def add(all_of_them: Iterable[Figures]) -> Figures:
    """Counts and sums are added; so are gauges, but for those of which only one makes sense."""
    families: dict[str, Family] = {}
    cells: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], Sample]] = {}
    statistics: list[ModelStatistics] = []
    for figures in all_of_them:
        statistics += figures.statistics
        for family in figures.families:
            families.setdefault(family.name, family)
            found = cells.setdefault(family.name, {})
            for name, labels, value in family.samples:
                key = name, tuple(sorted(labels.items()))
                if key in found:
                    value = _joined(family.name, found[key][2], value)
                found[key] = name, labels, value
    return Figures(
        [
            Family(one.name, one.text, one.kind, list(cells[one.name].values()))
            for one in families.values()
        ],
        summed(statistics),
    )


def _joined(name: str, one: float, other: float) -> float:
    if name in _GREATEST:
        return max(one, other)
    if name in _LEAST:
        return min(one, other)
    return one + other


def lasting(figures: Figures) -> Figures:
    """What stays true of a worker that is no more: what it counted, not what it held."""
    kept = [one for one in figures.families if one.kind in _LASTING]
    return Figures(kept, figures.statistics)


def metrics(figures: Figures) -> list[Metric]:
    """As Prometheus' library has them."""
    from prometheus_client.core import Metric

    found = []
    for family in figures.families:
        metric = Metric(family.name, family.text, family.kind)
        for name, labels, value in family.samples:
            metric.add_sample(name, labels, value)
        found.append(metric)
    return found
