"""From what a pod shows to one cause and one fix."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kedge.cluster.base import Object
from kedge.controllers.inferenceservice.causes import Cause, Scene, find_cause, split_fix

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
PROBE = {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 3}


def pod(*containers: dict[str, Any], host_path: str = "/data/iris", **status: Any) -> Object:
    """A predictor's pod with the statuses of its containers."""
    inits = [c for c in containers if c["name"] == "storage-initializer"]
    mains = [c for c in containers if c not in inits]
    return {
        "metadata": {"name": "p-1", "namespace": "ns", "uid": "u"},
        "spec": {
            "volumes": [{"name": "m", "hostPath": {"path": host_path}}] if host_path else [],
            "containers": [
                {
                    "name": "kserve-container",
                    "image": "acme/server:1",
                    "readinessProbe": PROBE,
                    "resources": {
                        "limits": {"memory": "200Mi"},
                        "requests": {"cpu": "8", "memory": "100Mi"},
                    },
                    "volumeMounts": [{"name": "m", "mountPath": "/mnt/models"}],
                }
            ],
        },
        "status": {
            "phase": "Running",
            "initContainerStatuses": inits,
            "containerStatuses": mains,
            **status,
        },
    }


def container(name: str = "kserve-container", **state: Any) -> dict[str, Any]:
    last = state.pop("last", None)
    found: dict[str, Any] = {"name": name, "ready": False, "state": state}
    if last:
        found["lastState"] = {"terminated": last}
    return found


def ended(message: str = "", *, code: int = 1, reason: str = "Error") -> dict[str, Any]:
    return {"exitCode": code, "reason": reason, "message": message}


def cause_of(found: Object, *, model_format: str = "", **scene: Any) -> Cause:
    cause = find_cause([found], None, Scene("iris", "predictor", model_format, now=NOW, **scene))
    assert cause is not None
    assert "\n" not in cause.message
    assert " Fix: " in cause.message
    return cause


