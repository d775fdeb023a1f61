"""The verbs that write an InferenceService's status."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kedge.api.inferenceservice.reasons import Reason
from kedge.api.inferenceservice.status import Component, Status


class StoppedClock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 1, tzinfo=UTC)

    def tick(self, seconds: int = 1) -> None:
        self.moment += timedelta(seconds=seconds)

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()

    async def sleep(self, seconds: float) -> None:
        self.tick(int(seconds))


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
def status(clock: StoppedClock) -> Status:
    status = Status(None, 1, clock)
    status.initialise()
    return status


def again(status: Status, clock: StoppedClock, generation: int = 1) -> Status:
    """The next reconcile's view."""
    return Status(status.to_dict(), generation, clock)


def conditions(status: Status) -> dict[str, dict[str, Any]]:
    return {entry["type"]: entry for entry in status.to_dict()["conditions"]}


def test_a_new_service_is_unknown(status: Status) -> None:
    assert {type_: entry["status"] for type_, entry in conditions(status).items()} == {
        "IngressReady": "Unknown", "PredictorReady": "Unknown", "Ready": "Unknown",
    }  # fmt: skip
    assert status.to_dict()["observedGeneration"] == 1


def test_ready_is_computed(status: Status) -> None:
    status.mark_predictor_ready()
    assert status.status_of("Ready") == "Unknown"
    status.mark_ingress_ready()
    assert status.is_ready
    assert "reason" not in conditions(status)["Ready"]


def test_a_false_dependent_makes_ready_false_with_its_reason(status: Status) -> None:
    status.mark_ingress_ready()
    status.mark_predictor_not_ready("CrashLoopBackOff", "pod a: exit 1. Fix: x.")
    ready = conditions(status)["Ready"]
    assert (ready["status"], ready["reason"], ready["message"]) == (
        "False", "CrashLoopBackOff", "pod a: exit 1. Fix: x.",
    )  # fmt: skip


def test_the_cause_counts_not_the_newest_effect(status: Status, clock: StoppedClock) -> None:
    status.mark_predictor_not_ready("B", "b")
    clock.tick()
    status.mark_ingress_not_ready("NoReadyEndpoints", "c")
    assert conditions(status)["Ready"]["reason"] == "B"


def test_a_transformer_that_took_the_route_with_it_counts(status: Status) -> None:
    status.mark_component_not_ready(Component.TRANSFORMER, "B", "b")
    assert conditions(status)["Ready"]["status"] != "False"
    status.mark_ingress_not_ready("NoReadyEndpoints", "c")
    assert conditions(status)["Ready"]["reason"] == "B"


def test_false_goes_before_unknown(status: Status) -> None:
    status.mark_predictor_unknown("Deploying", "0 of 1 pods")
    assert conditions(status)["Ready"]["reason"] == "Deploying"
    status.mark_ingress_not_ready("NoReadyEndpoints", "")
    assert conditions(status)["Ready"]["status"] == "False"


def test_informative_conditions_never_decide(status: Status) -> None:
    status.mark_predictor_ready()
    status.mark_ingress_ready()
    status.mark_component_not_ready(Component.TRANSFORMER, "A", "a")
    status.mark_false("RoutesReady", "A")
    assert status.is_ready
    assert conditions(status)["TransformerReady"]["severity"] == "Info"
    assert "severity" not in conditions(status)["PredictorReady"]
    assert "severity" not in conditions(status)["Ready"]


def test_conditions_are_sorted_by_type(status: Status) -> None:
    status.mark_true("Stopped")
    status.mark_true("CanaryPredictorReady")
    types = [entry["type"] for entry in status.to_dict()["conditions"]]
    assert types == sorted(types)


def test_the_time_moves_only_when_something_did(status: Status, clock: StoppedClock) -> None:
    status.mark_predictor_not_ready("A", "a")
    clock.tick()
    next_ = again(status, clock)
    next_.mark_predictor_unknown("B", "b")
    next_.mark_predictor_not_ready("A", "a")
    assert next_.to_dict() == status.to_dict()
    next_.mark_predictor_not_ready("A", "another message")
    assert conditions(next_)["PredictorReady"]["lastTransitionTime"] == "2026-01-01T00:00:01Z"
    assert conditions(next_)["IngressReady"]["lastTransitionTime"] == "2026-01-01T00:00:00Z"


def test_the_stored_status_is_not_changed(clock: StoppedClock) -> None:
    stored: dict[str, Any] = {"conditions": [], "modelStatus": {"states": {}}}
    status = Status(stored, 2, clock)
    status.mark_model_loaded()
    status.mark_predictor_ready()
    assert stored == {"conditions": [], "modelStatus": {"states": {}}}


def test_observed_generation_is_the_objects_own(status: Status, clock: StoppedClock) -> None:
    assert again(status, clock, generation=7).to_dict()["observedGeneration"] == 7


def test_ready_cannot_be_set(status: Status) -> None:
    with pytest.raises(ValueError, match="computed"):
        status.mark_true("Ready")
    with pytest.raises(ValueError, match="always applies"):
        status.remove("PredictorReady")


