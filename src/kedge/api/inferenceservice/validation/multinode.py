"""Rules on serving over several nodes, and on extended resources."""

from __future__ import annotations

import json
from collections.abc import Iterable

from kedge.api.findings import Findings, nearest, one_of
from kedge.api.inferenceservice.validation.subject import (
    Part,
    Subject,
    containers,
    env_value,
    models,
)
from kedge.settings.serving import DeploymentMode

PARALLEL_ENVIRONMENT = ("PIPELINE_PARALLEL_SIZE", "TENSOR_PARALLEL_SIZE")
GPU_RESOURCE_TYPES = "serving.kserve.io/gpu-resource-types"
_KNOWN_GPUS = ("nvidia.com/gpu", "amd.com/gpu", "intel.com/gpu", "habana.ai/gaudi")
_ORDINARY = frozenset({"cpu", "memory", "storage", "ephemeral-storage"})
_SCHEMES = ("pvc", "oci")


def check_workers(subject: Subject, findings: Findings) -> None:
    """4: what a predictor with a `workerSpec` must be."""
    predictor = subject.predictor
    if predictor.spec.get("workerSpec") is None:
        return
    worker = Part(f"{predictor.path}.workerSpec", predictor.spec["workerSpec"])
    check_worker_spec(worker, findings)
    gpus = known_gpus(subject.annotations, subject.config.multi_node.custom_gpu_resource_types)
    if gpus is None:
        findings.invalid(
            f"metadata.annotations[{GPU_RESOURCE_TYPES}]",
            subject.annotations.get(GPU_RESOURCE_TYPES),
            "it is not a JSON list of resource names",
            'Write for example ["vendor.example/gpu"].',
        )
    for holder in (*models(predictor), *containers(worker)):
        if gpus is not None:
            check_resources(holder, gpus, findings)
    for model in models(predictor):
        check_parallel_environment(model, findings)
    _check_storage(predictor, findings)
    scaler = subject.autoscaler_class(predictor)
    if scaler not in ("", "none"):
        findings.invalid(
            "metadata.annotations[serving.kserve.io/autoscalerClass]",
            scaler,
            "a service over several nodes is not scaled",
            "Use none.",
        )
    if subject.mode is DeploymentMode.KNATIVE:
        findings.warn(
            worker.path,
            "serving over several nodes needs Standard mode",
            "Set the annotation serving.kserve.io/deploymentMode to Standard.",
        )


def check_worker_spec(worker: Part, findings: Findings) -> None:
    """One container, and sizes of at least 1; runtimes use it too."""
    listed = worker.spec.get("containers") or []
    if len(listed) > 1:
        findings.invalid(
            f"{worker.path}.containers",
            [container.get("name") for container in listed],
            "a worker has one container",
            "Keep the worker-container.",
        )
    for size in ("pipelineParallelSize", "tensorParallelSize"):
        if worker.spec.get(size) is not None and worker.spec[size] < 1:
            findings.invalid(
                f"{worker.path}.{size}", worker.spec[size], "it is below 1", "Use 1 or more."
            )


def check_parallel_environment(container: Part, findings: Findings) -> None:
    """The sizes are fields, not environment; runtimes use it too."""
    for name in PARALLEL_ENVIRONMENT:
        if env_value(container.spec, name) is not None:
            findings.forbidden(
                f"{container.path}.env[{name}]",
                env_value(container.spec, name),
                "the controller sets it",
                "Use workerSpec.pipelineParallelSize and workerSpec.tensorParallelSize.",
            )


def known_gpus(annotations: dict[str, str], custom: Iterable[str]) -> frozenset[str] | None:
    """Resources that count as GPUs; None when the annotation that adds some is malformed."""
    text = annotations.get(GPU_RESOURCE_TYPES)
    added: list[str] = []
    if text is not None:
        try:
            added = json.loads(text)
        except json.JSONDecodeError:
            return None
        if not isinstance(added, list) or not all(isinstance(a, str) and a for a in added):
            return None
    return frozenset((*_KNOWN_GPUS, *custom, *added))


def check_resources(container: Part, gpus: frozenset[str], findings: Findings) -> None:
    """2.6: an extended resource is a known GPU."""
    for kind in ("requests", "limits"):
        amounts = (container.spec.get("resources") or {}).get(kind) or {}
        for name in amounts:
            if name in _ORDINARY or name in gpus:
                continue
            meant = nearest(name, gpus)
            findings.invalid(
                f"{container.path}.resources.{kind}[{name}]",
                name,
                "it is not a known GPU resource",
                f"Write {meant}."
                if meant
                else f"Use {one_of(sorted(gpus))}, or name it in {GPU_RESOURCE_TYPES}.",
            )


def _check_storage(predictor: Part, findings: Findings) -> None:
    uri = str((predictor.spec.get("model") or {}).get("storageUri") or "")
    path = f"{predictor.path}.model.storageUri"
    if not uri:
        found = next((m.spec.get("storageUri") for m in models(predictor)), None)
        uri = str(found or "")
    if not uri:
        findings.missing(
            path, "a model over several nodes needs one", "Use a pvc:// or oci:// URI."
        )
    elif uri.partition("://")[0] not in _SCHEMES:
        findings.invalid(
            path,
            uri,
            "every node must find the same files, so only pvc:// and oci:// can be used",
            "Put the model on a shared volume and use pvc://claim/path.",
        )
