"""Rules 1 to 10: names, annotations, containers, implementations; one row for each."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.api.isvc_cases import (
    CLASS,
    MODE,
    MODEL_MESH,
    STANDARD,
    Object,
    causes,
    isvc,
    judge,
    model,
    warnings,
    with_model,
)

CUSTOM = {"containers": [{"name": "kserve-container", "image": "a"}]}
SIDECAR = {"name": "side", "image": "b"}


def env(**values: str) -> list[Object]:
    return [{"name": name, "value": value} for name, value in values.items()]


@pytest.mark.parametrize(
    "obj",
    [
        isvc(),
        isvc({"sklearn": {"storageUri": "gs://a"}}),
        isvc(CUSTOM),
        isvc({"containers": [{"image": "a"}]}),
        isvc({"model": model(), "containers": [SIDECAR]}),
        isvc({"model": model(), "containers": [{"name": "transformer-container"}]}),
        isvc(transformer={"containers": [{"name": "mine", "image": "a"}]}),
        isvc(explainer={"art": {"type": "SquareAttack"}}),
        isvc(explainer={"containers": [{"image": "a"}, SIDECAR]}),
        isvc(annotations={**STANDARD, CLASS: "hpa"}),
        isvc(annotations={"serving.kedge.dev/shadow-percent": "20"}),
        isvc({"containers": [{"name": "kserve-container", "env": env(PROTOCOL="v2")}]}),
        isvc({"model": model(), "containers": [SIDECAR], "initContainers": [{"name": "i"}]}),
    ],
)
def test_accepted(obj: Object) -> None:
    findings = judge(obj)
    assert (findings.causes, findings.warnings) == ([], [])


ROWS: list[tuple[str, Object, str]] = [
    (
        "1 name",
        isvc(name="Iris_1"),
        'metadata.name: Invalid value: "Iris_1": it does not match ^[a-z]([-a-z0-9]*[a-z0-9])?$.'
        " Fix: Use lower-case letters, digits and dashes,",
    ),
    ("1 name, digit first", isvc(name="1a"), 'metadata.name: Invalid value: "1a"'),
    ("1 name, dash last", isvc(name="a-"), 'metadata.name: Invalid value: "a-"'),
    (
        "a candidate's copies",
        isvc(annotations={"serving.kedge.dev/shadow-percent": "200"}),
        'metadata.annotations[serving.kedge.dev/shadow-percent]: Invalid value: "200": it is no'
        " whole number from 1 to 100. Fix: Write how many of a hundred requests",
    ),
    (
        "2 autoscaler class",
        isvc(annotations={CLASS: "hpaa"}),
        f'metadata.annotations[{CLASS}]: Invalid value: "hpaa": it is not hpa, keda, external or'
        " none. Fix: Write hpa.",
    ),
    (
        "2 autoscaler class of a component",
        isvc({"model": model(), "annotations": {CLASS: "x"}}),
        f'spec.predictor.annotations[{CLASS}]: Invalid value: "x"',
    ),
    (
        "3 blocked environment",
        isvc(with_model(env=env(A="1", PYTHONPATH="/x"))),
        'spec.predictor.model.env[1].name: Forbidden: "PYTHONPATH": it could replace the server',
    ),
    (
        "3 in a framework key",
        isvc({"sklearn": {"env": env(PYTHONPATH="/x")}}),
        "spec.predictor.sklearn.env[0].name: Forbidden",
    ),
    (
        "3 in a sidecar",
        isvc({"model": model(), "containers": [{**SIDECAR, "env": env(PYTHONPATH="")}]}),
        "spec.predictor.containers[0].env[0].name: Forbidden",
    ),
    (
        "3 in an init container",
        isvc({"model": model(), "initContainers": [{"name": "i", "env": env(PYTHONPATH="")}]}),
        "spec.predictor.initContainers[0].env[0].name: Forbidden",
    ),
    (
        "3 in a transformer",
        isvc(transformer={"containers": [{"env": env(PYTHONPATH="")}]}),
        "spec.transformer.containers[0].env[0].name: Forbidden",
    ),
    (
        "3 in art",
        isvc(explainer={"art": {"env": env(PYTHONPATH="")}}),
        "spec.explainer.art.env[0].name: Forbidden",
    ),
    (
        "5 collocation",
        isvc(
            {
                "model": model(),
                "containers": [{"name": "transformer-container", "env": env(STORAGE_URI="gs://a")}],
            }
        ),
        'spec.predictor.containers[0].env[STORAGE_URI]: Forbidden: "gs://a": a'
        " transformer-container cannot name the model's place. Fix: Move it to the container"
        " kserve-container.",
    ),
    (
        "6 name of a model",
        isvc(with_model(name="mine")),
        'spec.predictor.model.name: Forbidden: "mine": a model\'s container is always'
        " kserve-container.",
    ),
    (
        "6 name of a framework",
        isvc({"sklearn": {"name": "mine"}}),
        "spec.predictor.sklearn.name: Forbidden",
    ),
    (
        "9 none",
        isvc({}),
        "spec.predictor: Required value: the component has no implementation. Fix: Add `model`, or"
        " a container named kserve-container.",
    ),
    (
        "9 only sidecars",
        isvc({"containers": [{"name": "a"}, {"name": "b"}]}),
        "spec.predictor: Required value: the component has no implementation",
    ),
    (
        "9 two frameworks",
        isvc({"sklearn": {}, "xgboost": {}}),
        'spec.predictor: Invalid value: ["sklearn", "xgboost"]: a component has exactly one'
        " implementation, not several. Fix: Keep one of sklearn, xgboost.",
    ),
    ("9 model and framework", isvc({"model": model(), "sklearn": {}}), "spec.predictor: Invalid"),
    (
        "9 model and server container",
        isvc({"model": model(), **CUSTOM}),
        'spec.predictor: Invalid value: ["model", "kserve-container"]',
    ),
    (
        "9 transformer without container",
        isvc(transformer={"minReplicas": 1}),
        "spec.transformer: Required value: the component has no implementation. Fix: Add"
        " `containers` with one container.",
    ),
    (
        "9 explainer without anything",
        isvc(explainer={"minReplicas": 1}),
        "spec.explainer: Required value: the component has no implementation. Fix: Add"
        " `containers` with one container, or `art`.",
    ),
    (
        "9 explainer with both",
        isvc(explainer={"art": {}, **CUSTOM}),
        'spec.explainer: Invalid value: ["art", "kserve-container"]',
    ),
    (
        "10 protocol of a custom predictor",
        isvc({"containers": [{"name": "kserve-container", "env": env(PROTOCOL="v3")}]}),
        'spec.predictor.containers[0].env[PROTOCOL]: Invalid value: "v3": it is not v1 or v2.'
        " Fix: Use v1 or v2.",
    ),
    (
        "10 gpu version without gpu",
        isvc({"tensorflow": {"runtimeVersion": "2.6-gpu"}}, annotations=MODEL_MESH),
        'spec.predictor.tensorflow.runtimeVersion: Invalid value: "2.6-gpu"',
    ),
    (
        "10 gpu without gpu version",
        isvc(
            {
                "pytorch": {
                    "runtimeVersion": "0.9",
                    "resources": {"limits": {"nvidia.com/gpu": 1}},
                }
            },
            annotations=MODEL_MESH,
        ),
        'spec.predictor.pytorch.runtimeVersion: Invalid value: "0.9"',
    ),
    (
        "10 onnx extension",
        isvc({"onnx": {"storageUri": "gs://a/b.pt"}}, annotations=MODEL_MESH),
        'spec.predictor.onnx.storageUri: Invalid value: "gs://a/b.pt"',
    ),
    (
        "10 storage type",
        isvc(
            {"sklearn": {"storage": {"key": "a", "parameters": {"type": "ftp"}}}},
            annotations=MODEL_MESH,
        ),
        'spec.predictor.sklearn.storage.parameters.type: Invalid value: "ftp": it is not s3, hdfs'
        " or webhdfs.",
    ),
    (
        "names, nameless sidecar",
        isvc({"model": model(), "containers": [SIDECAR, {"image": "c"}]}),
        "spec.predictor.containers[1].name: Required value: only the first container",
    ),
    (
        "names, twice the same",
        isvc({"model": model(), "containers": [SIDECAR, SIDECAR]}),
        'spec.predictor.containers[1].name: Invalid value: "side": another container',
    ),
]


@pytest.mark.parametrize(("obj", "said"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_refused(obj: Object, said: str) -> None:
    found = causes(obj)
    assert any(cause.startswith(said) for cause in found), found
    assert all(" Fix: " in cause for cause in found)


def test_rules_of_model_mesh_hold_only_there() -> None:
    assert causes(isvc({"onnx": {"storageUri": "gs://a/b.pt"}})) == []


def test_all_causes_are_told_at_once() -> None:
    obj = isvc({"model": model(name="x"), "minReplicas": -1}, name="A")
    assert [cause.partition(":")[0] for cause in causes(obj)] == [
        "metadata.name", "spec.predictor.model.name", "spec.predictor.minReplicas",
    ]  # fmt: skip


def stored(mode: str, **kwargs: Any) -> Object:
    return isvc(status={"deploymentMode": mode}, **kwargs)


@pytest.mark.parametrize(
    ("recorded", "annotation", "refused"),
    [
        ("Knative", "Standard", True),
        ("Serverless", "RawDeployment", True),
        ("RawDeployment", "Standard", False),
        ("Standard", "Knative", True),
        ("Knative", None, False),
        ("", "Standard", False),
    ],
)
def test_u1_the_mode_is_kept(recorded: str, annotation: str | None, refused: bool) -> None:
    new = stored(recorded, annotations={MODE: annotation} if annotation else {})
    found = [cause for cause in causes(new, stored(recorded)) if MODE in cause]
    assert bool(found) is refused
    if refused:
        assert "its mode cannot change. Fix: Set it back to " in found[0]


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [
        ({"name": "a"}, {"name": "b"}, True),
        ({}, {"name": "b"}, True),
        ({"name": "a"}, {"name": "a"}, False),
        ({"name": "a"}, {"name": "b", "model": model(storageUri="pvc://claim/b")}, False),
    ],
)
def test_u2_a_renamed_variant_has_another_model(
    before: Object, after: Object, refused: bool
) -> None:
    old = isvc({"model": model(), **before}, annotations=STANDARD)
    new = isvc({"model": model(), **after}, annotations=STANDARD)
    found = causes(new, old)
    assert bool(found) is refused
    if refused:
        assert found[0].startswith('spec.predictor.name: Invalid value: "b": the variant name')


def test_an_object_being_deleted_may_be_anything() -> None:
    old = isvc({})
    old["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert causes(isvc({}, name="A"), old) == []


WARNED: list[tuple[str, Object, str]] = [
    (
        "misspelt annotation",
        isvc(annotations={"serving.kserve.io/autoscaler-class": "keda"}),
        "metadata.annotations[serving.kserve.io/autoscaler-class]: unknown annotation, it has no"
        " effect. Fix: Write serving.kserve.io/autoscalerClass.",
    ),
    (
        "unknown annotation of a component",
        isvc({"model": model(), "annotations": {"serving.kserve.io/zzz": "1"}}),
        "spec.predictor.annotations[serving.kserve.io/zzz]: unknown annotation, it has no effect."
        " Fix: Remove it, or check its spelling.",
    ),
    (
        "annotation nothing reads",
        isvc(annotations={"serving.kserve.io/targetUtilizationPercentage": "70"}),
        "metadata.annotations[serving.kserve.io/targetUtilizationPercentage]: the annotation has"
        " no effect: nothing reads it. Fix: Remove it.",
    ),
    (
        "annotation of another kind",
        isvc(annotations={"serving.kserve.io/s3-endpoint": "a"}),
        "metadata.annotations[serving.kserve.io/s3-endpoint]: the annotation has no effect: it is"
        " read on a Secret or ServiceAccount only",
    ),
    (
        "misspelt mode",
        isvc(annotations={MODE: "Rawdeployment"}),
        f'metadata.annotations[{MODE}]: "Rawdeployment" is no deployment mode; Knative is used.'
        " Fix: Write RawDeployment.",
    ),
    (
        "model mesh",
        isvc(annotations=MODEL_MESH),
        f"metadata.annotations[{MODE}]: Kedge does not run ModelMesh",
    ),
    (
        "stop that does not stop",
        isvc(annotations={"serving.kserve.io/stop": "yes"}),
        'metadata.annotations[serving.kserve.io/stop]: the value "yes" does not stop the service.',
    ),
    (
        "visibility",
        isvc(labels={"networking.kserve.io/visibility": "private"}),
        'metadata.labels[networking.kserve.io/visibility]: the value "private" means nothing',
    ),
    (
        "long name",
        isvc(name="a" * 60),
        f"metadata.name: {'a' * 60} makes names of children or hosts longer than 63 characters,"
        " and those cannot be created. Fix: Shorten the name by 15 characters or more.",
    ),
]


@pytest.mark.parametrize(
    ("obj", "said"), [row[1:] for row in WARNED], ids=[row[0] for row in WARNED]
)
def test_warned(obj: Object, said: str) -> None:
    assert causes(obj) == []
    found = warnings(obj)
    assert any(warning.startswith(said) for warning in found), found
    assert all(" Fix: " in warning for warning in found)


def test_a_generated_name_comes_later() -> None:
    obj = isvc(name="")
    obj["metadata"]["generateName"] = "iris-"
    assert causes(obj) == []
