"""Merging a service's container over its runtime's, placeholders, and image names."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.controllers.inferenceservice import images
from kedge.controllers.inferenceservice.errors import InvalidSpec
from kedge.controllers.inferenceservice.merge import merge, merge_container
from kedge.controllers.inferenceservice.placeholders import render, service_data


def names(items: list[dict[str, Any]]) -> list[str]:
    return [item["name"] for item in items]


def test_args_are_joined_and_the_name_stays() -> None:
    merged = merge_container(
        {"name": "kserve-container", "args": ["--a"], "command": ["x"], "image": "i"},
        {"name": "other", "args": ["--a", "--b"], "command": ["y", "z"], "image": ""},
    )
    assert merged == {
        "name": "kserve-container", "args": ["--a", "--a", "--b"], "command": ["y", "z"],
        "image": "i",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("base", "overlay", "order"),
    [
        ("abc", "b", "abc"),
        ("abc", "x", "xabc"),
        ("abc", "xc", "xabc"),
        ("abc", "cx", "abcx"),
        ("abc", "ca", "bca"),
        ("", "xy", "xy"),
    ],
)
def test_order_of_merged_lists(base: str, overlay: str, order: str) -> None:
    merged = merge(
        {"env": [{"name": letter} for letter in base]},
        {"env": [{"name": letter} for letter in overlay]},
    )
    assert "".join(names(merged["env"])) == order


def test_the_kind_of_value_that_the_service_uses_wins() -> None:
    secret = {"secretKeyRef": {"name": "s", "key": "k"}}
    base = {"env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": secret}]}
    overlay = {"env": [{"name": "A", "valueFrom": secret}, {"name": "B", "value": "2"}]}
    assert merge_container(base, overlay)["env"] == [
        {"name": "A", "valueFrom": secret},
        {"name": "B", "value": "2"},
    ]


def test_maps_merge_by_key_and_handlers_replace_each_other() -> None:
    base = {
        "resources": {"limits": {"cpu": "1", "memory": "2Gi"}},
        "readinessProbe": {"httpGet": {"path": "/x", "port": 1}, "periodSeconds": 5},
        "livenessProbe": {"httpGet": {"path": "/x", "port": 1}},
        "securityContext": {"privileged": False, "capabilities": {"drop": ["ALL"]}},
    }
    overlay = {
        "resources": {"limits": {"cpu": "2"}, "requests": {"cpu": "1"}},
        "readinessProbe": {"tcpSocket": {"port": 2}},
        "livenessProbe": {"httpGet": {"path": "/y"}},
        "securityContext": {"privileged": True},
    }
    assert merge_container(base, overlay) == {
        "resources": {"limits": {"cpu": "2", "memory": "2Gi"}, "requests": {"cpu": "1"}},
        "readinessProbe": {"tcpSocket": {"port": 2}, "periodSeconds": 5},
        "livenessProbe": {"httpGet": {"path": "/y", "port": 1}},
        "securityContext": {"privileged": True, "capabilities": {"drop": ["ALL"]}},
    }


def test_a_volume_of_another_kind_replaces_the_runtimes() -> None:
    merged = merge(
        {"volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}, {"name": "w"}]},
        {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]},
    )
    assert merged["volumes"] == [{"name": "v", "hostPath": {"path": "/x"}}, {"name": "w"}]


METADATA = {
    "name": "iris", "namespace": "prod", "labels": {"team": "a & b <c>", "x/y": "z"},
    "annotations": {"modelFormat": "sklearn"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("--name={{.Name}}.{{ .Namespace }}", "--name=iris.prod"),
        ("{{.Labels.team}}", "a & b <c>"),
        ("{{.Labels.none}}|{{.Annotations.modelFormat}}", "|sklearn"),
        ('{{index .Labels "x/y"}}', "z"),
        ("a {{- .Name -}} b", "a{{- .Name -}}b".replace("{{- .Name -}}", "iris")),
        ("no placeholder }}", "no placeholder }}"),
    ],
)
def test_placeholders(text: str, rendered: str) -> None:
    assert render({"args": [text]}, service_data(METADATA)) == {"args": [rendered]}


@pytest.mark.parametrize("text", ["{{.Nme}}", "{{.Name", "{{.Labels}}", "{{printf .Name}}", "{{}}"])
def test_wrong_placeholders(text: str) -> None:
    with pytest.raises(InvalidSpec, match="Fix: "):
        render(text, service_data(METADATA))


GPU = {"limits": {"nvidia.com/gpu": 1}}


@pytest.mark.parametrize(
    ("image", "version", "server", "resources", "expected"),
    [
        ("kserve/x:latest", "1.2", "", None, "kserve/x:1.2"),
        ("kserve/x", "1.2", "", None, "kserve/x:1.2"),
        ("host:5000/x", "1.2", "", None, "host:5000/x:1.2"),
        ("x@sha256:abc", "1.2", "torchserve", GPU, "x@sha256:abc"),
        ("x:1", "", "torchserve", GPU, "x:1-gpu"),
        ("x:1-gpu", "", "torchserve", GPU, "x:1-gpu"),
        ("x:1", "", "torchserve", {"limits": {"nvidia.com/mig-1g.5gb": 1}}, "x:1-gpu"),
        ("x:1", "", "sklearnserver", GPU, "x:1"),
        ("x", "", "torchserve", GPU, "x"),
        ("vllm/vllm-openai:x", "", "vllmserver", None, "vllm/vllm-openai-cpu:x"),
        ("vllm/vllm-openai-cpu:x", "", "vllmserver", None, "vllm/vllm-openai-cpu:x"),
        ("vllm/vllm-openai:x", "", "vllmserver", GPU, "vllm/vllm-openai:x"),
    ],
)
def test_image_tags(
    image: str, version: str, server: str, resources: dict[str, Any] | None, expected: str
) -> None:
    assert images.with_version(image, version, server, resources) == expected


@pytest.mark.parametrize(
    ("image", "ours"),
    [
        ("kserve/sklearnserver:v0.15", True),
        ("kedge/xgbserver", True),
        ("registry:5000/kserve/lgbserver:1", True),
        ("kserve-sklearnserver:replace", True),
        ("acme/sklearnserver:1", False),
        ("kserve/huggingfaceserver", False),
    ],
)
def test_images_of_kedges_server(image: str, ours: bool) -> None:
    assert images.is_kedge_server(image) is ours
