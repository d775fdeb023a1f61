"""What is refused about a ServingRuntime or ClusterServingRuntime, and what is warned about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from kedge.api.findings import Findings
from kedge.api.inferenceservice.defaults import SERVER_CONTAINER
from kedge.api.inferenceservice.validation.containers import check_blocked_environment
from kedge.api.inferenceservice.validation.multinode import (
    check_parallel_environment,
    check_resources,
    check_worker_spec,
    known_gpus,
)
from kedge.api.inferenceservice.validation.subject import WORKER_CONTAINER, Part, containers
from kedge.settings.serving import ServingConfig

Object = dict[str, Any]

_PROTOCOLS = ("v1", "v2", "grpc-v1", "grpc-v2")
_WITHOUT_EFFECT = {
    "grpcEndpoint": "it is for ModelMesh only",
    "grpcDataEndpoint": "it is for ModelMesh only",
    "httpDataEndpoint": "it is for ModelMesh only",
    "replicas": "it is for ModelMesh only",
    "storageHelper": "it is for ModelMesh only",
    "builtInAdapter": "it is for ModelMesh only",
}


def validate(
    runtime: Object, old: Object | None, others: Iterable[Object], config: ServingConfig
) -> Findings:
    """Everything that is wrong with a runtime; a disabled one may be anything.

    `others` are the stored runtimes of the same namespace, or of the cluster.
    """
    findings = Findings()
    spec = Part("spec", runtime.get("spec") or {})
    if spec.spec.get("disabled"):
        return findings
    name = (runtime.get("metadata") or {}).get("name")
    _check_containers(spec, config, findings)
    _check_workers(spec, old, findings)
    _check_own_priorities(spec, findings)
    for other in others:
        if (other.get("metadata") or {}).get("name") != name:
            _check_priorities(spec, other, findings)
    _warn(spec, findings)
    return findings


def _check_containers(spec: Part, config: ServingConfig, findings: Findings) -> None:
    worker = Part("spec.workerSpec", spec.spec.get("workerSpec") or {})
    gpus = known_gpus(
        spec.spec.get("annotations") or {}, config.multi_node.custom_gpu_resource_types
    )
    for i, container in enumerate(containers(spec)):
        if not container.spec.get("name"):
            findings.missing(
                f"spec.containers[{i}].name",
                "a runtime's containers are told apart by name",
                f"Name it; {SERVER_CONTAINER} is the model server.",
            )
    for container in (*containers(spec), *containers(worker)):
        check_blocked_environment(container, findings)
        if spec.spec.get("workerSpec") is not None and gpus is not None:
            check_resources(container, gpus, findings)
    if gpus is None:
        findings.invalid(
            "spec.annotations[serving.kserve.io/gpu-resource-types]",
            spec.spec["annotations"]["serving.kserve.io/gpu-resource-types"],
            "it is not a JSON list of resource names",
            'Write for example ["vendor.example/gpu"].',
        )


def _check_workers(spec: Part, old: Object | None, findings: Findings) -> None:
    worker = spec.spec.get("workerSpec")
    if worker is None:
        if ((old or {}).get("spec") or {}).get("workerSpec") is not None:
            findings.missing(
                "spec.workerSpec",
                "it was there, and services may run over several nodes by it",
                "Put it back, or create a runtime of another name.",
            )
        return
    check_worker_spec(Part("spec.workerSpec", worker), findings)
    for container in containers(spec):
        if container.spec.get("name") == SERVER_CONTAINER:
            check_parallel_environment(container, findings)


def _automatic(spec: Object) -> Iterator[tuple[int, Object]]:
    for i, entry in enumerate(spec.get("supportedModelFormats") or []):
        if entry.get("autoSelect"):
            yield i, entry


def _check_own_priorities(spec: Part, findings: Findings) -> None:
    seen: dict[str, Any] = {}
    for i, entry in _automatic(spec.spec):
        name = str(entry["name"]).casefold()
        if seen.setdefault(name, entry.get("priority")) != entry.get("priority"):
            findings.invalid(
                f"spec.supportedModelFormats[{i}].priority",
                entry.get("priority"),
                f"another entry of {entry['name']} has priority {seen[name] or 'none'}",
                "Give all versions of a format the same priority.",
            )


def _check_priorities(spec: Part, other: Object, findings: Findings) -> None:
    theirs = other.get("spec") or {}
    if theirs.get("disabled") or not _may_meet(spec.spec, theirs):
        return
    taken = {
        (str(entry["name"]).casefold(), entry.get("version"), entry.get("priority"))
        for _, entry in _automatic(theirs)
        if entry.get("priority") is not None
    }
    for i, entry in _automatic(spec.spec):
        key = (str(entry["name"]).casefold(), entry.get("version"), entry.get("priority"))
        if key in taken:
            findings.invalid(
                f"spec.supportedModelFormats[{i}].priority",
                entry["priority"],
                f"runtime {(other.get('metadata') or {}).get('name')} selects {entry['name']} "
                f"{entry.get('version') or ''}".rstrip()
                + " with the same priority",
                "Use another priority, or set autoSelect to false on one of the two.",
            )


def _may_meet(ours: Object, theirs: Object) -> bool:
    same_kind = bool(ours.get("multiModel")) == bool(theirs.get("multiModel"))
    shared = set(ours.get("protocolVersions") or []) & set(theirs.get("protocolVersions") or [])
    return same_kind and bool(shared)


def _warn(spec: Part, findings: Findings) -> None:
    for name, why in _WITHOUT_EFFECT.items():
        if spec.spec.get(name):
            findings.warn(f"spec.{name}", f"it has no effect: {why}", "Remove it.")
    if spec.spec.get("multiModel"):
        findings.warn(
            "spec.multiModel",
            "a runtime made for ModelMesh is never chosen automatically",
            "Remove it, or name the runtime in each service.",
        )
    names = [container.spec.get("name") for container in containers(spec)]
    if SERVER_CONTAINER not in names and not spec.spec.get("multiModel"):
        findings.warn(
            "spec.containers",
            f"no container is named {SERVER_CONTAINER}, so no service can use this runtime",
            f"Name the model server's container {SERVER_CONTAINER}.",
        )
    worker = Part("spec.workerSpec", spec.spec.get("workerSpec") or {})
    workers = [container.spec.get("name") for container in containers(worker)]
    if workers and WORKER_CONTAINER not in workers:
        findings.warn(
            "spec.workerSpec.containers",
            f"no container is named {WORKER_CONTAINER}, so no service can use the workers",
            f"Name the worker's container {WORKER_CONTAINER}.",
        )
    for i, protocol in enumerate(spec.spec.get("protocolVersions") or []):
        if protocol not in _PROTOCOLS:
            findings.warn(
                f"spec.protocolVersions[{i}]",
                f'"{protocol}" is a protocol that no service asks for',
                f"Use {', '.join(_PROTOCOLS)}.",
            )
