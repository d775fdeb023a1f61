"""What the core kinds demand beyond their types, and which of their fields never change.

Only what Kedge's parts and users would otherwise stumble over; every problem becomes one cause of
an `Invalid`, worded as Kubernetes words it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from kedge.api.scheme import (
    CONFIG_MAP,
    DEPLOYMENT,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    REPLICA_SET,
    SECRET,
    SERVICE,
    Kind,
)
from kedge.cluster.base import Object
from kedge.cluster.errors import Invalid
from kedge.cluster.local.defaults.pods import containers_of
from kedge.cluster.local.names import key_problem, label_value_problem, name_problem

_IMMUTABLE = "field is immutable"


class Problem(msgspec.Struct, frozen=True):
    """One cause of a refusal, as `metav1.StatusCause` has it."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"


def check_valid(kind: Kind, obj: Object, old: Object | None) -> None:
    """Raise `Invalid` unless the object may be stored in place of `old`."""
    problems = list(_metadata_problems(kind, obj))
    problems += _REQUIRED.get(kind, _nothing)(obj)
    if old is not None and not problems:
        problems += _CHANGES.get(kind, _no_change)(obj, old)
    if problems:
        raise invalid(kind, obj["metadata"].get("name", ""), problems)


def invalid(kind: Kind, name: str, problems: list[Problem]) -> Invalid:
    """The refusal of an object for these reasons."""
    lines = [f"{problem.field}: {problem.message}" for problem in problems]
    text = lines[0] if len(lines) == 1 else f"[{', '.join(lines)}]"
    qualified = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    return Invalid(
        f'{qualified} "{name}" is invalid: {text}',
        details={
            "name": name,
            "group": kind.group,
            "kind": kind.kind,
            "causes": [
                {"reason": one.reason, "message": one.message, "field": one.field}
                for one in problems
            ],
        },
    )


def required(field: str, message: str = "") -> Problem:
    return Problem(field, "Required value" + (f": {message}" if message else ""),
                   "FieldValueRequired")  # fmt: skip


def bad_value(field: str, value: Any, message: str) -> Problem:
    return Problem(field, f"Invalid value: {msgspec.json.encode(value).decode()}: {message}")


def _nothing(_obj: Object) -> Iterator[Problem]:
    return iter(())


def _no_change(_obj: Object, _old: Object) -> Iterator[Problem]:
    return iter(())


def _metadata_problems(kind: Kind, obj: Object) -> Iterator[Problem]:
    metadata = obj["metadata"]
    name = metadata.get("name")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    elif wrong := name_problem(kind, name):
        yield bad_value("metadata.name", name, wrong)
    for field in ("labels", "annotations"):
        for key, value in (metadata.get(field) or {}).items():
            if wrong := key_problem(key):
                yield bad_value(f"metadata.{field}", key, wrong)
            elif not isinstance(value, str):
                yield bad_value(f"metadata.{field}", value, f"the value of {key} must be a string")
            elif field == "labels" and (wrong := label_value_problem(value)):
                yield bad_value("metadata.labels", value, wrong)


def _pod_problems(pod: Object) -> Iterator[Problem]:
    yield from _pod_spec_problems(pod.get("spec"), "spec")


def _pod_spec_problems(spec: Any, path: str) -> Iterator[Problem]:
    if not isinstance(spec, dict) or not spec.get("containers"):
        yield required(f"{path}.containers")
        return
    seen: set[str] = set()
    volumes = {volume.get("name") for volume in spec.get("volumes") or ()}
    for field in ("initContainers", "containers"):
        for at, container in enumerate(spec.get(field) or ()):
            here = f"{path}.{field}[{at}]"
            name = container.get("name")
            if not name:
                yield required(f"{here}.name")
            elif name in seen:
                yield Problem(f"{here}.name", f'Duplicate value: "{name}"', "FieldValueDuplicate")
            seen.add(name)
            if not container.get("image"):
                yield required(f"{here}.image")
            for number, mount in enumerate(container.get("volumeMounts") or ()):
                if mount.get("name") not in volumes:
                    yield Problem(
                        f"{here}.volumeMounts[{number}].name",
                        f'Not found: "{mount.get("name")}"', "FieldValueNotFound",
                    )  # fmt: skip


