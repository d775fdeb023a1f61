"""Everything as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kedge.settings.gateway import LATENCY_BUCKETS
from kedge.telemetry.counts import Counts
from kedge.telemetry.history import Source
from kedge.telemetry.telemetry import Pods

_KPA = {
    "kn_revision_pods_desired": ("desired", "Pods that the load asks for."),
    "kn_revision_pods_requested": ("replicas", "Pods that were asked for."),
    "kn_revision_pods_count": ("ready", "Pods that are ready."),
    "kn_revision_panic_mode": ("panicking", "1 while the short window decides."),
}
_AVERAGES = {
    "stable": "Average over the stable window.",
    "panic": "Average over the short window.",
    "target": "What a pod is given.",
}


def expose(
    totals: Mapping[Source, Counts],
    pods: Mapping[tuple[str, str, str], Pods],
    scaling: Iterable[Mapping[str, Any]],
) -> str:
    """The text of `/metrics`.

    Args:
        scaling: what the autoscaler says of each Deployment.
    """
    lines = [*_requests(totals), *_latencies(totals), *_pods(pods), *_scaling(list(scaling))]
    return "\n".join(lines) + "\n"


def _requests(totals: Mapping[Source, Counts]) -> Iterator[str]:
    name = "kedge_requests_total"
    yield from _head(name, "counter", "Requests that ended, by class of status code.")
    for source, counts in totals.items():
        for code, value in (("2xx", counts.ok), ("4xx", counts.refused), ("5xx", counts.failed)):
            yield _line(name, {**_labels(source), "code_class": code}, value)


def _latencies(totals: Mapping[Source, Counts]) -> Iterator[str]:
    name = "kedge_request_duration_seconds"
    text = "How long requests took, the time that they waited for a pod included."
    yield from _head(name, "histogram", text)
    for source, counts in totals.items():
        labels, sofar, took = _labels(source), 0, 0.0
        lower = 0.0
        for bound, count in zip(LATENCY_BUCKETS, counts.latency, strict=True):
            sofar += count
            took += count * (lower + bound) / 2000
            lower = bound
            yield _line(f"{name}_bucket", {**labels, "le": f"{bound / 1000:g}"}, sofar)
        yield _line(f"{name}_bucket", {**labels, "le": "+Inf"}, sofar)
        # Envoy keeps no sum: the middle of each bucket stands for its requests.
        yield _line(f"{name}_sum", labels, round(took, 6))
        yield _line(f"{name}_count", labels, sofar)


def _pods(pods: Mapping[tuple[str, str, str], Pods]) -> Iterator[str]:
    for name, text in (
        ("desired", "Pods that were asked for."),
        ("ready", "Pods that are ready."),
    ):
        metric = f"kedge_replicas_{name}"
        yield from _head(metric, "gauge", text)
        for (namespace, service, component), one in sorted(pods.items()):
            labels = {"namespace": namespace, "service": service, "component": component}
            yield _line(metric, labels, getattr(one, name))


def _scaling(scaling: list[Mapping[str, Any]]) -> Iterator[str]:
    for metric, (field, text) in _KPA.items():
        yield from _head(metric, "gauge", text)
        for one in scaling:
            yield _line(metric, _scaled(one), _number(one[field]))
    for kind, unit in (("concurrency", "concurrency"), ("rps", "rps")):
        for field, text in _AVERAGES.items():
            metric = f"kn_revision_{unit}_{field}"
            yield from _head(metric, "gauge", text)
            for one in scaling:
                if one["metric"] == kind:
                    yield _line(metric, _scaled(one), one[field])
    yield from _head("kedge_requests_held", "gauge", "Requests that wait for a pod.")
    for one in scaling:
        yield _line("kedge_requests_held", _scaled(one), one["held"])


def _scaled(one: Mapping[str, Any]) -> dict[str, str]:
    return {
        "namespace": one["namespace"], "service": one["service"], "component": one["component"],
        "revision": one["deployment"],
    }  # fmt: skip


def _labels(source: Source) -> dict[str, str]:
    return {
        "namespace": source.namespace, "service": source.service, "component": source.component,
        "revision": source.backend.removesuffix("-private"),
    }  # fmt: skip


def _number(value: Any) -> float:
    return float(value or 0)


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    said = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
    return f"{name}{{{said}}} {value:g}" if abs(value) < 1e6 else f"{name}{{{said}}} {value!r}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
