"""Each default of an InferenceService, one row each."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest

from kedge.api.inferenceservice.defaults import (
    FRAMEWORKS,
    apply_defaults,
    deployment_mode,
    fill_resources,
)
from kedge.settings.serving import (
    Deploy,
    DeploymentMode,
    ResourceDefaults,
    Security,
    ServingConfig,
)

CONFIG = ServingConfig.default()
STANDARD = msgspec.structs.replace(CONFIG, deploy=Deploy(default_deployment_mode="Standard"))
NO_TOKEN = msgspec.structs.replace(
    CONFIG, security=Security(auto_mount_service_account_token=False)
)
MODE = "serving.kserve.io/deploymentMode"
FILLED = {
    "limits": {"cpu": "1", "memory": "2Gi"}, "requests": {"cpu": "100m", "memory": "128Mi"},
}  # fmt: skip


def isvc(predictor: Any, **rest: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a"}, "spec": {"predictor": predictor}, **rest}


def annotated(**annotations: str) -> dict[str, Any]:
    obj = isvc({"model": {"modelFormat": {"name": "sklearn"}}})
    return {**obj, "metadata": {"name": "a", "annotations": annotations}}


def predictor_of(obj: dict[str, Any], config: ServingConfig = CONFIG) -> dict[str, Any]:
    predictor: dict[str, Any] = apply_defaults(obj, config)["spec"]["predictor"]
    return predictor


def test_the_given_object_stays_as_it_is() -> None:
    obj = isvc({"sklearn": {"storageUri": "a"}})
    before = copy.deepcopy(obj)
    apply_defaults(obj, CONFIG)
    assert obj == before


@pytest.mark.parametrize(
    ("config", "annotation", "recorded", "mode"),
    [
        (CONFIG, None, None, "Knative"),
        (CONFIG, "Standard", None, "Standard"),
        (CONFIG, "RawDeployment", None, "Standard"),
        (STANDARD, "Serverless", None, "Knative"),
        (STANDARD, None, None, "Standard"),
        (STANDARD, None, "Knative", "Knative"),
        (STANDARD, "Standard", "Serverless", "Knative"),
        (STANDARD, "Knative", "RawDeployment", "Standard"),
        (CONFIG, "standard", None, "Knative"),
        (CONFIG, "ModelMesh", None, "ModelMesh"),
    ],
)
def test_mode(
    config: ServingConfig, annotation: str | None, recorded: str | None, mode: str
) -> None:
    obj = annotated(**{MODE: annotation} if annotation else {})
    obj["status"] = {"deploymentMode": recorded} if recorded else {}
    assert deployment_mode(obj, config) is DeploymentMode(mode)


@pytest.mark.parametrize(
    ("config", "given", "expected"),
    [
        (CONFIG, {MODE: "RawDeployment"}, "Standard"),
        (CONFIG, {MODE: "Serverless"}, "Knative"),
        (CONFIG, {}, None),
        (STANDARD, {}, "Standard"),
    ],
)
def test_mode_annotation(config: ServingConfig, given: dict[str, str], expected: str) -> None:
    assert apply_defaults(annotated(**given), config)["metadata"]["annotations"].get(MODE) == (
        expected
    )


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_framework_keys_become_model(framework: str) -> None:
    predictor = predictor_of(isvc({framework: {"storageUri": "gs://a"}, "minReplicas": 2}))
    protocol = {"protocolVersion": "v2"} if framework in ("triton", "onnx", "huggingface") else {}
    assert predictor == {
        "minReplicas": 2,
        "model": {"storageUri": "gs://a", "modelFormat": {"name": framework}, **protocol},
    }


@pytest.mark.parametrize(
    ("predictor", "expected"),
    [
        ({"triton": {"protocolVersion": "grpc-v2"}}, "grpc-v2"),
        ({"model": {"modelFormat": {"name": "triton"}}}, "v2"),
        ({"model": {"modelFormat": {"name": "vLLM"}}}, "v2"),
        ({"model": {"modelFormat": {"name": "vLLM"}, "protocolVersion": "v1"}}, "v1"),
        ({"model": {"modelFormat": {"name": "onnx"}}}, None),
        ({"sklearn": {}}, None),
    ],
)
def test_protocol(predictor: dict[str, Any], expected: str | None) -> None:
    assert predictor_of(isvc(predictor))["model"].get("protocolVersion") == expected


def test_the_first_of_several_framework_keys_counts() -> None:
    predictor = predictor_of(isvc({"xgboost": {"storageUri": "x"}, "sklearn": {}}))
    assert predictor["model"]["modelFormat"] == {"name": "sklearn"}
    assert "xgboost" in predictor


def test_model_mesh_keeps_framework_keys() -> None:
    obj = isvc({"sklearn": {"storageUri": "a"}})
    obj["metadata"]["annotations"] = {MODE: "ModelMesh"}
    assert predictor_of(obj) == {"sklearn": {"storageUri": "a"}}


def test_canaries_are_treated_like_the_stable_predictor() -> None:
    obj = isvc({"sklearn": {}})
    obj["spec"]["canary"] = [{"trafficPercent": 10, "predictor": {"name": "b", "onnx": {}}}]
    canary = apply_defaults(obj, CONFIG)["spec"]["canary"][0]["predictor"]
    assert canary["model"] == {"modelFormat": {"name": "onnx"}, "protocolVersion": "v2"}


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (isvc({"sklearn": {}}), "sklearn"),
        (annotated(modelFormat="mine"), "mine"),
        (isvc({"containers": [{"image": "a"}]}), None),
    ],
)
def test_model_format_annotation(obj: dict[str, Any], expected: str | None) -> None:
    metadata = apply_defaults(obj, CONFIG)["metadata"]
    assert metadata["annotations"].get("modelFormat") == expected


@pytest.mark.parametrize(
    ("containers", "names"),
    [
        ([{}], ["kserve-container"]),
        ([{"name": "mine"}], ["kserve-container"]),
        ([{}, {"name": "side"}], ["kserve-container", "side"]),
        ([{"name": "a"}, {"name": "b"}], ["a", "b"]),
        ([{"name": "a"}, {"name": "kserve-container"}], ["a", "kserve-container"]),
    ],
)
def test_names_of_a_custom_predictors_containers(
    containers: list[dict[str, Any]], names: list[str]
) -> None:
    predictor = predictor_of(isvc({"containers": containers}))
    assert [container["name"] for container in predictor["containers"]] == names


def test_sidecars_of_a_model_keep_their_names() -> None:
    predictor = predictor_of(isvc({"sklearn": {}, "containers": [{"name": "log"}]}))
    assert predictor["containers"] == [{"name": "log"}]


@pytest.mark.parametrize("component", ["transformer", "explainer"])
def test_other_components_first_container_is_the_server(component: str) -> None:
    obj = isvc({"sklearn": {}})
    obj["spec"][component] = {"containers": [{"name": "mine"}, {"name": "side"}]}
    containers = apply_defaults(obj, CONFIG)["spec"][component]["containers"]
    assert containers == [{"name": "kserve-container", "resources": FILLED}, {"name": "side"}]


def test_art() -> None:
    obj = isvc({"sklearn": {}})
    obj["spec"]["explainer"] = {"art": {"type": "SquareAttack"}}
    assert apply_defaults(obj, CONFIG)["spec"]["explainer"]["art"] == {
        "type": "SquareAttack",
        "name": "kserve-container",
        "runtimeVersion": "latest",
        "resources": FILLED,
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, FILLED),
        (
            {"limits": {"cpu": "2", "memory": "64Mi"}},
            {
                "limits": {"cpu": "2", "memory": "64Mi"},
                "requests": {"cpu": "100m", "memory": "64Mi"},
            },
        ),
        (
            {"requests": {"cpu": 4}},
            {
                "limits": {"cpu": 4, "memory": "2Gi"},
                "requests": {"cpu": 4, "memory": "128Mi"},
            },
        ),
        (
            {"limits": {"cpu": "5", "memory": "5Gi"}, "requests": {"cpu": "4", "memory": "4Gi"}},
            {"limits": {"cpu": "5", "memory": "5Gi"}, "requests": {"cpu": "4", "memory": "4Gi"}},
        ),
    ],
)
def test_resources(given: dict[str, Any], expected: dict[str, Any]) -> None:
    container: dict[str, Any] = {"resources": given}
    fill_resources(container, CONFIG.inference_service.resource)
    assert container["resources"] == expected


def test_without_configured_resources_none_are_filled_in() -> None:
    container: dict[str, Any] = {"resources": None}
    fill_resources(container, ResourceDefaults())
    assert container == {"resources": {}}


def test_a_model_gets_no_resources_here() -> None:
    assert "resources" not in predictor_of(isvc({"sklearn": {}}))["model"]


def test_service_account_tokens() -> None:
    obj = isvc({"sklearn": {}, "automountServiceAccountToken": True})
    obj["spec"]["transformer"] = {"containers": [{}]}
    obj["spec"]["canary"] = [{"predictor": {"sklearn": {}}}]
    spec = apply_defaults(obj, NO_TOKEN)["spec"]
    assert spec["predictor"]["automountServiceAccountToken"] is True
    assert spec["transformer"]["automountServiceAccountToken"] is False
    assert spec["canary"][0]["predictor"]["automountServiceAccountToken"] is False
    assert "automountServiceAccountToken" not in apply_defaults(obj, CONFIG)["spec"]["transformer"]
