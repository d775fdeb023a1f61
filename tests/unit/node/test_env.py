"""A container's environment."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from kedge.cluster.local.node.env import (
    ConfigError,
    expand,
    field_value,
    make_env,
    proxy_env,
    resource_value,
    thread_env,
)

POD = {
    "metadata": {
        "name": "p",
        "namespace": "ns",
        "uid": "u",
        "labels": {"b": "2", "a": 'say "x"'},
        "annotations": {"k": "v"},
    },
    "spec": {"nodeName": "n", "containers": []},
    "status": {"podIP": "127.1.2.3", "hostIP": "127.0.0.1"},
}


async def fetch(kind: str, name: str) -> Mapping[str, bytes] | None:
    known = {("ConfigMap", "cm"): {"A": b"1", "not a name": b"x"}, ("Secret", "s"): {"k": b"v"}}
    return known.get((kind, name))


async def env_of(**container: Any) -> dict[str, str]:
    return await make_env({"name": "c", **container}, POD, fetch, {"cpu": Decimal(4)})


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$(A)/$(B)", "1/$(B)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A} $(A", "$A ${A} $(A"),
    ],
)
def test_expansion(text: str, result: str) -> None:
    assert expand(text, {"A": "1"}) == result


async def test_later_variables_see_earlier_ones() -> None:
    env = [{"name": "X", "value": "$(A)2"}, {"name": "Y", "value": "$(X)3"}]
    assert await env_of(envFrom=[{"configMapRef": {"name": "cm"}}], env=env) == {
        "A": "1", "X": "12", "Y": "123",
    }  # fmt: skip


async def test_a_prefix() -> None:
    source = {"prefix": "P_", "secretRef": {"name": "s"}}
    assert await env_of(envFrom=[source]) == {"P_k": "v"}


@pytest.mark.parametrize(
    "container",
    [
        {"envFrom": [{"secretRef": {"name": "none", "optional": True}}]},
        {"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {
            "name": "none", "key": "k", "optional": True}}}]},
        {"env": [{"name": "X", "valueFrom": {"secretKeyRef": {
            "name": "s", "key": "none", "optional": True}}}]},
    ],
)  # fmt: skip
async def test_what_is_optional_may_be_missing(container: dict[str, Any]) -> None:
    assert await env_of(**container) == {}


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ({"envFrom": [{"configMapRef": {"name": "none"}}]}, "configmap 'none' not found"),
        ({"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "no"}}}]},
         "couldn't find key no in Secret s"),
        ({"env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "spec.nope"}}}]},
         "no pod field 'spec.nope'"),
    ],
)  # fmt: skip
async def test_what_is_missing_is_named(container: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        await env_of(**container)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "p"),
        ("metadata.labels['b']", "2"),
        ("metadata.annotations['none']", ""),
        ("metadata.labels", 'a="say \\"x\\""\nb="2"'),
        ("spec.nodeName", "n"),
        ("spec.serviceAccountName", "default"),
        ("status.podIP", "127.1.2.3"),
    ],
)
def test_fields(path: str, value: str) -> None:
    assert field_value(POD, path) == value


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ({"resource": "limits.cpu"}, "2"),
        ({"resource": "limits.cpu", "divisor": "1m"}, "1500"),
        ({"resource": "requests.cpu", "divisor": "1m"}, "1500"),
        ({"resource": "limits.memory"}, "1024"),
        ({"resource": "requests.memory"}, "0"),
    ],
)
def test_resources(reference: dict[str, str], value: str) -> None:
    container = {"name": "c", "resources": {"limits": {"cpu": "1500m"}}}
    assert resource_value(POD, container, reference, {"memory": Decimal(1024)}) == value


def test_threads_follow_the_limit() -> None:
    assert thread_env(None) == {}
    assert thread_env(Decimal("0.2"))["OMP_NUM_THREADS"] == "1"
    assert thread_env(Decimal("2.5"))["OPENBLAS_NUM_THREADS"] == "3"


def test_proxy() -> None:
    assert proxy_env("", "127.1.2.3") == {}
    env = proxy_env("http://127.0.0.1:9", "127.1.2.3")
    assert env["http_proxy"] == env["HTTP_PROXY"] == "http://127.0.0.1:9"
    assert "127.1.2.3" in env["no_proxy"]