@pytest.mark.parametrize(
    ("component", "ready", "route", "configuration"),
    [
        ("predictor", "PredictorReady", "PredictorRouteReady", "PredictorConfigurationReady"),
        (
            "transformer",
            "TransformerReady",
            "TransformerRouteReady",
            "TransformerConfigurationReady",
        ),
        ("explainer", "ExplainerReady", "ExplainerRoutesReady", "ExplainerConfigurationReady"),
    ],
)
def test_condition_names(component: str, ready: str, route: str, configuration: str) -> None:
    part = Component(component)
    assert part.ready_condition == ready
    assert part.route_condition == route
    assert part.configuration_condition == configuration


def test_components_runtime_and_addresses(status: Status) -> None:
    status.component(Component.PREDICTOR)["url"] = "http://p"
    status.component(Component.TRANSFORMER)["url"] = "http://t"
    status.mark_component_ready(Component.TRANSFORMER)
    status.forget_component(Component.TRANSFORMER)
    status.set_url("http://a")
    status.set_address("http://b")
    status.set_deployment_mode("Standard")
    status.set_runtime("kedge-sklearnserver", cluster_scoped=True)
    result = status.to_dict()
    assert result["components"] == {"predictor": {"url": "http://p"}}
    assert (result["url"], result["address"]) == ("http://a", {"url": "http://b"})
    assert result["clusterServingRuntimeName"] == "kedge-sklearnserver"
    assert "servingRuntimeName" not in result
    assert "TransformerReady" not in conditions(status)
    status.set_runtime("mine", cluster_scoped=False)
    assert "clusterServingRuntimeName" not in status.to_dict()


def test_stopping_and_resuming(status: Status, clock: StoppedClock) -> None:
    status.set_deployment_mode("Standard")
    status.set_url("http://a")
    status.component(Component.PREDICTOR)["url"] = "http://p"
    status.mark_predictor_ready()
    status.mark_ingress_ready()
    status.mark_stopped((Component.PREDICTOR, Component.EXPLAINER), has_canary=True)
    result = status.to_dict()
    assert set(result) == {"conditions", "deploymentMode", "observedGeneration"}
    said = {t: (e["status"], e.get("reason")) for t, e in conditions(status).items()}
    assert said == {
        "CanaryPredictorReady": ("False", "Stopped"),
        "ExplainerReady": ("False", "Stopped"),
        "IngressReady": ("False", "Stopped"),
        "PredictorReady": ("False", "Stopped"),
        "Ready": ("False", "Stopped"),
        "Stopped": ("True", None),
    }
    clock.tick()
    unchanged = again(status, clock)
    unchanged.mark_stopped((Component.PREDICTOR, Component.EXPLAINER), has_canary=True)
    assert unchanged.to_dict() == result

    resumed = again(status, clock)
    resumed.mark_running()
    assert resumed.status_of("Stopped") == "False"
    assert resumed.status_of("Ready") == "Unknown"


def test_canaries(status: Status) -> None:
    status.mark_canaries([{"name": "b", "ready": False, "trafficPercent": 10}])
    condition = conditions(status)["CanaryPredictorReady"]
    assert (condition["status"], condition["reason"]) == ("False", Reason.CANARIES_NOT_READY)
    status.mark_canaries([{"name": "b", "ready": True, "trafficPercent": 10}])
    assert conditions(status)["CanaryPredictorReady"]["status"] == "True"
    status.mark_canaries([])
    assert "CanaryPredictorReady" not in conditions(status)
    assert "canaryStatuses" not in status.to_dict()


@pytest.mark.parametrize(
    ("verb", "transition", "active", "target"),
    [
        ("mark_model_pending", "InProgress", "Pending", "Pending"),
        ("mark_model_loading", "InProgress", "Pending", "Loading"),
        ("mark_model_loaded", "UpToDate", "Loaded", "Loaded"),
    ],
)
def test_model_states(status: Status, verb: str, transition: str, active: str, target: str) -> None:
    getattr(status, verb)()
    assert status.model["transitionStatus"] == transition
    assert status.model["states"] == {"activeModelState": active, "targetModelState": target}


def test_a_failed_model(status: Status, clock: StoppedClock) -> None:
    status.mark_model_loaded()
    status.mark_model_failed("no file", exit_code=1, location="predictor/pod-a")
    assert status.model["transitionStatus"] == "BlockedByFailedLoad"
    assert status.model["states"]["activeModelState"] == "Loaded"
    info = {
        "reason": "ModelLoadFailed", "message": "no file", "exitCode": 1,
        "location": "predictor/pod-a", "time": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    assert status.model["lastFailureInfo"] == info
    clock.tick()
    status.mark_model_failed("no file", exit_code=1, location="predictor/pod-a")
    assert status.model["lastFailureInfo"] == info
    status.mark_model_loaded()
    assert status.model["lastFailureInfo"] == info


def test_an_invalid_spec(status: Status) -> None:
    status.mark_model_invalid(Reason.NO_SUPPORTING_RUNTIME, "nothing reads x")
    assert status.model["transitionStatus"] == "InvalidSpec"
    assert status.model["states"]["targetModelState"] == "FailedToLoad"
    assert status.model["lastFailureInfo"]["reason"] == "NoSupportingRuntime"
    status.mark_model_invalid("SomethingNew", "x")
    assert status.model["lastFailureInfo"]["reason"] == "RuntimeUnhealthy"


def test_copies(status: Status) -> None:
    status.set_model_copies(3, failed=1)
    assert status.to_dict()["modelStatus"]["copies"] == {"failedCopies": 1, "totalCopies": 3}
