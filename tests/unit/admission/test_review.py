"""One object in, refusal or warnings out."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.admission.review import AdmissionReview
from kedge.api.scheme import (
    CLUSTER_SERVING_RUNTIME,
    CLUSTER_STORAGE_CONTAINER,
    CONFIG_MAP,
    INFERENCE_SERVICE,
    POD,
    SERVING_RUNTIME,
    Kind,
)
from kedge.cluster.errors import Invalid
from kedge.settings.serving import ConfigError, ServingConfig

Object = dict[str, Any]


def runtime(name: str, format_: str, priority: int | None = None, **metadata: str) -> Object:
    entry: Object = {"name": format_, "autoSelect": True}
    entry |= {"priority": priority} if priority else {}
    return {
        "metadata": {"name": name, **metadata},
        "spec": {
            "containers": [{"name": "kserve-container", "image": "a"}],
            "protocolVersions": ["v2"],
            "supportedModelFormats": [entry],
        },
    }


STORED: dict[Kind, list[Object]] = {
    CLUSTER_SERVING_RUNTIME: [runtime("kedge-sklearnserver", "sklearn", 3)],
    SERVING_RUNTIME: [runtime("mine", "churn", 1, namespace="a")],
}


def related(kind: Kind, namespace: str | None) -> list[Object]:
    stored = STORED.get(kind, [])
    return [o for o in stored if namespace in (None, o["metadata"].get("namespace"))]


@pytest.fixture
def review() -> AdmissionReview:
    return AdmissionReview(ServingConfig.default, related)


def isvc(**predictor: Any) -> Object:
    found = predictor or {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "pvc://a"}}
    return {"metadata": {"name": "iris", "namespace": "a"}, "spec": {"predictor": found}}


def refused(review: AdmissionReview, kind: Kind, obj: Object, old: Object | None = None) -> Invalid:
    with pytest.raises(Invalid) as caught:
        review.admit(kind, "UPDATE" if old else "CREATE", obj, old)
    return caught.value


def test_what_is_right_passes_in_silence(review: AdmissionReview) -> None:
    assert review.admit(INFERENCE_SERVICE, "CREATE", isvc()).warnings == ()


def test_other_kinds_pass(review: AdmissionReview) -> None:
    assert review.admit(POD, "CREATE", {"spec": "anything"}).warnings == ()


def test_a_refusal_is_a_status_with_causes(review: AdmissionReview) -> None:
    error = refused(review, INFERENCE_SERVICE, isvc(minReplicas=-1, sklearn={}))
    assert error.to_status()["message"] == (
        'InferenceService.serving.kserve.io "iris" is invalid: spec.predictor.minReplicas:'
        " Invalid value: -1: it is negative. Fix: Use 0 or more."
    )
    assert error.to_status()["reason"] == "Invalid"
    assert error.details == {
        "name": "iris",
        "group": "serving.kserve.io",
        "kind": "InferenceService",
        "causes": [
            {
                "reason": "FieldValueInvalid",
                "message": "Invalid value: -1: it is negative. Fix: Use 0 or more.",
                "field": "spec.predictor.minReplicas",
            }
        ],
    }


def test_several_causes_are_told_together(review: AdmissionReview) -> None:
    error = refused(review, INFERENCE_SERVICE, isvc(minReplicas=-1, sklearn={"name": "x"}))
    assert error.details is not None
    assert [cause["field"] for cause in error.details["causes"]] == [
        "spec.predictor.sklearn.name", "spec.predictor.minReplicas",
    ]  # fmt: skip


def test_wrong_types_are_refused_before_any_rule(review: AdmissionReview) -> None:
    error = refused(review, INFERENCE_SERVICE, isvc(minReplicas="x", sklearn=[]))
    assert error.details is not None
    assert {cause["reason"] for cause in error.details["causes"]} == {"FieldValueTypeInvalid"}


def test_a_misspelt_field_is_told_with_what_it_causes(review: AdmissionReview) -> None:
    error = refused(review, INFERENCE_SERVICE, isvc(modle={}))
    assert error.details is not None
    assert error.details["causes"][0] == {
        "reason": "FieldValueNotSupported",
        "message": 'unknown field, did you mean "model"?',
        "field": "spec.predictor.modle",
    }
    assert "no implementation" in error.details["causes"][1]["message"]


def test_unknown_fields_are_warned_about(review: AdmissionReview) -> None:
    obj = isvc(sklearn={}, minReplica=1)
    assert review.admit(INFERENCE_SERVICE, "CREATE", obj).warnings == (
        'unknown field "spec.predictor.minReplica", did you mean "minReplicas"?',
    )


def test_old_objects_count_on_update_only(review: AdmissionReview) -> None:
    old = {**isvc(), "status": {"deploymentMode": "Knative"}}
    new = isvc()
    new["metadata"]["annotations"] = {"serving.kserve.io/deploymentMode": "Standard"}
    assert "mode cannot change" in str(refused(review, INFERENCE_SERVICE, new, old))
    assert review.admit(INFERENCE_SERVICE, "CREATE", new, old)


def test_an_update_of_other_things_is_not_judged(review: AdmissionReview) -> None:
    old = isvc(sklearn={"name": "x"})
    new = {**old, "metadata": {**old["metadata"], "finalizers": ["a"]}, "status": {"url": "a"}}
    assert review.admit(INFERENCE_SERVICE, "UPDATE", new, old).warnings == ()
    labelled = {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}}
    assert refused(review, INFERENCE_SERVICE, labelled, old)


def test_an_object_being_deleted_is_not_judged(review: AdmissionReview) -> None:
    old = isvc()
    old["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert review.admit(INFERENCE_SERVICE, "UPDATE", {"spec": {}}, old).warnings == ()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            {"modelFormat": {"name": "sklearn"}, "runtime": "kedge-sklearn"},
            "spec.predictor.model.runtime: no ServingRuntime or ClusterServingRuntime is named"
            " kedge-sklearn. Fix: Write kedge-sklearnserver, or add the runtime.",
        ),
        (
            {"modelFormat": {"name": "sklearn"}, "runtime": "zzz"},
            "spec.predictor.model.runtime: no ServingRuntime or ClusterServingRuntime is named zzz."
            " Fix: Add it, or use one of kedge-sklearnserver, mine.",
        ),
        (
            {"modelFormat": {"name": "sklern"}},
            "spec.predictor.model.modelFormat.name: no runtime here reads sklern. Fix: Write"
            " sklearn, or add a runtime for it.",
        ),
        (
            {"modelFormat": {"name": "pmml"}},
            "spec.predictor.model.modelFormat.name: no runtime here reads pmml. Fix: Add a runtime"
            " for it; those here read churn, sklearn.",
        ),
    ],
)
def test_runtimes_that_are_not_there(review: AdmissionReview, model: Object, said: str) -> None:
    assert review.admit(INFERENCE_SERVICE, "CREATE", isvc(model=model)).warnings == (said,)


def test_a_runtime_of_the_namespace_is_there(review: AdmissionReview) -> None:
    obj = isvc(model={"modelFormat": {"name": "churn"}, "runtime": "mine"})
    assert review.admit(INFERENCE_SERVICE, "CREATE", obj).warnings == ()


@pytest.mark.parametrize(
    ("kind", "obj", "said"),
    [
        (
            CLUSTER_SERVING_RUNTIME,
            runtime("other", "sklearn", 3),
            "runtime kedge-sklearnserver selects sklearn",
        ),
        (SERVING_RUNTIME, runtime("other", "churn", 1, namespace="a"), "runtime mine selects"),
        (CLUSTER_STORAGE_CONTAINER, {"spec": {"container": {"name": "x"}}}, "spec.container.name"),
        (SERVING_RUNTIME, {"spec": {}}, "spec.containers: required and missing"),
        (
            CONFIG_MAP,
            {"metadata": {"name": "inferenceservice-config"}, "data": {"ingress": "{"}},
            "data[ingress]: ConfigMap inferenceservice-config, key `ingress`: malformed JSON",
        ),
    ],
)
def test_other_serving_kinds(review: AdmissionReview, kind: Kind, obj: Object, said: str) -> None:
    assert said in str(refused(review, kind, obj))


def test_runtimes_of_different_namespaces_do_not_meet(review: AdmissionReview) -> None:
    obj = runtime("other", "churn", 1, namespace="b")
    assert review.admit(SERVING_RUNTIME, "CREATE", obj).warnings == ()


@pytest.mark.parametrize(
    "obj",
    [
        {"metadata": {"name": "other"}, "data": {"ingress": "{"}},
        {"metadata": {"name": "inferenceservice-config"}, "data": {"ingress": "{}"}},
    ],
)
def test_config_maps_that_pass(review: AdmissionReview, obj: Object) -> None:
    assert review.admit(CONFIG_MAP, "CREATE", obj).warnings == ()


def test_a_broken_configuration_stops_nobody() -> None:
    def broken() -> ServingConfig:
        raise ConfigError("key `deploy` is malformed.", fix="Correct it.")

    found = AdmissionReview(broken, related).admit(INFERENCE_SERVICE, "CREATE", isvc())
    assert found.warnings == ("key `deploy` is malformed. Fix: Correct it.",)
