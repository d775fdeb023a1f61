"""Unknown, mistyped and missing fields."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.api.schema import check
from kedge.api.scheme import (
    CLUSTER_STORAGE_CONTAINER,
    DEPLOYMENT,
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    POD,
    SECRET,
    SERVING_RUNTIME,
    Kind,
)


def isvc(predictor: Any, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "a", "creationTimestamp": None},
        "spec": {"predictor": predictor, **spec},
    }


def model(**fields: Any) -> dict[str, Any]:
    return isvc({"model": {"modelFormat": {"name": "sklearn"}, **fields}})


@pytest.mark.parametrize(
    "obj",
    [
        model(storageUri="pvc://a", resources={"limits": {"cpu": 1, "memory": "2Gi"}}),
        isvc({"containers": [{"image": "a"}], "minReplicas": 0, "hostAliases": [{"ip": "::1"}]}),
        model(livenessProbe={"httpGet": {"path": "/"}}, readinessProbe={"tcpSocket": {}}),
        isvc({"volumes": [{"name": "a", "emptyDir": {"sizeLimit": 10, "medium": "Memory"}}]}),
        isvc({"autoScaling": {"metrics": [{"external": {"target": {"value": 2.5}}}]}}),
        isvc({"deploymentStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": "0%"}}}),
        {**isvc({}), "status": {"somethingNew": 1, "components": {"predictor": {"url": "a"}}}},
        isvc({"model": None, "nodeSelector": None}),
    ],
)
def test_what_is_right_has_no_problem(obj: dict[str, Any]) -> None:
    assert check(INFERENCE_SERVICE, obj) == []


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (
            isvc({"modle": {}}),
            'unknown field "spec.predictor.modle", did you mean "model"?',
        ),
        (
            isvc({"storageUri": "a"}),
            'unknown field "spec.predictor.storageUri", did you mean "model.storageUri"?',
        ),
        (
            model(storageURI="a"),
            'unknown field "spec.predictor.model.storageURI", did you mean "storageUri"?',
        ),
        (
            isvc({"containers": [{"name": "a", "ports": [{"containerport": 1}]}]}),
            'unknown field "spec.predictor.containers[0].ports[0].containerport",'
            ' did you mean "containerPort"?',
        ),
        (isvc({}, xyzzy=1), 'unknown field "spec.xyzzy"'),
        (
            isvc({"ephemeralContainers": []}),
            'unknown field "spec.predictor.ephemeralContainers", did you mean "containers"?',
        ),
    ],
)
def test_unknown_fields(obj: dict[str, Any], message: str) -> None:
    problem = check(INFERENCE_SERVICE, obj)[0]
    assert (problem.kind, problem.message) == ("unknown", message)


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (
            isvc({"minReplicas": "two"}),
            'spec.predictor.minReplicas: expected a whole number, got the string "two".'
            " Fix: Write a whole number.",
        ),
        (
            isvc({"minReplicas": "2"}),
            'spec.predictor.minReplicas: expected a whole number, got the string "2".'
            " Fix: Write it without quotes: 2.",
        ),
        (
            isvc({"model": {"modelFormat": {"name": "sklearn", "version": 1}}}),
            "spec.predictor.model.modelFormat.version: expected a string, got the number 1."
            ' Fix: Put it in quotes: "1".',
        ),
        (
            model(args="--x"),
            'spec.predictor.model.args: expected a list, got the string "--x".'
            " Fix: Start each entry with a dash, also a single one.",
        ),
        (
            model(env=[{"name": "A", "value": True}]),
            "spec.predictor.model.env[0].value: expected a string, got the boolean true."
            ' Fix: Put it in quotes: "true".',
        ),
        (
            isvc({"automountServiceAccountToken": "true"}),
            "spec.predictor.automountServiceAccountToken: expected true or false, got the string"
            ' "true". Fix: Write it without quotes: true.',
        ),
        (
            model(resources={"limits": {"memory": "2 GB"}}),
            "spec.predictor.model.resources.limits.memory: expected a quantity such as 500m or"
            ' 2Gi, got the string "2 GB". Fix: Write a quantity such as 500m or 2Gi.',
        ),
        (
            isvc({"model": ["a"]}),
            "spec.predictor.model: expected an object, got a list. Fix: Write an object.",
        ),
        (
            isvc({"nodeSelector": {"a": 1}}),
            "spec.predictor.nodeSelector.a: expected a string, got the number 1."
            ' Fix: Put it in quotes: "1".',
        ),
        (
            isvc({"scaleMetric": "concurency"}),
            'spec.predictor.scaleMetric: "concurency" is not one of cpu, memory, concurrency, rps.'
            " Fix: Write `concurrency`.",
        ),
        (
            isvc({"name": "My-Name"}),
            'spec.predictor.name: "My-Name" does not match ^[a-z]([-a-z0-9]*[a-z0-9])?$.'
            " Fix: Use a value of that form.",
        ),
        (
            isvc({}, canary=[{"predictor": {}, "trafficPercent": 101}]),
            "spec.canary[0].trafficPercent: 101 is above 100."
            " Fix: Use a whole number from 0 to 100.",
        ),
        (
            isvc({"storageUris": []}),
            "spec.predictor.storageUris: the list is empty. Fix: Remove it or add an entry.",
        ),
        (
            isvc({"storageUris": [{"uri": ""}]}),
            'spec.predictor.storageUris[0].uri: "" is empty.'
            " Fix: Give it a value or remove the entry.",
        ),
        (
            isvc({"tolerations": [None]}),
            "spec.predictor.tolerations[0]: expected an object, got null. Fix: Write an object.",
        ),
    ],
)
def test_wrong_types(obj: dict[str, Any], message: str) -> None:
    (problem,) = check(INFERENCE_SERVICE, obj)
    assert (problem.kind, problem.message) == ("type", message)


@pytest.mark.parametrize(
    ("kind", "obj", "message"),
    [
        (
            INFERENCE_SERVICE,
            {"spec": {}},
            "spec.predictor: required and missing. Fix: Add `spec.predictor` (the model server).",
        ),
        (
            INFERENCE_SERVICE,
            {"spec": {"predictr": {}}},
            "spec.predictor: required and missing."
            " Fix: Write `predictor` where it says `predictr`.",
        ),
        (
            SERVING_RUNTIME,
            {"spec": {"supportedModelFormats": []}},
            "spec.containers: required and missing. Fix: Add `spec.containers` (the containers;"
            " the one named `kserve-container` is the model server).",
        ),
        (
            CLUSTER_STORAGE_CONTAINER,
            {"spec": {}},
            "spec.container: required and missing. Fix: Add `spec.container` (laid over the"
            " built-in init container; its name must be `storage-initializer`).",
        ),
    ],
)
def test_missing_fields(kind: Kind, obj: dict[str, Any], message: str) -> None:
    assert [p.message for p in check(kind, obj) if p.kind == "required"] == [message]


def test_several_problems_come_in_the_order_of_the_fields() -> None:
    problems = check(INFERENCE_SERVICE, isvc({"minReplicas": "x", "a": 1, "timeout": []}, b=2))
    assert [problem.path for problem in problems] == [
        "spec.predictor.minReplicas", "spec.predictor.a", "spec.predictor.timeout", "spec.b",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "obj"),
    [
        (POD, {"spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": 1}}}]}}),
        (SECRET, {"data": {"a": "Yg=="}, "stringData": {"c": "d"}}),
        (
            DEPLOYMENT,
            {
                "spec": {
                    "selector": {"matchLabels": {"a": "b"}},
                    "template": {"spec": {"containers": [{"name": "a"}]}},
                }
            },
        ),
        (HTTP_ROUTE, {"spec": {"rules": [{"retry": {"attempts": 1}, "backendRefs": []}]}}),
        (
            POD,
            {
                "metadata": {"managedFields": [{"fieldsV1": {"f:a": {}}}]},
                "spec": {"containers": []},
            },
        ),
    ],
)
def test_core_and_gateway_kinds(kind: Kind, obj: dict[str, Any]) -> None:
    assert check(kind, obj) == []
