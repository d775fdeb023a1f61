"""Each rule of 2.5 about runtimes, and those about storage containers; one row for each."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kedge.api.clusterstoragecontainer import validation as storage_rules
from kedge.api.servingruntime.validation import validate
from kedge.settings.serving import MultiNode, ServingConfig

CONFIG = ServingConfig.default()
Object = dict[str, Any]


def runtime(name: str = "mine", **spec: Any) -> Object:
    containers = spec.pop("containers", [{"name": "kserve-container", "image": "a"}])
    return {"metadata": {"name": name}, "spec": {"containers": containers, **spec}}


def reads(priority: int | None = 1, name: str = "sklearn", **entry: Any) -> Object:
    format_ = {"name": name, "version": "1", "autoSelect": True, "priority": priority, **entry}
    return {"supportedModelFormats": [format_], "protocolVersions": ["v1", "v2"]}


def with_workers(container: Object | None = None, **spec: Any) -> Object:
    worker = {"containers": [container or {"name": "worker-container"}], **spec}
    return {"workerSpec": worker}


def env(name: str) -> list[Object]:
    return [{"name": name, "value": "2"}]


REFUSED: list[tuple[str, Object, list[Object], str]] = [
    (
        "two priorities for one format",
        runtime(
            supportedModelFormats=[
                {"name": "sklearn", "version": "1", "autoSelect": True, "priority": 1},
                {"name": "sklearn", "version": "2", "autoSelect": True, "priority": 2},
            ]
        ),
        [],
        "spec.supportedModelFormats[1].priority: Invalid value: 2: another entry of sklearn has"
        " priority 1.",
    ),
    (
        "another runtime's priority",
        runtime(**reads()),
        [runtime("other", **reads(name="SKLearn"))],
        "spec.supportedModelFormats[0].priority: Invalid value: 1: runtime other selects sklearn 1"
        " with the same priority. Fix: Use another priority, or set autoSelect to false on one",
    ),
    (
        "two worker containers",
        runtime(workerSpec={"containers": [{"name": "worker-container"}, {"name": "b"}]}),
        [],
        "spec.workerSpec.containers: Invalid value",
    ),
    (
        "sizes as environment",
        runtime(
            containers=[{"name": "kserve-container", "env": env("PIPELINE_PARALLEL_SIZE")}],
            **with_workers(),
        ),
        [],
        "spec.containers[0].env[PIPELINE_PARALLEL_SIZE]: Forbidden",
    ),
    (
        "unknown resource",
        runtime(
            **with_workers(
                {"name": "worker-container", "resources": {"limits": {"x.example/npu": 1}}}
            )
        ),
        [],
        "spec.workerSpec.containers[0].resources.limits[x.example/npu]: Invalid value",
    ),
    (
        "malformed list of resources",
        runtime(annotations={"serving.kserve.io/gpu-resource-types": "x"}),
        [],
        "spec.annotations[serving.kserve.io/gpu-resource-types]: Invalid value",
    ),
    (
        "size below 1",
        runtime(**with_workers(tensorParallelSize=0)),
        [],
        "spec.workerSpec.tensorParallelSize: Invalid value: 0",
    ),
    (
        "blocked environment",
        runtime(containers=[{"name": "kserve-container", "env": env("PYTHONPATH")}]),
        [],
        "spec.containers[0].env[0].name: Forbidden",
    ),
    (
        "blocked environment of a worker",
        runtime(**with_workers({"name": "worker-container", "env": env("PYTHONPATH")})),
        [],
        "spec.workerSpec.containers[0].env[0].name: Forbidden",
    ),
    ("nameless", runtime(containers=[{}]), [], "spec.containers[0].name: Required value"),
]


@pytest.mark.parametrize(
    ("obj", "others", "said"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_refused(obj: Object, others: list[Object], said: str) -> None:
    found = [str(cause) for cause in validate(obj, None, others, CONFIG).causes]
    assert any(cause.startswith(said) for cause in found), found
    disabled = {**obj, "spec": {**obj["spec"], "disabled": True}}
    assert validate(disabled, None, others, CONFIG).causes == []


@pytest.mark.parametrize(
    "other",
    [
        runtime("other", **reads(2)),
        runtime("other", **reads(None)),
        runtime("other", **reads(version="2")),
        runtime("other", **reads(autoSelect=False)),
        runtime("other", **{**reads(), "protocolVersions": ["grpc-v2"]}),
        runtime("other", multiModel=True, **reads()),
        runtime("other", disabled=True, **reads()),
        runtime("mine", **reads()),
        runtime("other", **reads(name="xgboost")),
    ],
)
def test_runtimes_that_do_not_meet(other: Object) -> None:
    assert validate(runtime(**reads()), None, [other], CONFIG).causes == []


def test_two_without_priority_do_not_meet() -> None:
    assert (
        validate(runtime(**reads(None)), None, [runtime("b", **reads(None))], CONFIG).causes == []
    )


def test_a_worker_spec_stays() -> None:
    old = runtime(**with_workers())
    (cause,) = validate(runtime(), old, [], CONFIG).causes
    assert str(cause).startswith("spec.workerSpec: Required value: it was there")
    assert validate(old, runtime(), [], CONFIG).causes == []


def test_a_configured_resource_is_known() -> None:
    config = msgspec.structs.replace(
        CONFIG, multi_node=MultiNode(custom_gpu_resource_types=("x.example/npu",))
    )
    limits = {"resources": {"limits": {"x.example/npu": 1}}}
    obj = runtime(**with_workers({"name": "worker-container", **limits}))
    assert validate(obj, None, [], config).causes == []


@pytest.mark.parametrize(
    ("obj", "said"),
    [
        (runtime(replicas=2), "spec.replicas: it has no effect: it is for ModelMesh only."),
        (runtime(builtInAdapter={"env": [{}]}), "spec.builtInAdapter: it has no effect"),
        (runtime(multiModel=True), "spec.multiModel: a runtime made for ModelMesh is never chosen"),
        (
            runtime(containers=[{"name": "a"}]),
            "spec.containers: no container is named kserve-container, so no service can use",
        ),
        (
            runtime(**with_workers({"name": "a"})),
            "spec.workerSpec.containers: no container is named worker-container",
        ),
        (
            runtime(protocolVersions=["v2", "V1"]),
            'spec.protocolVersions[1]: "V1" is a protocol that no service asks for.',
        ),
    ],
)
def test_warned(obj: Object, said: str) -> None:
    findings = validate(obj, None, [], CONFIG)
    assert findings.causes == []
    assert any(warning.startswith(said) for warning in findings.warnings), findings.warnings


def storage(name: str = "storage-initializer", *formats: Object, **rest: Any) -> Object:
    return {"spec": {"container": {"name": name}, "supportedUriFormats": list(formats)}, **rest}


@pytest.mark.parametrize(
    ("obj", "said"),
    [
        (storage("mine", {"prefix": "a://"}), 'spec.container.name: Invalid value: "mine"'),
        (storage("storage-initializer", {}), "spec.supportedUriFormats[0]: Required value"),
        (
            storage("storage-initializer", {"regex": "("}),
            "spec.supportedUriFormats[0].regex: Invalid",
        ),
    ],
)
def test_refused_storage_containers(obj: Object, said: str) -> None:
    (cause,) = storage_rules.validate(obj).causes
    assert str(cause).startswith(said)
    assert storage_rules.validate({**obj, "disabled": True}).causes == []


@pytest.mark.parametrize(
    ("obj", "said"),
    [
        (
            storage("storage-initializer", {"prefix": "a", "regex": "b"}),
            "spec.supportedUriFormats[0].regex: it has no effect: prefix is set",
        ),
        (storage(), "spec.supportedUriFormats: without any it is used only by services that name"),
    ],
)
def test_warned_storage_containers(obj: Object, said: str) -> None:
    findings = storage_rules.validate(obj)
    assert findings.causes == []
    assert findings.warnings[0].startswith(said)
