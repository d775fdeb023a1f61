"""The chain from a service to the cause of its state, judged from recorded objects."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.client.findings import Finding, State
from kedge.client.why import Evidence, explain

LABELS = {"serving.kserve.io/inferenceservice": "iris", "component": "predictor"}
LOAD_FAILED = (
    "ModelLoadFailed: model.joblib was written by scikit-learn 1.9. Fix: pip install it anew."
)


def condition(type: str, status: str, reason: str = "", message: str = "") -> dict[str, str]:
    return {"type": type, "status": status, "reason": reason, "message": message}


def service(*conditions: dict[str, str], transition: str = "InProgress", **status: Any) -> Any:
    return {
        "kind": "InferenceService",
        "metadata": {"name": "iris", "namespace": "default", "generation": 1, "uid": "u-isvc"},
        "spec": {"predictor": {"model": {}}},
        "status": {
            "observedGeneration": 1,
            "conditions": list(conditions),
            "modelStatus": {"transitionStatus": transition},
            **status,
        },
    }


def owned(kind: str, name: str, owner: str, **rest: Any) -> Any:
    metadata = {
        "name": name,
        "uid": f"u-{name}",
        "labels": LABELS,
        "ownerReferences": [{"uid": owner}],
    }
    return {"kind": kind, "metadata": metadata, **rest}


def chain(pod_status: dict[str, Any], isvc: Any, **more: Any) -> Evidence:
    """A service with one Deployment, ReplicaSet and pod."""
    workload: dict[str, Any] = {"spec": {"replicas": 1}, "status": {}}
    return Evidence(
        isvc,
        [owned("Deployment", "iris-predictor", "u-isvc", **workload)],
        [owned("ReplicaSet", "iris-predictor-5d", "u-iris-predictor", **workload)],
        [owned("Pod", "iris-predictor-5d-x", "u-iris-predictor-5d", spec={}, status=pod_status)],
        **more,
    )


def ended(code: int, **more: str) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, **more}}


def container(state: dict[str, Any], *, name: str = "kserve-container", **rest: Any) -> Any:
    return {"name": name, "state": state, **rest}


def way(finding: Finding) -> list[str]:
    """Every link, depth first."""
    return [finding.what, *(what for below in finding.below for what in way(below))]


def find(finding: Finding, what: str) -> Finding:
    if finding.what == what:
        return finding
    for below in finding.below:
        if what in way(below):
            return find(below, what)
    raise AssertionError(f"{what} is not among {way(finding)}")


def test_ready_says_where_it_answers() -> None:
    told = explain(
        Evidence(
            service(
                condition("Ready", "True"),
                condition("PredictorReady", "True"),
                condition("IngressReady", "True"),
                url="http://iris-default.localhost:8080",
                address={"url": "http://127.0.0.1:8080/serving/default/iris"},
            )
        )
    )
    assert told.ready
    assert told.summary == "iris is Ready and answers at http://127.0.0.1:8080/serving/default/iris"
    assert told.fix == ""
    assert told.to_json()["url"] == "http://127.0.0.1:8080/serving/default/iris"


def test_a_crash_loop_is_followed_down_to_its_last_lines() -> None:
    status = {
        "phase": "Running",
        "containerStatuses": [
            container(
                {"waiting": {"reason": "CrashLoopBackOff"}},
                restartCount=3,
                lastState={
                    "terminated": {"exitCode": 1, "reason": "Error", "message": LOAD_FAILED}
                },
            )
        ],
    }
    isvc = service(
        condition("Ready", "False", "ModelLoadFailed", LOAD_FAILED),
        condition("PredictorReady", "False", "ModelLoadFailed", LOAD_FAILED),
        transition="BlockedByFailedLoad",
    )
    logs = {("iris-predictor-5d-x", "kserve-container"): ["loading", LOAD_FAILED]}
    told = explain(chain(status, isvc, logs=logs))
    assert way(told.tree) == [
        "InferenceService iris",
        "Predictor (PredictorReady)",
        "Deployment iris-predictor",
        "ReplicaSet iris-predictor-5d",
        "Pod iris-predictor-5d-x",
        "container kserve-container",
    ]
    last = find(told.tree, "container kserve-container")
    assert last.state is State.FAILED
    assert last.told == "CrashLoopBackOff, restarted 3 times; its last run: exit code 1"
    assert last.lines == ["loading", LOAD_FAILED]
    assert told.fix == "pip install it anew."
    assert told.summary == f"iris is not Ready: ModelLoadFailed: {LOAD_FAILED}".partition(" Fix")[0]
    assert told.tree.told == "ModelLoadFailed"


@pytest.mark.parametrize(
    ("state", "more", "told", "fix"),
    [
        (
            {"waiting": {"reason": "ErrImagePull", "message": "nothing maps acme/x"}},
            {},
            "ErrImagePull: nothing maps acme/x",
            "map it in images.yaml",
        ),
        (
            {"waiting": {"reason": "CrashLoopBackOff"}},
            {"lastState": ended(137, reason="OOMKilled"), "restartCount": 1},
            "CrashLoopBackOff, restarted 1 time; its last run: OOMKilled, exit code 137",
            "limits.memory",
        ),
        (
            {"terminated": {"exitCode": 139, "signal": 11}},
            {},
            "signal 11",
            "kedge logs iris",
        ),
        (
            {"waiting": {"reason": "CreateContainerConfigError", "message": "no secret s"}},
            {},
            "CreateContainerConfigError: no secret s",
            "Create the Secret",
        ),
    ],
)  # fmt: skip
def test_a_container_tells_before_any_controller_does(
    state: Any, more: Any, told: str, fix: str
) -> None:
    isvc = service(condition("Ready", "Unknown"), condition("PredictorReady", "Unknown"))
    status = {"phase": "Pending", "containerStatuses": [container(state, **more)]}
    found = explain(chain(status, isvc))
    assert find(found.tree, "container kserve-container").told == told
    assert told in found.summary
    assert fix in found.fix


def test_an_init_container_that_fails_is_the_cause() -> None:
    status = {
        "phase": "Pending",
        "initContainerStatuses": [
            container(
                {
                    "terminated": {
                        "exitCode": 1,
                        "message": "no such bucket Fix: correct storageUri",
                    }
                },
                name="storage-initializer",
            )
        ],
        "containerStatuses": [container({"waiting": {"reason": "PodInitializing"}})],
    }
    found = explain(chain(status, service(condition("Ready", "Unknown"))))
    assert "container storage-initializer" in found.summary
    assert found.fix == "correct storageUri"


def test_an_init_container_that_is_tried_again_tells_of_its_last_run() -> None:
    last = {"terminated": {"exitCode": 1, "message": "no such bucket Fix: correct storageUri"}}
    again = container({"running": {}}, name="storage-initializer", restartCount=2, lastState=last)
    status = {"phase": "Pending", "initContainerStatuses": [again]}
    found = explain(chain(status, service(condition("Ready", "Unknown"))))
    assert "running again, restarted 2 times; its last run: " in found.summary
    assert found.fix == "correct storageUri"


def test_last_words_that_no_status_has_yet_tell_how_to_mend_it() -> None:
    """A container says why it ends before any node reports that it has."""
    running = container({"running": {}}, name="storage-initializer")
    status = {"phase": "Pending", "initContainerStatuses": [running]}
    said = ["Downloading.", "StorageError: it is not there. Fix: Correct the storageUri."]
    isvc = service(condition("Ready", "Unknown"), condition("PredictorReady", "Unknown"))
    logs = {("iris-predictor-5d-x", "storage-initializer"): said}
    found = explain(chain(status, isvc, logs=logs))
    assert "(StorageError: it is not there.)" in found.summary
    assert found.fix == "Correct the storageUri."


def test_waiting_is_no_failure() -> None:
    status = {"phase": "Running", "containerStatuses": [container({"running": {}}, ready=False)]}
    isvc = service(condition("Ready", "Unknown"), condition("PredictorReady", "Unknown"))
    found = explain(chain(status, isvc))
    assert "readiness probe has not succeeded yet" in found.summary
    assert found.fix.startswith("Nothing yet")
    assert find(found.tree, "Pod iris-predictor-5d-x").state is State.WAITING


def test_a_pod_that_fits_nowhere() -> None:
    message = "0/1 nodes are available: insufficient nvidia.com/gpu."
    status = {
        "phase": "Pending",
        "conditions": [condition("PodScheduled", "False", "Unschedulable", message)],
    }
    found = explain(chain(status, service(condition("Ready", "Unknown"))))
    assert f"Unschedulable: {message}" in found.summary


def test_a_spec_that_cannot_be_built_has_no_pods() -> None:
    message = "No runtime serves `sklern`. Fix: Write `sklearn`."
    isvc = service(
        condition("Ready", "False", "NoSupportingRuntime", message),
        condition("PredictorReady", "False", "NoSupportingRuntime", message),
        transition="InvalidSpec",
    )
    found = explain(Evidence(isvc))
    assert found.summary == ("iris is not Ready: NoSupportingRuntime: No runtime serves `sklern`.")
    assert found.fix == "Write `sklearn`."


def test_a_route_that_the_gateway_has_not_taken() -> None:
    isvc = service(
        condition("Ready", "Unknown"),
        condition("PredictorReady", "True"),
        condition("IngressReady", "Unknown", "NotAcknowledged"),
    )
    conditions = [
        condition("Accepted", "True"),
        condition("serving.kedge.dev/Answering", "False", "NoReadyEndpoints", "iris-x has none"),
    ]
    route = owned("HTTPRoute", "iris", "u-isvc", status={"parents": [{"conditions": conditions}]})
    found = explain(Evidence(isvc, routes=[route]))
    assert find(found.tree, "HTTPRoute iris").told == (
        "serving.kedge.dev/Answering: iris-x has none"
    )


def test_stopped_and_unseen_services() -> None:
    stopped = service(condition("Ready", "False", "Stopped"), condition("Stopped", "True"))
    assert "serving.kserve.io/stop-" in explain(Evidence(stopped)).fix
    unseen = service(condition("Ready", "True"))
    unseen["metadata"]["generation"] = 2
    found = explain(Evidence(unseen))
    assert not found.ready
    assert "not been looked at by the controller" in found.summary


def test_warnings_are_told_oldest_first_with_their_count() -> None:
    def event(reason: str, at: str, **more: Any) -> Any:
        regarded = {"kind": "Pod", "name": "p"}
        return {"type": "Warning", "reason": reason, "message": "m", "lastTimestamp": at,
                "involvedObject": regarded, **more}  # fmt: skip

    events = [
        event("BackOff", "2025-01-02T00:00:00Z", count=4),
        event("Failed", "2025-01-01T00:00:00Z"),
    ]
    normal = {**event("Started", "2025-01-03T00:00:00Z"), "type": "Normal"}
    found = explain(Evidence(service(), events=[*events, normal]))
    assert found.events == ["Failed pod/p: m", "BackOff pod/p: m (x4)"]


def test_a_pod_that_is_well_tells_what_its_start_was_made_of() -> None:
    status = {
        "phase": "Running",
        "conditions": [
            {
                "type": "serving.kedge.dev/Started",
                "status": "True",
                "reason": "Forked",
                "message": "process 8.0 ms, weights 9.1 ms",
            }
        ],
        "containerStatuses": [container({"running": {}}, ready=True)],
    }
    found = explain(chain(status, service(condition("Ready", "True"))))
    told = find(found.tree, "Pod iris-predictor-5d-x").told
    assert told == "Running; forked from a template: process 8.0 ms, weights 9.1 ms"
