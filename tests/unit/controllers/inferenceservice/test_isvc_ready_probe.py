"""How others than the kubelet ask a pod whether it is ready."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.controllers.inferenceservice.pod import ready_probe

PORTS = [{"name": "http1", "containerPort": 8080}]


def make_pod(probe: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"containers": [{"name": "a", "ports": PORTS, "readinessProbe": probe}], **more}


@pytest.mark.parametrize(
    ("probe", "told"),
    [
        ({"httpGet": {"path": "/ready", "port": 8080}}, "http://pod:8080/ready"),
        ({"httpGet": {"path": "ready?full=1", "port": "http1"}}, "http://pod:8080/ready?full=1"),
        ({"httpGet": {"port": 9000}}, "http://pod:9000/"),
        ({"tcpSocket": {"port": 8080}, "periodSeconds": 10}, "tcp://pod:8080"),
        ({"tcpSocket": {"port": "http1"}}, "tcp://pod:8080"),
        ({"httpGet": {"port": "nowhere"}}, ""),
        ({"httpGet": {"port": 8080, "scheme": "HTTPS"}}, ""),
        ({"httpGet": {"port": 8080, "host": "elsewhere"}}, ""),
        ({"httpGet": {"port": 8080, "httpHeaders": [{"name": "A", "value": "b"}]}}, ""),
        ({"httpGet": {"port": 8080}, "initialDelaySeconds": 5}, ""),
        ({"httpGet": {"port": 8080}, "successThreshold": 2}, ""),
        ({"exec": {"command": ["true"]}}, ""),
        ({"grpc": {"port": 9000}}, ""),
        ({}, ""),
    ],
)
def test_only_what_has_the_same_answer_for_everybody_is_asked(
    probe: dict[str, Any], told: str
) -> None:
    assert ready_probe(make_pod(probe)) == told


def test_one_probe_is_asked_and_neither_two_nor_what_others_have_to_say() -> None:
    probe = {"tcpSocket": {"port": 8080}}
    assert ready_probe(make_pod(probe, readinessGates=[{"conditionType": "a.example/b"}])) == ""
    pod = make_pod(probe)
    bringer: dict[str, Any] = {"name": "modelcar"}
    pod["containers"].append(bringer)
    assert ready_probe(pod) == "tcp://pod:8080"
    bringer["readinessProbe"] = {"exec": {"command": ["true"]}}
    assert ready_probe(pod) == ""
    del pod["containers"][0]["readinessProbe"]
    assert ready_probe(pod) == ""
