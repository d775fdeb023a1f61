"""Rules on canary variants."""

from __future__ import annotations

from kedge.api.findings import Findings
from kedge.api.inferenceservice.defaults import FRAMEWORKS
from kedge.api.inferenceservice.validation.subject import Part, Subject, single_uri
from kedge.settings.serving import DeploymentMode

_NOT_IN_CANARY = ("workerSpec", "maxReplicas", "scaleTarget", "scaleMetric", "autoScaling")


def check_canaries(subject: Subject, findings: Findings) -> None:
    """14: what canary variants need, and what they may not set."""
    entries = subject.spec.get("canary") or []
    if not entries:
        return
    if subject.mode is not DeploymentMode.STANDARD:
        findings.forbidden(
            "spec.canary",
            [entry.get("trafficPercent") for entry in entries],
            f"canary variants need Standard mode, and this service is in {subject.mode} mode",
            "Set the annotation serving.kserve.io/deploymentMode to Standard when creating the"
            " service, or use predictor.canaryTrafficPercent.",
        )
    stable = subject.predictor
    has_model = any(stable.spec.get(key) is not None for key in ("model", *FRAMEWORKS))
    if not has_model and single_uri(stable) is None:
        findings.invalid(
            "spec.predictor",
            sorted(stable.spec),
            "a service with canary variants serves a model",
            "Use predictor.model, or give the container a STORAGE_URI.",
        )
    _check_names(subject, findings)
    total = sum(entry.get("trafficPercent") or 0 for entry in entries)
    if total > 100:
        findings.invalid(
            "spec.canary",
            [entry.get("trafficPercent") for entry in entries],
            f"the shares sum to {total} percent",
            "Lower them to 100 or less in all.",
        )
    for part in subject.canaries:
        _check_variant(part, stable, findings)


def _check_names(subject: Subject, findings: Findings) -> None:
    stable = subject.predictor.spec.get("name")
    seen: set[str] = set()
    for part in subject.canaries:
        name = part.spec.get("name")
        path = f"{part.path}.name"
        if not name:
            findings.missing(path, "the variant's children are named by it", "Name the variant.")
        elif name in seen:
            findings.invalid(path, name, "another variant has this name", "Use different names.")
        elif name == stable:
            findings.invalid(path, name, "the stable predictor has this name", "Use another name.")
        seen.add(name or "")


def _check_variant(part: Part, stable: Part, findings: Findings) -> None:
    for name in _NOT_IN_CANARY:
        if part.spec.get(name) is not None:
            findings.forbidden(
                f"{part.path}.{name}",
                part.spec[name],
                "a canary variant is not scaled by itself",
                "Remove it; set minReplicas for a fixed number of pods.",
            )
    least = part.spec.get("minReplicas")
    limit = stable.spec.get("minReplicas")
    limit = 1 if limit is None else limit
    if least is not None and least > limit:
        findings.invalid(
            f"{part.path}.minReplicas",
            least,
            f"it is more than the stable predictor's minReplicas, which is {limit}",
            f"Use {limit} or less, or raise spec.predictor.minReplicas.",
        )
