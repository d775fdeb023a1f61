"""What the server counts, cheaply; Prometheus' library is imported when someone asks.

An observation on the way of a request is a bisection and two additions; locks, labels and text
formats are the exposition's affair. Everything here is touched from the event loop only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

from kedge.server import phases

if TYPE_CHECKING:
    from prometheus_client.core import CollectorRegistry, Metric

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0)
WAITS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, *BUCKETS)
_MANY_ROWS = 256

_STEPS = {
    "preprocess": ("request_preprocess_seconds", "pre-process request latency"),
    "predict": ("request_predict_seconds", "predict request latency"),
    "explain": ("request_explain_seconds", "explain request latency"),
    "postprocess": ("request_postprocess_seconds", "post-process request latency"),
    "batch_rows": ("model_batch_rows", "rows computed together"),
    "batch_requests": ("model_batch_requests", "requests computed together"),
    "wait": ("model_queue_seconds", "time a request waited for its model"),
}


class Histogram:
    """Counts per bucket, and the sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = BUCKETS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class ModelMetrics:
    """The figures of one model.

    Attributes:
        requests: by protocol and status code of the transport.
        errors: by the error's reason.
        in_flight: requests that have begun and not ended.
        waiting: those of them that wait for their model.
        batch_rows: one observation per batch, as of batch_requests.
        wait: from a request's rows to the beginning of its batch.
        inferences: rows answered; a request of any other model than one of arrays counts as one.
        batches: by rows, a power of two where they are many: runs, and seconds spent before,
            in, and after them.
    """

    def __init__(self) -> None:
        self.preprocess = Histogram()
        self.predict = Histogram()
        self.explain = Histogram()
        self.postprocess = Histogram()
        self.requests: Counter[tuple[str, int]] = Counter()
        self.errors: Counter[str] = Counter()
        self.batch_rows = Histogram(SIZES)
        self.batch_requests = Histogram(SIZES)
        self.wait = Histogram(WAITS)
        self.in_flight = 0
        self.waiting = 0
        self.load_seconds = 0.0
        self.inferences = 0
        self.batches: dict[int, list[float]] = {}

    def ran(self, rows: int, before: float, seconds: float, after: float) -> None:
        """The model was run once."""
        if rows > _MANY_ROWS:
            rows = 1 << (rows - 1).bit_length()
        figures = self.batches.get(rows)
        if figures is None:
            self.batches[rows] = [1, before, seconds, after]
        else:
            figures[0] += 1
            figures[1] += before
            figures[2] += seconds
            figures[3] += after


class Metrics:
    """The figures of every model that this server has held.

    Attributes:
        payloads: records of the payload log by what became of them.
    """

    def __init__(self) -> None:
        self._models: dict[str, ModelMetrics] = {}
        self.payloads: Counter[str] = Counter()

    def model(self, name: str) -> ModelMetrics:
        return self._models.setdefault(name, ModelMetrics())

    def collect(self) -> Iterator[Metric]:
        """Prometheus' collector interface."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        for step, (name, text) in _STEPS.items():
            family = HistogramMetricFamily(name, text, labels=["model_name"])
            for model, figures in self._models.items():
                histogram: Histogram = getattr(figures, step)
                if any(histogram.counts):
                    family.add_metric([model], _cumulative(histogram), histogram.total)
            yield family
        requests = CounterMetricFamily(
            "model_requests",
            "requests answered, by protocol and status code",
            labels=["model_name", "protocol", "code"],
        )
        errors = CounterMetricFamily(
            "model_errors", "requests refused or failed, by reason", labels=["model_name", "reason"]
        )
        in_flight = GaugeMetricFamily(
            "model_requests_in_flight", "requests begun and not ended", labels=["model_name"]
        )
        waiting = GaugeMetricFamily(
            "model_requests_waiting", "requests that wait for their model", labels=["model_name"]
        )
        load = GaugeMetricFamily(
            "model_load_seconds", "time the model took to load", labels=["model_name"]
        )
        for model, figures in self._models.items():
            for (protocol, code), count in figures.requests.items():
                requests.add_metric([model, protocol, str(code)], count)
            for reason, count in figures.errors.items():
                errors.add_metric([model, reason], count)
            in_flight.add_metric([model], figures.in_flight)
            waiting.add_metric([model], figures.waiting)
            load.add_metric([model], figures.load_seconds)
        start = GaugeMetricFamily(
            "server_start_seconds", "time that each phase of the start took", labels=["phase"]
        )
        for phase, seconds in phases.durations().items():
            start.add_metric([phase], seconds)
        yield from (requests, errors, in_flight, waiting, load, start)
        if self.payloads:
            payloads = CounterMetricFamily(
                "payload_log_records",
                "payloads by what became of them: sent, dropped (no room), failed (given up)",
                labels=["outcome"],
            )
            for outcome, count in list(self.payloads.items()):
                payloads.add_metric([outcome], count)
            yield payloads

    def families(self) -> list[Metric]:
        """These figures, and those of the process."""
        import prometheus_client

        registry = prometheus_client.CollectorRegistry()
        registry.register(self)
        prometheus_client.ProcessCollector(registry=registry)
        prometheus_client.PlatformCollector(registry=registry)
        prometheus_client.GCCollector(registry=registry)
        return list(registry.collect())

    def exposition(self, accept: str) -> tuple[bytes, str]:
        return page(self.families(), accept)


def page(families: Sequence[Metric], accept: str) -> tuple[bytes, str]:
    """The page for Prometheus, and its content type: OpenMetrics where it is asked for."""
    from prometheus_client.exposition import choose_encoder

    encoder, content_type = choose_encoder(accept)
    return encoder(cast("CollectorRegistry", _Collected(families))), content_type


class _Collected:
    """As much of a registry as the encoders ask for."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Sequence[Metric]:
        return self._families


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    buckets: list[tuple[str, float]] = []
    running = 0
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        running += count
        buckets.append(("+Inf" if bound == float("inf") else str(bound), running))
    return buckets
