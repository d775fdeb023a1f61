"""All rules, in the order in which they are reported."""

from __future__ import annotations

from kedge.api.findings import Findings
from kedge.api.inferenceservice.validation import (
    canary,
    containers,
    effects,
    metadata,
    multinode,
    scaling,
    storage,
)
from kedge.api.inferenceservice.validation.subject import Object, Subject
from kedge.settings.serving import ServingConfig

_RULES = (
    metadata.check_mode_kept,
    metadata.check_variant_renamed,
    metadata.check_name,
    metadata.check_autoscaler_class,
    metadata.check_shadow,
    metadata.check_annotations,
    containers.check_environment,
    containers.check_names,
    multinode.check_workers,
    containers.check_collocation,
    containers.check_model_name,
    storage.check_uris,
    storage.check_confidential,
    containers.check_implementations,
    containers.check_protocol,
    containers.check_model_mesh,
    scaling.check_bounds,
    scaling.check_logger,
    scaling.check_autoscaling,
    scaling.warn_of_annotations,
    canary.check_canaries,
    effects.warn_without_effect,
)


def validate(isvc: Object, old: Object | None, config: ServingConfig) -> Findings:
    """Everything that is wrong or without effect; an object being deleted may be anything."""
    findings = Findings()
    if old is not None and (old.get("metadata") or {}).get("deletionTimestamp"):
        return findings
    subject = Subject(isvc, old, config)
    for rule in _RULES:
        rule(subject, findings)
    return findings
