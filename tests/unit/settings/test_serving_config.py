"""The ConfigMap, read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kedge.settings.serving import ConfigError, DeploymentMode, ServingConfig


def config_map(**keys: Any) -> dict[str, Any]:
    data = {key: doc if isinstance(doc, str) else json.dumps(doc) for key, doc in keys.items()}
    return {"metadata": {"name": "inferenceservice-config"}, "data": data}


def read(**keys: Any) -> ServingConfig:
    return ServingConfig.from_config_map(config_map(**keys))


def test_without_keys_everything_has_its_default() -> None:
    assert ServingConfig.from_config_map({"metadata": {}}) == ServingConfig()
    assert read(_example="not { json") == ServingConfig()


@pytest.mark.parametrize(
    ("key", "document", "attribute", "expected"),
    [
        ("deploy", {"defaultDeploymentMode": "RawDeployment"}, "deploy.mode", "Standard"),
        ("deploy", {"defaultDeploymentMode": "Serverless"}, "deploy.mode", "Knative"),
        ("deploy", {}, "deploy.mode", "Knative"),
        (
            "deploy",
            {"deploymentRolloutStrategy": {"defaultRollout": {"maxSurge": "1"}}},
            "deploy.deployment_rollout_strategy.default_rollout.max_surge",
            "1",
        ),
        ("ingress", {"externalPort": 8080}, "ingress.external_port", 8080),
        ("ingress", {"pathBaseUrl": "http://x:1"}, "ingress.path_base_url", "http://x:1"),
        ("ingress", {"disableHTTPRouteTimeout": True}, "ingress.disable_http_route_timeout", True),
        ("ingress", {"ingressGateway": "a/b", "unknown": 1}, "ingress.ingress_gateway", "a/b"),
        ("storageInitializer", {}, "storage_initializer.memory_limit", "1Gi"),
        (
            "storageInitializer",
            {"localPaths": "inPlace"},
            "storage_initializer.local_paths",
            "inPlace",
        ),
        ("storageInitializer", {"uidModelcar": 1010}, "storage_initializer.uid_modelcar", 1010),
        ("credentials", {"s3": {"s3VerifySSL": "0"}}, "credentials.s3.verify_ssl", "0"),
        ("service", {"serviceClusterIPNone": True}, "service.service_cluster_ip_none", True),
        (
            "multiNode",
            {"customGPUResourceTypeList": ["a/b"]},
            "multi_node.custom_gpu_resource_types",
            ("a/b",),
        ),
        ("security", {}, "security.auto_mount_service_account_token", False),
        (
            "localModel",
            {"reconcilationFrequencyInSecs": 5},
            "local_model.reconciliation_seconds",
            5,
        ),
    ],
)
def test_options(key: str, document: Any, attribute: str, expected: Any) -> None:
    value: Any = read(**{key: document})
    for name in attribute.split("."):
        value = getattr(value, name)
    assert value == expected


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("ingress", '{"a": 1,\n "b": }', "key `ingress`: malformed JSON at line 2, column 7"),
        ("logger", "", "key `logger`: malformed JSON at line 1, column 1"),
        ("ingress", '{"externalPort": "80"}', "`ingress.externalPort`: Expected `int`, got `str`"),
        ("credentials", '{"s3": {"s3Region": 3}}', "`credentials.s3.s3Region`: Expected `str`"),
        ("deploy", "[]", "`deploy`: Expected `object`, got `array`"),
        ("deploy", '{"defaultDeploymentMode": "Raw"}', "to `Knative` or `Standard`."),
    ],
)
def test_mistakes_name_the_place_and_the_fix(key: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(**{key: text})
    assert said in str(caught.value)
    assert " Fix: " in str(caught.value)


def test_built_in_disallowed_names_always_hold() -> None:
    options = read(inferenceService={"serviceAnnotationDisallowedList": ["a"]}).inference_service
    assert {"a", "modelFormat"} <= options.disallowed_annotations
    assert options.disallowed_labels == {"networking.knative.dev/visibility"}


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("Standard", DeploymentMode.STANDARD),
        ("RawDeployment", DeploymentMode.STANDARD),
        ("Serverless", DeploymentMode.KNATIVE),
        ("ModelMesh", DeploymentMode.MODEL_MESH),
        ("standard", None),
        ("", None),
    ],
)
def test_modes(text: str, mode: DeploymentMode | None) -> None:
    assert DeploymentMode.parse(text) is mode
