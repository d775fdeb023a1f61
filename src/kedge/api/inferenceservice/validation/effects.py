"""Warnings of fields that are understood but have no effect here: none is ignored in silence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kedge.api.findings import Findings
from kedge.api.inferenceservice.scaler import Scaler, scaler_of
from kedge.api.inferenceservice.validation.subject import (
    AUTOSCALER_CLASS,
    Part,
    Subject,
    models,
    single_uri,
)
from kedge.settings.serving import DeploymentMode

_TO_STANDARD = "Remove it, or use Standard mode (annotation serving.kserve.io/deploymentMode)."
_TO_KNATIVE = "Remove it, or use Knative mode (annotation serving.kserve.io/deploymentMode)."
_REMOVE = "Remove it."

_NEVER = {
    "scaleMetricType": "it is kept for compatibility and not read",
}
_LOGGER_NEVER = ("storage", "marshallerUrl", "batchSize", "batchInterval")
_KNATIVE_ONLY_ANNOTATIONS = (
    "serving.kserve.io/enable-tag-routing",
    "serving.knative.dev/rollout-duration",
)
_POD_FIELDS = {
    "restartPolicy": ("Always", "the pods of a Deployment always restart"),
    "activeDeadlineSeconds": (None, "the pods of a Deployment have no deadline"),
}


def warn_without_effect(subject: Subject, findings: Findings) -> None:
    """Every field that the chosen mode, or Kedge at all, does not use."""
    for part in (*subject.components, *subject.canaries):
        for name, why in _always(part):
            findings.warn(f"{part.path}.{name}", f"it has no effect: {why}", _REMOVE)
        for name, why in _in_mode(subject, part):
            fix = _TO_KNATIVE if subject.mode is DeploymentMode.STANDARD else _TO_STANDARD
            findings.warn(f"{part.path}.{name}", f"it has no effect: {why}", fix)
    for path, texts in _annotated(subject):
        for key, why in _annotations(subject, texts):
            fix = _TO_KNATIVE if subject.mode is DeploymentMode.STANDARD else _TO_STANDARD
            findings.warn(f"{path}.annotations[{key}]", f"it has no effect: {why}", fix)


def _always(part: Part) -> Iterator[tuple[str, str]]:
    for name, why in _NEVER.items():
        if part.spec.get(name) is not None:
            yield name, why
    for name in _LOGGER_NEVER:
        if (part.spec.get("logger") or {}).get(name) is not None:
            yield f"logger.{name}", "payloads are sent to `url`, one by one"
    for name, (allowed, why) in _POD_FIELDS.items():
        if part.spec.get(name) not in (None, allowed):
            yield name, why
    if part.spec.get("storageContainerName") and not _has_storage(part):
        yield "storageContainerName", "the predictor has no storage URI"
    for model in models(part):
        pinned = "@sha256:" in str(model.spec.get("image") or "")
        if pinned and model.spec.get("runtimeVersion"):
            key = model.path.rpartition(".")[2]
            yield f"{key}.runtimeVersion", "the image is pinned by its digest"


def _has_storage(part: Part) -> bool:
    has_spec = any((model.spec.get("storage") or {}).get("path") for model in models(part))
    return has_spec or single_uri(part) is not None or bool(part.spec.get("storageUris"))


def _in_mode(subject: Subject, part: Part) -> Iterator[tuple[str, str]]:
    spec = part.spec
    if subject.mode is DeploymentMode.STANDARD:
        yield from _in_standard(subject, part)
    elif subject.mode is DeploymentMode.KNATIVE and spec.get("autoScaling") is not None:
        yield "autoScaling", "Knative mode scales by scaleMetric and scaleTarget"


def _in_standard(subject: Subject, part: Part) -> Iterator[tuple[str, str]]:
    spec = part.spec
    if spec.get("canaryTrafficPercent") is not None:
        yield "canaryTrafficPercent", "Standard mode splits traffic by spec.canary"
    scaler = _scaler(subject, part)
    if scaler in (Scaler.NONE, Scaler.EXTERNAL):
        for name in ("scaleMetric", "scaleTarget", "autoScaling"):
            if spec.get(name) is not None:
                yield name, f"the autoscaler class is {scaler}"
    if scaler is Scaler.KEDA and spec.get("scaleTarget") is not None:
        yield "scaleTarget", "KEDA reads autoScaling.metrics"


def _scaler(subject: Subject, part: Part) -> Scaler:
    annotations = {**subject.annotations, **(part.spec.get("annotations") or {})}
    return scaler_of(subject.mode, part.spec, annotations)


def _counts_traffic(subject: Subject) -> bool:
    """Whether some component is scaled by its traffic, for whom Knative's annotations count."""
    return any(
        _scaler(subject, part) is Scaler.KEDGE or part.spec.get("minReplicas") == 0
        for part in subject.components
    )


def _annotated(subject: Subject) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "metadata", subject.annotations
    for part in subject.components:
        yield part.path, part.spec.get("annotations") or {}


def _annotations(subject: Subject, texts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key in texts:
        if subject.mode is DeploymentMode.STANDARD:
            scales = key.startswith("autoscaling.knative.dev/")
            if key in _KNATIVE_ONLY_ANNOTATIONS or (scales and not _counts_traffic(subject)):
                yield key, "it belongs to Knative mode"
        elif subject.mode is DeploymentMode.KNATIVE and key == AUTOSCALER_CLASS:
            yield key, "Knative mode has its own autoscaler"