@pytest.mark.parametrize(
    ("why", "found", "reason", "words"),
    [
        (
            "a server's own words",
            pod(container(terminated=ended("ModelLoadFailed: it is torn. Fix: Save it again."))),
            "ModelLoadFailed",
            ["container kserve-container: ModelLoadFailed (exit code 1): it is torn.",
             "Fix: Save it again."],
        ),
        (
            "a traceback, by its last line and its place",
            pod(container(terminated=ended(
                "starting\nTraceback (most recent call last):\n"
                '  File "/app/main.py", line 9, in <module>\n    serve()\n    ^^^^^^^\n'
                '  File "/app/serve.py", line 3, in serve\n    raise ValueError(colour)\n'
                "ValueError: blue"))),
            "ContainerExited",
            ["starting | ValueError: blue (/app/serve.py, line 3)"],
        ),
        (
            "an empty folder, by the owner's name of it",
            pod(container(terminated=ended(
                "ModelLoadFailed: No scikit-learn model in /mnt/models: the folder is empty."
                " Fix: Put one file there."))),
            "ModelLoadFailed",
            ["in /data/iris: the folder is empty",
             "Fix: Put exactly one of model.joblib, model.pkl or model.pickle into /data/iris."],
        ),
        (
            "last lines",
            pod(container(
                waiting={"reason": "CrashLoopBackOff", "message": "back-off 10s"},
                last=ended("one\n\ntwo\n  three", code=7))),
            "ContainerExited",
            ["(exit code 7): one | two | three."],
        ),
        ("a server that just ends", pod(container(terminated=ended(code=0, reason="Completed"))),
         "ContainerExited", ["(exit code 0)", "a server must keep running"]),
        (
            "running again after a crash",
            pod(container(running={"startedAt": "2026-01-01T11:59:59Z"}, last=ended("boom"))),
            "ContainerExited",
            ["boom"],
        ),
        (
            "out of memory",
            pod(container(terminated=ended("out of memory: peak 210Mi", code=137,
                                           reason="OOMKilled"))),
            "OOMKilled",
            ["peak 210Mi", "limits.memory 200Mi", "resources.limits.memory"],
        ),
        (
            "an unknown image",
            pod(container(waiting={"reason": "ErrImagePull", "message": "no such image"})),
            "ErrImagePull",
            ["no such image (image acme/server:1)", "Correct the image"],
        ),
        (
            "a missing secret",
            pod(container(waiting={"reason": "CreateContainerConfigError",
                                   "message": "secret \"s\" not found"})),
            "CreateContainerConfigError",
            ["secret \"s\" not found", "Create the Secret or ConfigMap"],
        ),
        (
            "storage",
            pod(container("storage-initializer", terminated=ended(
                "OSError: [Errno 28] No space left on device"))),
            "StorageFailed",
            ["container storage-initializer", "Free space on that disk"],
        ),
        (
            "a port in use",
            pod(container(terminated=ended("OSError: [Errno 98] Address already in use"))),
            "ContainerExited",
            ["Address already in use", "listen on that port"],
        ),
        (
            "unschedulable",
            pod(phase="Pending", conditions=[{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/1 nodes: Insufficient cpu."}]),
            "Unschedulable",
            ["Insufficient cpu", "cpu 8", "kubectl delete isvc"],
        ),
        (
            "evicted",
            pod(phase="Failed", reason="Evicted", message="low on disk"),
            "Evicted",
            ["low on disk", "Free disk space"],
        ),
    ],
)  # fmt: skip
def test_causes(why: str, found: Object, reason: str, words: list[str]) -> None:
    cause = cause_of(found, model_format="sklearn")
    assert cause.reason == reason
    assert cause.message.startswith("Predictor, pod p-1")
    for word in words:
        assert word in cause.message, cause.message


def event(reason: str, message: str) -> Object:
    return {"type": "Warning", "reason": reason, "message": message}


def test_a_volume_that_cannot_be_mounted() -> None:
    waiting = container(waiting={"reason": "ContainerCreating"})
    events = [event("FailedMount", "hostPath /data/iris does not exist. Fix: Put the files there.")]
    cause = cause_of(pod(waiting, phase="Pending"), model_format="sklearn", events=events)
    assert cause.reason == "FailedMount"
    assert cause.fix == "Put the files there."


def test_an_agent_that_fails_before_the_pod_tells_anything() -> None:
    waiting = container(waiting={"reason": "ContainerCreating"})
    events = [event("NodeAgentError", "the node agent failed. Fix: report this error.")]
    cause = cause_of(pod(waiting, phase="Pending"), events=events)
    assert (cause.reason, cause.fix) == ("NodeAgentError", "report this error.")


RUNNING: dict[str, Any] = {"running": {"startedAt": "2026-01-01T11:59:50Z"}}


def test_a_container_that_hangs() -> None:
    events = [event("Unhealthy", "kserve-container: readiness probe failed: connection refused")]
    cause = cause_of(pod(container(**RUNNING)), events=events, log="waiting for Godot\n")
    assert cause.reason == "NotReady"
    assert "TCP port 8080" in cause.message
    assert "connection refused" in cause.message
    assert "last lines: waiting for Godot" in cause.message
    assert not cause.model_failed


def test_a_container_is_given_its_time() -> None:
    scene = Scene("iris", "predictor", now=NOW)
    young = pod(container(running={"startedAt": "2026-01-01T11:59:57Z"}))
    assert find_cause([young], None, scene) is None
    starting = pod(container(**RUNNING))
    starting["spec"]["containers"][0]["startupProbe"] = {"periodSeconds": 1, "failureThreshold": 60}
    assert find_cause([starting], None, scene) is None
    assert (
        find_cause([pod(container(waiting={"reason": "ContainerCreating"}))], None, scene) is None
    )


def test_a_deployment_that_cannot_make_pods() -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
               "message": "quota exceeded"}  # fmt: skip
    cause = find_cause([], {"status": {"conditions": [failure]}}, Scene("iris", "transformer"))
    assert cause is not None
    assert cause.message.startswith("Transformer: FailedCreate: no pod could be created: quota")


def test_the_model_folder_of_one_file() -> None:
    found = pod(container(terminated=ended("ModelLoadFailed: /mnt/models/a.pkl is empty.")))
    found["spec"]["volumes"][0]["hostPath"]["path"] = "/data/a.pkl"
    found["spec"]["containers"][0]["volumeMounts"][0]["mountPath"] = "/mnt/models/a.pkl"
    assert "/data/a.pkl is empty" in cause_of(found).message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("it broke. Fix: mend it.", ("it broke.", "mend it.")),
        ("it broke\nFix: mend it.\nmore", ("it broke", "mend it.")),
        ("it broke", ("it broke", "")),
    ],
)
def test_the_fix_in_a_text(text: str, parts: tuple[str, str]) -> None:
    assert split_fix(text) == parts
