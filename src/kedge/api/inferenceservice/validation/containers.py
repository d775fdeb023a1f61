"""Rules on containers: names, environment, exactly one implementation per component."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from kedge.api.findings import Findings, one_of
from kedge.api.inferenceservice.defaults import FRAMEWORKS, SERVER_CONTAINER
from kedge.api.inferenceservice.validation.subject import (
    TRANSFORMER_CONTAINER,
    Part,
    Subject,
    containers,
    env_value,
    models,
    server_container,
)
from kedge.settings.serving import DeploymentMode

BLOCKED_ENVIRONMENT = ("PYTHONPATH",)
_PROTOCOLS = ("v1", "v2")
_STORAGE_TYPES = ("s3", "hdfs", "webhdfs")


def _all_containers(subject: Subject) -> Iterator[Part]:
    for part in (*subject.components, *subject.canaries):
        yield from containers(part, "containers", "initContainers")
        yield from models(part)
        if part.spec.get("art"):
            yield Part(f"{part.path}.art", part.spec["art"])
        worker = Part(f"{part.path}.workerSpec", part.spec.get("workerSpec") or {})
        yield from containers(worker, "containers", "initContainers")


def check_environment(subject: Subject, findings: Findings) -> None:
    """3: variables that would change what a server imports are blocked."""
    for container in _all_containers(subject):
        check_blocked_environment(container, findings)


def check_blocked_environment(container: Part, findings: Findings) -> None:
    """The same for one container; runtimes use it too."""
    for i, entry in enumerate(container.spec.get("env") or []):
        if entry.get("name") in BLOCKED_ENVIRONMENT:
            findings.forbidden(
                f"{container.path}.env[{i}].name",
                entry["name"],
                "it could replace the server's own modules",
                "Remove it, and put what it pointed to into the image.",
            )


def check_names(subject: Subject, findings: Findings) -> None:
    """Containers of one pod have distinct names."""
    for part in (*subject.components, *subject.canaries):
        seen: set[str] = set()
        for i, container in enumerate(containers(part)):
            name = container.spec.get("name")
            if not name and i > 0:
                findings.missing(
                    f"{container.path}.name",
                    "only the first container may go without a name",
                    f"Name it; {SERVER_CONTAINER} is the server, any other name a sidecar.",
                )
            elif name in seen:
                findings.invalid(
                    f"{container.path}.name",
                    name,
                    "another container of the pod has this name",
                    "Give each container a name of its own.",
                )
            seen.add(name or "")


def check_collocation(subject: Subject, findings: Findings) -> None:
    """5: the model is brought for the server, not for a transformer beside it."""
    for part in subject.predictors:
        for container in containers(part):
            is_transformer = container.spec.get("name") == TRANSFORMER_CONTAINER
            if is_transformer and env_value(container.spec, "STORAGE_URI") is not None:
                findings.forbidden(
                    f"{container.path}.env[STORAGE_URI]",
                    env_value(container.spec, "STORAGE_URI"),
                    f"a {TRANSFORMER_CONTAINER} cannot name the model's place",
                    f"Move it to the container {SERVER_CONTAINER}.",
                )


def check_model_name(subject: Subject, findings: Findings) -> None:
    """6: the container of a model is always the server container."""
    for part in subject.predictors:
        for model in models(part):
            if model.spec.get("name"):
                findings.forbidden(
                    f"{model.path}.name",
                    model.spec["name"],
                    f"a model's container is always {SERVER_CONTAINER}",
                    "Remove it; the model is named after the service.",
                )


def check_implementations(subject: Subject, findings: Findings) -> None:
    """9: each component is implemented exactly once."""
    for part in (subject.predictor, *subject.components[1:], *subject.canaries):
        found = implementations(part)
        if len(found) == 1:
            continue
        if found:
            findings.invalid(
                part.path,
                found,
                "a component has exactly one implementation, not several",
                f"Keep one of {', '.join(found)}.",
            )
        else:
            findings.missing(part.path, "the component has no implementation", _how(part))


def implementations(part: Part) -> list[str]:
    """What implements a component: framework keys, `art`, or a server container."""
    found = [key for key in ("model", *FRAMEWORKS, "art") if part.spec.get(key) is not None]
    if found:
        has_server = any(c.spec.get("name") == SERVER_CONTAINER for c in containers(part))
    else:
        has_server = server_container(part) is not None
    return [*found, SERVER_CONTAINER] if has_server else found


def _how(part: Part) -> str:
    if part.path.endswith("predictor"):
        return f"Add `model`, or a container named {SERVER_CONTAINER}."
    if part.path.endswith("explainer"):
        return "Add `containers` with one container, or `art`."
    return "Add `containers` with one container."


def check_protocol(subject: Subject, findings: Findings) -> None:
    """10: a custom predictor's PROTOCOL is one that Kedge speaks."""
    for part in subject.predictors:
        listed = list(containers(part))
        if any(models(part)) or not listed:
            continue
        protocol = env_value(listed[0].spec, "PROTOCOL")
        if protocol and protocol not in _PROTOCOLS:
            findings.invalid(
                f"{listed[0].path}.env[PROTOCOL]",
                protocol,
                f"it is not {one_of(_PROTOCOLS)}",
                f"Use {one_of(_PROTOCOLS)}.",
            )


def check_model_mesh(subject: Subject, findings: Findings) -> None:
    """10: framework keys that stay as they are, which happens in ModelMesh mode only."""
    if subject.mode is not DeploymentMode.MODEL_MESH:
        return
    predictor = subject.predictor
    for key in ("tensorflow", "pytorch"):
        if predictor.spec.get(key):
            _check_gpu_version(Part(f"{predictor.path}.{key}", predictor.spec[key]), findings)
    onnx = predictor.spec.get("onnx") or {}
    if posixpath.splitext(str(onnx.get("storageUri") or ""))[1] not in ("", ".onnx"):
        findings.invalid(
            f"{predictor.path}.onnx.storageUri",
            onnx["storageUri"],
            "an ONNX model is a folder or a file that ends in .onnx",
            "Name the folder or the .onnx file.",
        )
    for model in models(predictor):
        kind = ((model.spec.get("storage") or {}).get("parameters") or {}).get("type")
        if kind is not None and kind not in _STORAGE_TYPES:
            findings.invalid(
                f"{model.path}.storage.parameters.type",
                kind,
                f"it is not {one_of(_STORAGE_TYPES)}",
                f"Use {one_of(_STORAGE_TYPES)}.",
            )


def _check_gpu_version(model: Part, findings: Findings) -> None:
    version = str(model.spec.get("runtimeVersion") or "")
    limits = (model.spec.get("resources") or {}).get("limits") or {}
    has_gpu = any(name.startswith(("nvidia.com/gpu", "nvidia.com/mig")) for name in limits)
    if version and version.endswith("-gpu") != has_gpu:
        findings.invalid(
            f"{model.path}.runtimeVersion",
            version,
            "a -gpu version goes with an nvidia.com/gpu limit, and only with one",
            "Add the limit, or use the version without -gpu."
            if not has_gpu
            else "Use the version that ends in -gpu, or remove the limit.",
        )
