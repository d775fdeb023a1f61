"""What `kubectl get` shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.unit.cluster_local.local_objects import make_deployment, make_isvc, make_pod

from kedge.api.scheme import (
    CLUSTER_SERVING_RUNTIME,
    DEPLOYMENT,
    EVENT,
    HORIZONTAL_POD_AUTOSCALER,
    INFERENCE_SERVICE,
    KINDS,
    NODE,
    POD,
    SERVICE,
    Kind,
)
from kedge.cluster.base import Object
from kedge.cluster.local.jsonpath import compile_path
from kedge.cluster.local.tables import printer_of
from kedge.cluster.local.tables.ages import age, format_duration

NOW = datetime(2026, 1, 1, 1, tzinfo=UTC)


def shown(kind: Kind, obj: Object) -> dict[str, Any]:
    obj["metadata"].setdefault("creationTimestamp", "2026-01-01T00:55:00Z")
    printer = printer_of(kind)
    names = [column["name"] for column in printer.definitions()]
    return dict(zip(names, printer.cells(obj, NOW), strict=True))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"), (0, "0s"), (119, "119s"), (120, "2m"), (201, "3m21s"), (600, "10m"),
        (3 * 3600, "3h"), (3 * 3600 + 120, "3h2m"), (9 * 3600 + 120, "9h"), (49 * 3600, "2d1h"),
        (9 * 86400, "9d"), (730 * 86400, "2y"), (800 * 86400, "2y70d"), (3000 * 86400, "8y"),
    ],
)  # fmt: skip
def test_durations(seconds: int, text: str) -> None:
    assert format_duration(seconds) == text


def test_an_unknown_age() -> None:
    assert [age(None, NOW), age("", NOW), age("yesterday", NOW)] == ["<unknown>"] * 3
    assert age((NOW - timedelta(seconds=9)).isoformat(), NOW) == "9s"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".a.b", [1]),
        (".a.none", []),
        (".list[*].name", ["x", "y"]),
        (".list[1].name", ["y"]),
        (".list[9].name", []),
        (".list[?(@.name=='y')].value", [2]),
        (".list[?(@.ready==true)].name", ["x"]),
        ("['d.t'].v", [3]),
        (r".d\.t.v", [3]),
    ],
)
def test_paths(path: str, found: list[Any]) -> None:
    obj = {
        "a": {"b": 1},
        "list": [{"name": "x", "ready": True}, {"name": "y", "value": 2}],
        "d.t": {"v": 3},
    }
    assert compile_path(path)(obj) == found


def test_a_path_that_is_not_supported() -> None:
    with pytest.raises(ValueError, match="position 2"):
        compile_path(".a..b")


def test_every_kind_has_columns() -> None:
    for kind in KINDS:
        empty: Object = {"metadata": {"name": "x"}, "spec": {}}
        cells = shown(kind, empty)
        assert "x" in cells.values()


def make_status(**status: Any) -> Object:
    return {**make_pod(), "status": status}


def make_container(state: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": "c", "ready": False, "restartCount": 0, "state": state, **fields}


RUNNING: dict[str, Any] = {"running": {}}
POD_CASES: list[tuple[dict[str, Any], tuple[str, str, str]]] = [
    ({"phase": "Pending"}, ("0/1", "Pending", "0")),
    (
        {"phase": "Running", "containerStatuses": [make_container(RUNNING, ready=True)]},
        ("1/1", "Running", "0"),
    ),
    (
        {
            "phase": "Running",
            "containerStatuses": [
                make_container(
                    {"waiting": {"reason": "CrashLoopBackOff"}},
                    restartCount=3,
                    lastState={"terminated": {"finishedAt": "2026-01-01T00:59:00Z"}},
                )
            ],
        },
        ("0/1", "CrashLoopBackOff", "3 (60s ago)"),
    ),
    (
        {
            "phase": "Failed",
            "containerStatuses": [make_container({"terminated": {"exitCode": 3}})],
        },
        ("0/1", "ExitCode:3", "0"),
    ),
    (
        {
            "phase": "Failed",
            "containerStatuses": [make_container({"terminated": {"reason": "OOMKilled"}})],
        },
        ("0/1", "OOMKilled", "0"),
    ),
    (
        {
            "phase": "Pending",
            "initContainerStatuses": [make_container(RUNNING)],
        },
        ("0/1", "Init:0/1", "0"),
    ),
    (
        {
            "phase": "Pending",
            "initContainerStatuses": [
                make_container({"terminated": {"exitCode": 1, "reason": "Error"}}, restartCount=2)
            ],
        },
        ("0/1", "Init:Error", "2"),
    ),
    ({"phase": "Failed", "reason": "Evicted"}, ("0/1", "Evicted", "0")),
]


@pytest.mark.parametrize(("status", "cells"), POD_CASES)
def test_pods(status: dict[str, Any], cells: tuple[str, str, str]) -> None:
    pod = make_status(**status)
    if "initContainerStatuses" in status:
        pod["spec"]["initContainers"] = [{"name": "c", "image": "x"}]
    found = shown(POD, pod)
    assert (found["Ready"], found["Status"], found["Restarts"]) == cells
    assert found["Age"] == "5m"


def test_a_pod_that_ends() -> None:
    pod = make_status(phase="Running")
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:59:00Z"
    assert shown(POD, pod)["Status"] == "Terminating"


def test_deployment() -> None:
    deployment = make_deployment(replicas=3)
    deployment["status"] = {"readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2}
    found = shown(DEPLOYMENT, deployment)
    assert (found["Ready"], found["Up-to-date"], found["Available"]) == ("2/3", 1, 2)
    assert (found["Containers"], found["Images"], found["Selector"]) == ("c", "app:1", "app=web")


def test_service() -> None:
    service: Object = {
        "metadata": {"name": "s"},
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.9", "selector": {"b": "2", "a": "1"},
                 "ports": [{"port": 80, "protocol": "TCP"}, {"port": 81, "nodePort": 30000}]},
    }  # fmt: skip
    found = shown(SERVICE, service)
    assert found["Port(s)"] == "80/TCP,81:30000/TCP"
    assert found["Selector"] == "a=1,b=2"
    assert found["External-IP"] == "<none>"


def test_inference_service() -> None:
    isvc = make_isvc()
    isvc["status"] = {
        "url": "http://iris",
        "conditions": [{"type": "Ready", "status": "True"}],
        "components": {
            "predictor": {
                "traffic": [
                    {"latestRevision": True, "percent": 20, "revisionName": "iris-2"},
                    {"tag": "prev", "percent": 80, "revisionName": "iris-1"},
                ]
            }
        },
    }
    found = shown(INFERENCE_SERVICE, isvc)
    assert list(found.values()) == ["iris", "http://iris", "True", 80, 20, "iris-1", "iris-2", "5m"]


def test_runtimes_show_every_format() -> None:
    runtime: Object = {
        "metadata": {"name": "r"},
        "spec": {"supportedModelFormats": [{"name": "sklearn"}, {"name": "xgboost"}]},
    }
    assert shown(CLUSTER_SERVING_RUNTIME, runtime)["ModelType"] == "sklearn,xgboost"


def test_event_node_and_autoscaler() -> None:
    event: Object = {
        "metadata": {"name": "e"}, "lastTimestamp": "2026-01-01T00:59:30Z", "type": "Warning",
        "reason": "Bad", "message": "it broke ", "involvedObject": {"kind": "Pod", "name": "p"},
    }  # fmt: skip
    found = shown(EVENT, event)
    assert list(found.values())[:4] == ["30s", "Warning", "Bad", "pod/p"]
    assert found["Message"] == "it broke"
    node: Object = {
        "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/worker": ""}},
        "spec": {"unschedulable": True},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    found = shown(NODE, node)
    assert (found["Status"], found["Roles"]) == ("Ready,SchedulingDisabled", "worker")
    metric = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    scaler: Object = {
        "metadata": {"name": "h"},
        "spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": "web"},
            "metrics": [{"type": "Resource", "resource": metric}],
        },
    }
    found = shown(HORIZONTAL_POD_AUTOSCALER, scaler)
    assert (found["Reference"], found["Targets"]) == ("Deployment/web", "cpu: <unknown>/80%")
