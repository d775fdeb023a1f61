"""Rules on the object's name, annotations, labels, and on what an update may change."""

from __future__ import annotations

import re

from kedge.api.findings import Findings, nearest, one_of
from kedge.api.inferenceservice.defaults import DEPLOYMENT_MODE
from kedge.api.inferenceservice.types import NAME_PATTERN
from kedge.api.inferenceservice.validation.subject import (
    AUTOSCALER_CLASS,
    Part,
    Subject,
    single_uri,
)
from kedge.settings.serving import DeploymentMode

AUTOSCALER_CLASSES = ("hpa", "keda", "external", "none")
SHADOW_PERCENT = "serving.kedge.dev/shadow-percent"
_MODES = ("Standard", "Knative", "ModelMesh", "RawDeployment", "Serverless")
_SERVING = "serving.kserve.io/"
_LABEL_LENGTH = 63

KNOWN_ANNOTATIONS = frozenset(
    {
        "autoscalerClass", "deploymentMode", "disable-auto-update", "disable-localmodel",
        "enable-metric-aggregation", "enable-prometheus-scraping", "enable-tag-routing",
        "gke-accelerator", "gpu-resource-types", "nodegroup", "stop", "storage-initializer-uid",
        "storageSecretName",
    }
)  # fmt: skip
"""What is read under `serving.kserve.io/` on an InferenceService."""

_READ_BY_NOTHING = {
    "metrics": "nothing reads it",
    "targetUtilizationPercentage": "nothing reads it",
    "logger-secret-name": "nothing reads it",
    "logger-secret-path": "nothing reads it",
    "logger-secret-file": "nothing reads it",
    "disable-localmodel": "Kedge keeps no model caches on nodes",
    "nodegroup": "Kedge keeps no model caches on nodes",
    "server-type": "it is read on a ServingRuntime only, and here where it is kedge",
    "routing-group": "it is for LLMInferenceService only",
    "enable-served-by-header": "it is for LLMInferenceService only",
    "model-based-routing-enabled": "it is for LLMInferenceService only",
}
_KEDGE_SERVER = ("serving.kserve.io/server-type", "kedge")
"""Says of a component's own containers that they are built on kedge.server."""
_READ_ELSEWHERE = {
    "exp-dra-": "it is for LLMInferenceService only",
    "s3-": "it is read on a Secret or ServiceAccount only",
}
_VISIBILITY = ("networking.kserve.io/visibility", "networking.knative.dev/visibility")


def check_mode_kept(subject: Subject, findings: Findings) -> None:
    """U1: the deployment mode of a service does not change."""
    recorded = ((subject.old or {}).get("status") or {}).get("deploymentMode") or ""
    kept, asked = DeploymentMode.parse(recorded), subject.annotations.get(DEPLOYMENT_MODE)
    wanted = DeploymentMode.parse(asked or "")
    if kept is not None and wanted is not None and wanted is not kept:
        findings.invalid(
            f"metadata.annotations[{DEPLOYMENT_MODE}]",
            asked,
            f"the service was created in {kept} mode, and its mode cannot change",
            f"Set it back to {kept}, or delete the service and create it again.",
        )


def check_variant_renamed(subject: Subject, findings: Findings) -> None:
    """U2: a variant's name changes only together with its model's URI."""
    if subject.old is None:
        return
    before = Part("spec.predictor", (subject.old.get("spec") or {}).get("predictor") or {})
    names = before.spec.get("name"), subject.predictor.spec.get("name")
    uris = [found and found[1] for found in (single_uri(before), single_uri(subject.predictor))]
    if (names[0] or "") != (names[1] or "") and uris[0] == uris[1]:
        findings.invalid(
            "spec.predictor.name",
            names[1] or "",
            f"the variant name changed from {names[0] or 'none'} while the storage URI stayed"
            f" {uris[0] or 'unset'}",
            "Change the storage URI in the same update, or keep the name.",
        )


def check_name(subject: Subject, findings: Findings) -> None:
    """1: the name is a DNS label that starts with a letter; long ones are warned about."""
    if not subject.name and subject.metadata.get("generateName"):
        return
    if not re.fullmatch(NAME_PATTERN.strip("^$"), subject.name):
        findings.invalid(
            "metadata.name",
            subject.name,
            f"it does not match {NAME_PATTERN}",
            "Use lower-case letters, digits and dashes, starting with a letter and ending with a"
            " letter or digit.",
        )
        return
    namespace = str(subject.metadata.get("namespace") or "")
    longest = max(
        (f"isvc.{_child(subject, part)}" for part in subject.components), key=len, default=""
    )
    host = f"{longest.removeprefix('isvc.')}-{namespace}"
    over = max(len(longest), len(host)) - _LABEL_LENGTH
    if over > 0:
        findings.warn(
            "metadata.name",
            f"{subject.name} makes names of children or hosts longer than {_LABEL_LENGTH}"
            " characters, and those cannot be created",
            f"Shorten the name by {over} characters or more.",
        )


