"""Payload logging and request batching: what is passed to the pod, and what has no effect yet.

KServe runs an agent container beside the server for these. Kedge's own server is to do both; until
it does, the annotations are passed on and the service carries a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kedge.controllers.inferenceservice.components import Warned
from kedge.controllers.inferenceservice.names import INTERNAL, ComponentKind
from kedge.settings.serving import ServingConfig


def sidecar_annotations(
    kind: ComponentKind, spec: Mapping[str, Any], config: ServingConfig
) -> dict[str, str]:
    """Annotations by which a component's pods say what they log and batch."""
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


def sidecar_warnings(kind: ComponentKind, spec: Mapping[str, Any]) -> list[Warned]:
    """The component's fields that are understood but change nothing in this release."""
    warnings = []
    if spec.get("logger") is not None:
        warnings.append(Warned(f"spec.{kind}.logger", "payloads are not logged in this release."))
    if spec.get("batcher") is not None:
        warnings.append(Warned(f"spec.{kind}.batcher", "requests are not batched in this release."))
    return warnings
