"""What an API server is answered."""

from __future__ import annotations

from typing import Any

from kedge.admission.review import AdmissionReview
from kedge.admission.webhook import answer
from kedge.settings.serving import ServingConfig

REVIEW = AdmissionReview(ServingConfig.default, lambda kind, namespace: [])


def asked(predictor: Any, **request: Any) -> dict[str, Any]:
    service = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "iris", "namespace": "ns"},
        "spec": {"predictor": predictor},
    }
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {"uid": "17", "operation": "CREATE", "object": service, **request},
    }


def test_what_is_wrong_is_refused_with_its_cause() -> None:
    response = answer(REVIEW, asked({"minReplicas": 3, "maxReplicas": 2, "sklearn": {}}))[
        "response"
    ]
    assert response["uid"] == "17"
    assert not response["allowed"]
    assert response["status"]["code"] == 422
    assert "maxReplicas" in response["status"]["message"]


def test_what_has_no_effect_is_warned_of() -> None:
    model = {"modelFormat": {"name": "sklern"}, "storageUri": "gs://b/m"}
    response = answer(REVIEW, asked({"model": model}))["response"]
    assert response["allowed"]
    assert any("sklern" in warning for warning in response["warnings"])
    assert "patch" not in response


def test_what_is_not_understood_passes() -> None:
    for request in ({"object": None}, {"object": {"kind": "Pod", "apiVersion": "v1"}}, {}):
        got = answer(REVIEW, {"request": {"uid": "1", "operation": "CREATE", **request}})
        assert got["response"] == {"uid": "1", "allowed": True}
    assert answer(REVIEW, asked("nothing", object={"kind": 7}))["response"]["allowed"]


def test_an_error_of_ours_refuses_nothing() -> None:
    def broken() -> ServingConfig:
        raise RuntimeError("ours")

    review = AdmissionReview(broken, lambda kind, namespace: [])
    response = answer(review, asked({"sklearn": {"storageUri": "gs://b/m"}}))["response"]
    assert response["allowed"]
    assert response["warnings"] == [
        "Kedge could not review this and lets it through: RuntimeError('ours')"
    ]