def _child(subject: Subject, part: Part) -> str:
    variant = part.spec.get("name") if part.path == "spec.predictor" else None
    component = part.path.removeprefix("spec.")
    return "-".join(word for word in (subject.name, variant, component) if word)


def check_autoscaler_class(subject: Subject, findings: Findings) -> None:
    """2: the autoscaler class is a known one."""
    places = [("metadata", subject.annotations)]
    places += [(part.path, part.spec.get("annotations") or {}) for part in subject.components]
    for path, texts in places:
        value = texts.get(AUTOSCALER_CLASS)
        if value is not None and value not in AUTOSCALER_CLASSES:
            meant = nearest(value, AUTOSCALER_CLASSES)
            findings.invalid(
                f"{path}.annotations[{AUTOSCALER_CLASS}]",
                value,
                f"it is not {one_of(AUTOSCALER_CLASSES)}",
                f"Write {meant}." if meant else f"Use {one_of(AUTOSCALER_CLASSES)}.",
            )


def check_shadow(subject: Subject, findings: Findings) -> None:
    """The share of requests that a candidate gets copies of is a percentage."""
    value = subject.annotations.get(SHADOW_PERCENT)
    if value is not None and not (value.isdecimal() and 1 <= int(value) <= 100):
        findings.invalid(
            f"metadata.annotations[{SHADOW_PERCENT}]",
            value,
            "it is no whole number from 1 to 100",
            "Write how many of a hundred requests the candidate shall get a copy of.",
        )


def check_annotations(subject: Subject, findings: Findings) -> None:
    """Warn of annotations and labels that are misspelt or that nothing reads."""
    places = [("metadata", subject.metadata)]
    places += [(part.path, part.spec) for part in subject.components]
    for path, holder in places:
        for key, value in (holder.get("annotations") or {}).items():
            if (key, value) != _KEDGE_SERVER:
                _check_annotation(f"{path}.annotations[{key}]", key, findings)
        for key, value in (holder.get("labels") or {}).items():
            if key in _VISIBILITY and value != "cluster-local":
                findings.warn(
                    f"{path}.labels[{key}]",
                    f'the value "{value}" means nothing; the service is reachable from outside',
                    "Use cluster-local, or remove the label.",
                )
    _check_mode(subject, findings)
    stop = subject.annotations.get(f"{_SERVING}stop")
    if stop is not None and stop.lower() not in ("true", "false"):
        findings.warn(
            f"metadata.annotations[{_SERVING}stop]",
            f'the value "{stop}" does not stop the service',
            'Use "true" to stop it.',
        )


def _check_annotation(path: str, key: str, findings: Findings) -> None:
    name = key.removeprefix(_SERVING)
    if name == key or name in KNOWN_ANNOTATIONS - set(_READ_BY_NOTHING):
        return
    why = _READ_BY_NOTHING.get(name)
    if why is None:
        why = next(
            (text for start, text in _READ_ELSEWHERE.items() if name.startswith(start)), None
        )
    if why is not None:
        findings.warn(path, f"the annotation has no effect: {why}", "Remove it.")
        return
    meant = nearest(name, KNOWN_ANNOTATIONS)
    hint = f"Write {_SERVING}{meant}." if meant else "Remove it, or check its spelling."
    findings.warn(path, "unknown annotation, it has no effect", hint)


def _check_mode(subject: Subject, findings: Findings) -> None:
    value = subject.annotations.get(DEPLOYMENT_MODE)
    path = f"metadata.annotations[{DEPLOYMENT_MODE}]"
    if value is not None and DeploymentMode.parse(value) is None:
        meant = nearest(value, _MODES)
        findings.warn(
            path,
            f'"{value}" is no deployment mode; {subject.mode} is used',
            f"Write {meant}." if meant else "Use Standard or Knative.",
        )
    elif subject.mode is DeploymentMode.MODEL_MESH:
        findings.warn(
            path,
            "Kedge does not run ModelMesh, so nothing will serve this",
            "Use Standard or Knative.",
        )