def _workload_problems(workload: Object) -> Iterator[Problem]:
    spec = workload.get("spec")
    if not isinstance(spec, dict):
        yield required("spec")
        return
    if isinstance(spec.get("replicas"), int) and spec["replicas"] < 0:
        yield bad_value("spec.replicas", spec["replicas"], "must be greater than or equal to 0")
    selector = spec.get("selector")
    template = spec.get("template") or {}
    if not isinstance(selector, dict) or not selector:
        yield required("spec.selector")
    else:
        labels = (template.get("metadata") or {}).get("labels") or {}
        wanted = selector.get("matchLabels") or {}
        if any(labels.get(key) != value for key, value in wanted.items()):
            yield bad_value(
                "spec.template.metadata.labels", labels,
                "`selector` does not match template `labels`",
            )  # fmt: skip
    yield from _pod_spec_problems(template.get("spec"), "spec.template.spec")
    policy = (template.get("spec") or {}).get("restartPolicy", "Always")
    if policy != "Always":
        yield Problem(
            "spec.template.spec.restartPolicy",
            f'Unsupported value: "{policy}": supported values: "Always"',
            "FieldValueNotSupported",
        )


def _service_problems(service: Object) -> Iterator[Problem]:
    spec = service.get("spec")
    if not isinstance(spec, dict):
        yield required("spec")
        return
    ports = spec.get("ports") or []
    if not ports and spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None":
        yield required("spec.ports")
    for at, port in enumerate(ports):
        number = port.get("port")
        if not isinstance(number, int) or not 0 < number < 65536:
            yield bad_value(f"spec.ports[{at}].port", number, "must be between 1 and 65535")
        if len(ports) > 1 and not port.get("name"):
            yield required(f"spec.ports[{at}].name")


def _selector_change(obj: Object, old: Object) -> Iterator[Problem]:
    if obj["spec"].get("selector") != old["spec"].get("selector"):
        yield bad_value("spec.selector", obj["spec"].get("selector"), _IMMUTABLE)


_POD_MUTABLE = frozenset({
    "activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations", "schedulingGates",
    "initContainers", "containers", "ephemeralContainers",
})  # fmt: skip


def _pod_change(obj: Object, old: Object) -> Iterator[Problem]:
    new_spec, old_spec = obj["spec"], old["spec"]
    fixed = {key for key in (*new_spec, *old_spec) if key not in _POD_MUTABLE}
    if not old_spec.get("nodeName"):
        fixed.discard("nodeName")
    changed = sorted(key for key in fixed if new_spec.get(key) != old_spec.get(key))
    if _without_images(new_spec) != _without_images(old_spec):
        changed.append("containers")
    if changed:
        yield Problem(
            "spec",
            "Forbidden: pod updates may not change fields other than"
            " `spec.containers[*].image`,`spec.initContainers[*].image`,"
            "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing"
            " tolerations),`spec.terminationGracePeriodSeconds`; changed:"
            f" {', '.join(changed)}",
            "FieldValueForbidden",
        )


def _without_images(spec: dict[str, Any]) -> list[dict[str, Any]]:
    ignored = ("image", "imagePullPolicy")
    return [
        {key: value for key, value in container.items() if key not in ignored}
        for container in containers_of(spec)
    ]


def _frozen_change(obj: Object, old: Object) -> Iterator[Problem]:
    if obj.get("type") != old.get("type"):
        yield bad_value("type", obj.get("type"), _IMMUTABLE)
    if not old.get("immutable"):
        return
    for field in ("data", "binaryData", "immutable"):
        if obj.get(field) != old.get(field):
            yield Problem(field, f"Forbidden: {_IMMUTABLE} when `immutable` is set",
                          "FieldValueForbidden")  # fmt: skip


def _service_change(obj: Object, old: Object) -> Iterator[Problem]:
    before, after = old["spec"].get("clusterIP"), obj["spec"].get("clusterIP")
    external = "ExternalName" in (old["spec"].get("type"), obj["spec"].get("type"))
    if before and before != after and not external:
        yield bad_value("spec.clusterIP", after, "may not change once set")


def _claim_change(obj: Object, old: Object) -> Iterator[Problem]:
    mutable = ("resources", "volumeAttributesClassName", "volumeName")
    before = {key: value for key, value in old["spec"].items() if key not in mutable}
    after = {key: value for key, value in obj["spec"].items() if key not in mutable}
    if before != after:
        yield Problem("spec", "Forbidden: spec is immutable after creation except"
                      " resources.requests", "FieldValueForbidden")  # fmt: skip


_REQUIRED: dict[Kind, Callable[[Object], Iterator[Problem]]] = {
    DEPLOYMENT: _workload_problems,
    POD: _pod_problems,
    REPLICA_SET: _workload_problems,
    SERVICE: _service_problems,
}
_CHANGES: dict[Kind, Callable[[Object, Object], Iterator[Problem]]] = {
    CONFIG_MAP: _frozen_change,
    DEPLOYMENT: _selector_change,
    PERSISTENT_VOLUME_CLAIM: _claim_change,
    POD: _pod_change,
    REPLICA_SET: _selector_change,
    SECRET: _frozen_change,
    SERVICE: _service_change,
}
