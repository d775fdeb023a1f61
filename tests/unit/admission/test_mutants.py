"""One good manifest and its mutants: misspelt, of a wrong type, in a wrong mode."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kedge.admission.review import AdmissionReview
from kedge.api.scheme import CLUSTER_SERVING_RUNTIME, INFERENCE_SERVICE, Kind
from kedge.cluster.errors import Invalid
from kedge.install.manifests import shipped
from kedge.settings.serving import ServingConfig

GOOD: dict[str, Any] = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "iris", "namespace": "default", "annotations": {}},
    "spec": {
        "predictor": {
            "minReplicas": 1,
            "model": {
                "modelFormat": {"name": "sklearn"},
                "storageUri": "s3://bucket/iris",
                "resources": {"limits": {"cpu": "1"}},
            },
        }
    },
}
PREDICTOR = "spec.predictor"
MODEL = f"{PREDICTOR}.model"
MODE = "serving.kserve.io/deploymentMode"
CANARY = [
    {
        "trafficPercent": 10,
        "predictor": {
            "name": "next",
            "model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://bucket/next"},
        },
    }
]

# What is changed, to what (a renamed key starts with "->"), the answer, its field, its words.
MUTANTS = [
    # Misspelt.
    (f"{MODEL}.storageUri", "->storageUrl", "warned", "", 'did you mean "storageUri"?'),
    (f"{MODEL}.modelFormat", "->modelformat", "warned", "", 'did you mean "modelFormat"?'),
    (f"{PREDICTOR}.minReplicas", "->minReplica", "warned", "", 'did you mean "minReplicas"?'),
    (f"{MODEL}.resources.limits", "->limit", "warned", "", 'did you mean "limits"?'),
    (PREDICTOR, "->predictors", "refused", PREDICTOR, "Write `predictor` where it says"),
    (f"{MODEL}.modelFormat.name", "sklaern", "warned", "",
     "no runtime here reads sklaern. Fix: Write sklearn"),
    ("metadata.annotations", {"serving.kserve.io/autoscaler-class": "none"}, "warned", "",
     "Write serving.kserve.io/autoscalerClass"),
    ("metadata.annotations", {MODE: "RawDeploy"}, "warned", "", "Write RawDeployment"),
    # Of a wrong type or value.
    (f"{PREDICTOR}.minReplicas", "one", "refused", f"{PREDICTOR}.minReplicas",
     'expected a whole number, got the string "one"'),
    (f"{MODEL}.storageUri", 7, "refused", f"{MODEL}.storageUri", 'Put it in quotes: "7"'),
    (f"{MODEL}.resources.limits", ["1"], "refused", f"{MODEL}.resources.limits",
     "expected an object, got a list"),
    (f"{MODEL}.resources.limits", {"memory": "2 GB"}, "refused", f"{MODEL}.resources.limits.memory",
     "Write a quantity such as 500m or 2Gi"),
    (f"{MODEL}.env", {"COLOUR": "blue"}, "refused", f"{MODEL}.env", "Start each entry with a dash"),
    (f"{PREDICTOR}.containerConcurrency", -1, "refused", f"{PREDICTOR}.containerConcurrency",
     "Use 0 or more"),
    (f"{PREDICTOR}.logger", {"mode": "everything"}, "refused", f"{PREDICTOR}.logger.mode",
     "Use one of all, request, response"),
    ("metadata.name", "1ris", "refused", "metadata.name", "lower-case letters, digits and dashes"),
    (f"{MODEL}.env", [{"name": "PYTHONPATH", "value": "/x"}], "refused", f"{MODEL}.env[0].name",
     "could replace the server's own modules"),
    (f"{PREDICTOR}.sklearn", {"storageUri": "s3://x/y"}, "refused", PREDICTOR,
     "Keep one of model, sklearn"),
    (f"{PREDICTOR}.storageUris", [{"uri": "s3://x/y"}], "refused", f"{PREDICTOR}.storageUris",
     "Keep one of the two"),
    # In a wrong mode.
    (f"{PREDICTOR}.deploymentStrategy", {"type": "Recreate"}, "refused",
     f"{PREDICTOR}.deploymentStrategy", f"set the annotation {MODE} to Standard"),
    (f"{PREDICTOR}.scaleMetric", "cpu", "refused", f"{PREDICTOR}.scaleMetric",
     "Use concurrency or rps"),
    ("spec.canary", CANARY, "refused", "spec.canary", "or use predictor.canaryTrafficPercent"),
]  # fmt: skip


def shipped_runtimes(kind: Kind, namespace: str | None) -> list[dict[str, Any]]:
    return list(shipped("runtimes")) if kind == CLUSTER_SERVING_RUNTIME else []


def mutate(path: str, value: Any) -> dict[str, Any]:
    mutant = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    place = mutant
    for name in parents:
        place = place[name]
    if isinstance(value, str) and value.startswith("->"):
        place[value.removeprefix("->")] = place.pop(last)
    else:
        place[last] = value
    return mutant


@pytest.fixture
def review() -> AdmissionReview:
    return AdmissionReview(ServingConfig.default, shipped_runtimes)


def test_the_good_one_is_accepted_without_a_word(review: AdmissionReview) -> None:
    assert review.admit(INFERENCE_SERVICE, "CREATE", GOOD, None).warnings == ()


@pytest.mark.parametrize(("path", "value", "answer", "field", "words"), MUTANTS)
def test_mutant(
    review: AdmissionReview, path: str, value: Any, answer: str, field: str, words: str
) -> None:
    mutant = mutate(path, value)
    if answer == "warned":
        warnings = review.admit(INFERENCE_SERVICE, "CREATE", mutant, None).warnings
        assert any(words in warning for warning in warnings), warnings
        return
    with pytest.raises(Invalid) as refused:
        review.admit(INFERENCE_SERVICE, "CREATE", mutant, None)
    details = refused.value.details or {}
    causes = {cause["field"]: cause["message"] for cause in details["causes"]}
    assert words in causes[field], causes


def test_a_field_of_the_other_mode_is_warned_about(review: AdmissionReview) -> None:
    mutant = mutate(f"{PREDICTOR}.canaryTrafficPercent", 10)
    mutant["metadata"]["annotations"] = {MODE: "Standard"}
    (warning,) = review.admit(INFERENCE_SERVICE, "CREATE", mutant, None).warnings
    assert "Standard mode splits traffic by spec.canary" in warning
