"""KFServing's objects become today's."""

from __future__ import annotations

from kedge.api.legacy import convert, is_legacy
from kedge.api.scheme import INFERENCE_SERVICE, kind_of

OLD = {
    "apiVersion": "serving.kubeflow.org/v1beta1",
    "kind": "InferenceService",
    "metadata": {
        "name": "iris",
        "namespace": "a",
        "uid": "1",
        "resourceVersion": "7",
        "generation": 3,
        "finalizers": ["inferenceservice.finalizers"],
        "annotations": {
            "serving.kubeflow.org/s": "keep",
            "kubectl.kubernetes.io/last-applied-configuration": "{}",
        },
        "labels": {"serving.kubeflow.org/inferenceservice": "iris", "team": "x"},
    },
    "spec": {"predictor": {"sklearn": {"storageUri": "gs://a"}, "annotations": {"a": "b"}}},
    "status": {"url": "http://old"},
}


def test_conversion() -> None:
    assert is_legacy(OLD)
    assert convert(OLD) == {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": "iris",
            "namespace": "a",
            "annotations": {"serving.kserve.io/s": "keep"},
            "labels": {"serving.kserve.io/inferenceservice": "iris", "team": "x"},
        },
        "spec": OLD["spec"],
    }
    assert "status" in OLD, "the given object stays as it is"


def test_both_groups_name_the_same_kind() -> None:
    assert kind_of(OLD) == kind_of(convert(OLD)) == INFERENCE_SERVICE


def test_other_objects_pass() -> None:
    other = {"apiVersion": "v1", "kind": "Pod"}
    assert convert(other) is other
