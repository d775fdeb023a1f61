"""The runtimes and the storage container that Kedge brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import kedge
from kedge.api.clusterstoragecontainer import validation as storage_rules
from kedge.api.schema import check
from kedge.api.scheme import kind_of
from kedge.api.servingruntime import validation as runtime_rules
from kedge.settings.serving import ServingConfig

MANIFESTS = Path(kedge.__file__).parent / "manifests"
RUNTIMES = [yaml.safe_load(path.read_text()) for path in sorted(MANIFESTS.glob("runtimes/*"))]
STORAGE = [yaml.safe_load(path.read_text()) for path in MANIFESTS.glob("storagecontainers/*")]
CONFIG = ServingConfig.default()


def test_these_are_the_runtimes() -> None:
    assert [runtime["metadata"]["name"] for runtime in RUNTIMES] == [
        "kedge-catboostserver", "kedge-huggingfaceserver", "kedge-lgbserver",
        "kedge-mlflowserver", "kedge-onnxserver", "kedge-paddleserver", "kedge-pmmlserver",
        "kedge-pythonserver", "kedge-pytorchserver", "kedge-sklearnserver",
        "kedge-tensorflowserver", "kedge-xgbserver",
    ]  # fmt: skip


@pytest.mark.parametrize("obj", [*RUNTIMES, *STORAGE], ids=lambda obj: obj["metadata"]["name"])
def test_all_have_the_shape_of_their_kind(obj: dict[str, Any]) -> None:
    kind = kind_of(obj)
    assert kind is not None
    assert check(kind, obj) == []


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda obj: obj["metadata"]["name"])
def test_runtimes_are_valid_beside_each_other_and_beside_kserves(runtime: dict[str, Any]) -> None:
    format_ = runtime["spec"]["supportedModelFormats"][0]
    kserves = {
        "metadata": {"name": "kserve"},
        "spec": {
            "protocolVersions": ["v1", "v2"],
            "supportedModelFormats": [{**format_, "priority": priority} for priority in (1, 2)],
        },
    }
    findings = runtime_rules.validate(runtime, None, [*RUNTIMES, kserves], CONFIG)
    assert (findings.causes, findings.warnings) == ([], [])


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda obj: obj["metadata"]["name"])
def test_servers_take_kserves_arguments_and_declare_both_ports(runtime: dict[str, Any]) -> None:
    (container,) = runtime["spec"]["containers"]
    assert container["args"][:4] == [
        "--model_name={{.Name}}", "--model_dir=/mnt/models", "--http_port=8080",
        "--grpc_port=8081",
    ]  # fmt: skip
    assert [(p["name"], p["containerPort"]) for p in container["ports"]] == [
        ("http", 8080), ("grpc", 8081),
    ]  # fmt: skip


def test_the_storage_container_is_valid() -> None:
    assert [storage_rules.validate(obj).causes for obj in STORAGE] == [[]]
