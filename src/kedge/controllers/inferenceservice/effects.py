"""What is understood but has no effect yet, and what is passed on all the same.

KServe runs an agent container beside the server that logs payloads and joins requests; Kedge's own
server does both (`serving_flags`). The agent's annotations are passed on for whoever reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kedge.controllers.inferenceservice import names
from kedge.controllers.inferenceservice.components import Warned
from kedge.controllers.inferenceservice.names import INTERNAL, ComponentKind
from kedge.settings.serving import ServingConfig


def sidecar_annotations(
    kind: ComponentKind, spec: Mapping[str, Any], config: ServingConfig
) -> dict[str, str]:
    """Annotations by which a component's pods say what they shall log and batch."""
    return {**_logger(spec.get("logger"), config), **_batcher(kind, spec.get("batcher"))}


def _logger(logger: Mapping[str, Any] | None, config: ServingConfig) -> dict[str, str]:
    if logger is None:
        return {}
    annotations = {
        f"{INTERNAL}/logger": "true",
        f"{INTERNAL}/logger-sink-url": str(logger.get("url") or config.logger.default_url),
        f"{INTERNAL}/logger-mode": str(logger.get("mode") or "all"),
    }
    for field, name in (
        ("metadataHeaders", "logger-metadata-headers"),
        ("metadataAnnotations", "logger-metadata-annotations"),
    ):
        if logger.get(field):
            annotations[f"{INTERNAL}/{name}"] = ",".join(logger[field])
    return annotations


def _batcher(kind: ComponentKind, batcher: Mapping[str, Any] | None) -> dict[str, str]:
    if batcher is None or kind is ComponentKind.EXPLAINER:
        return {}
    annotations = {f"{INTERNAL}/batcher": "true"}
    if batcher.get("maxBatchSize") is not None:
        annotations[f"{INTERNAL}/batcher-max-batchsize"] = str(batcher["maxBatchSize"])
    if batcher.get("maxLatency") is not None:
        annotations[f"{INTERNAL}/batcher-max-latency"] = str(batcher["maxLatency"])
    return annotations


def metric_annotations(annotations: Mapping[str, str], config: ServingConfig) -> dict[str, str]:
    """Annotations by which Prometheus finds the server's metrics, where that is asked for."""
    asked = annotations.get(names.ENABLE_PROMETHEUS_SCRAPING)
    if (asked or config.metrics_aggregator.enable_prometheus_scraping) != "true":
        return {}
    found = {"prometheus.io/scrape": "true"}
    for name, default in (("port", "8080"), ("path", "/metrics")):
        found[f"prometheus.io/{name}"] = annotations.get(f"prometheus.kserve.io/{name}", default)
    return found


def annotation_warnings(path: str, annotations: Mapping[str, str]) -> list[Warned]:
    """Annotations that are understood but change nothing in this release."""
    found = []
    for key, value in annotations.items():
        if key == names.ENABLE_METRIC_AGGREGATION and value == "true":
            why = "there is no proxy whose metrics would be joined; the server's own are served."
            found.append(Warned(f"{path}.annotations[{key}]", why))
    return found


def effect_warnings(kind: ComponentKind, spec: Mapping[str, Any]) -> list[Warned]:
    """The component's fields that are understood but change nothing in this release."""
    found: dict[str, str] = {}
    if _is_multi_model(kind, spec):
        found["model"] = (
            "it names no storage; the server is started without a model, and loading models later"
            " (TrainedModel) is not in this release."
        )
    warnings = [Warned(f"spec.{kind}.{name}", why) for name, why in found.items()]
    return warnings + annotation_warnings(f"spec.{kind}", spec.get("annotations") or {})


def _is_multi_model(kind: ComponentKind, spec: Mapping[str, Any]) -> bool:
    """Whether KServe would have this predictor load models that are named later."""
    model = spec.get("model")
    if kind is not ComponentKind.PREDICTOR or model is None:
        return False
    located = model.get("storageUri") or model.get("storage") or spec.get("storageUris")
    return not located and (model.get("modelFormat") or {}).get("name") != "huggingface"
