"""The verbs that change an InferenceService's status; nothing else writes its conditions.

Conditions follow Knative's rules: `Ready` depends on `PredictorReady` and `IngressReady` alone, all
others are of severity `Info`; the list is sorted by type; `lastTransitionTime` moves when
any field of a condition moved, compared with the status that the reconcile started from. Ready is
always computed: False when a dependent is, else Unknown when one is, else True. Where upstream
shows the newest False dependent, Ready shows the cause: a component that fails takes its route with
it, so the reason and message of a component that is not ready come first.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from kedge.api.inferenceservice.reasons import FAILURE_REASONS, Reason
from kedge.lib.clock import SYSTEM_CLOCK, Clock, format_time

READY = "Ready"
PREDICTOR_READY = "PredictorReady"
INGRESS_READY = "IngressReady"
ROUTES_READY = "RoutesReady"
LATEST_DEPLOYMENT_READY = "LatestDeploymentReady"
CANARY_PREDICTOR_READY = "CanaryPredictorReady"
STOPPED = "Stopped"
DEPENDENTS = (PREDICTOR_READY, INGRESS_READY)
_CAUSES = (PREDICTOR_READY, "TransformerReady", "ExplainerReady", INGRESS_READY)
"""What explains a service that is not Ready, from cause to effect."""


class Component(StrEnum):
    """A part of an InferenceService that has pods of its own."""

    PREDICTOR = "predictor"
    TRANSFORMER = "transformer"
    EXPLAINER = "explainer"

    @property
    def ready_condition(self) -> str:
        return f"{self.value.capitalize()}Ready"

    @property
    def route_condition(self) -> str:
        plural = "s" if self is Component.EXPLAINER else ""
        return f"{self.value.capitalize()}Route{plural}Ready"

    @property
    def configuration_condition(self) -> str:
        return f"{self.value.capitalize()}ConfigurationReady"


class Status:
    """One InferenceService's status while a reconcile writes it.

    Args:
        status: the stored status; it is copied.
        generation: the object's own `metadata.generation`.
        clock: stamps conditions.
    """

    def __init__(
        self, status: dict[str, Any] | None, generation: int, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._status: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(status or {}))
        self._clock = clock
        stored = self._status.pop("conditions", None) or []
        self._before = {entry["type"]: entry for entry in stored}
        self._conditions: dict[str, dict[str, Any]] = dict(self._before)
        self._status["observedGeneration"] = generation
        self._is_settled = True

    def to_dict(self) -> dict[str, Any]:
        """The status to store."""
        self._settle()
        result = {key: value for key, value in self._status.items() if value not in (None, "", {})}
        if self._conditions:
            result["conditions"] = [self._conditions[type_] for type_ in sorted(self._conditions)]
        return result

    # Conditions.

    def condition(self, type_: str) -> dict[str, Any] | None:
        self._settle()
        return self._conditions.get(type_)

    def status_of(self, type_: str) -> str:
        """`True`, `False` or `Unknown`; a condition that was never set is Unknown."""
        self._settle()
        return str((self._conditions.get(type_) or {}).get("status", "Unknown"))

    @property
    def is_ready(self) -> bool:
        return self.status_of(READY) == "True"

    def initialise(self) -> None:
        """Give Ready and what it depends on a status, Unknown where they have none."""
        for type_ in DEPENDENTS:
            if type_ not in self._conditions:
                self._set(type_, "Unknown")
        self._is_settled = False

    def mark(self, type_: str, status: str, reason: str = "", message: str = "") -> None:
        """Set any condition but Ready, which is computed."""
        if type_ == READY:
            raise ValueError("Ready is computed from its dependents and cannot be set.")
        self._set(type_, status, reason, message)
        self._is_settled = False

    def mark_true(self, type_: str, reason: str = "", message: str = "") -> None:
        self.mark(type_, "True", reason, message)

    def mark_false(self, type_: str, reason: str, message: str = "") -> None:
        self.mark(type_, "False", reason, message)

    def mark_unknown(self, type_: str, reason: str, message: str = "") -> None:
        self.mark(type_, "Unknown", reason, message)

    def remove(self, type_: str) -> None:
        """Forget a condition that no longer applies."""
        if type_ in DEPENDENTS or type_ == READY:
            raise ValueError(f"{type_} always applies.")
        self._conditions.pop(type_, None)

    # Components.

    def mark_component_ready(self, component: Component, reason: str = "") -> None:
        self.mark_true(component.ready_condition, reason)

    def mark_component_not_ready(self, component: Component, reason: str, message: str) -> None:
        self.mark_false(component.ready_condition, reason, message)

    def mark_component_unknown(self, component: Component, reason: str, message: str) -> None:
        self.mark_unknown(component.ready_condition, reason, message)

    def mark_predictor_ready(self, reason: str = "") -> None:
        self.mark_component_ready(Component.PREDICTOR, reason)

    def mark_predictor_not_ready(self, reason: str, message: str) -> None:
        self.mark_component_not_ready(Component.PREDICTOR, reason, message)

    def mark_predictor_unknown(self, reason: str, message: str) -> None:
        self.mark_component_unknown(Component.PREDICTOR, reason, message)

    def component(self, component: Component) -> dict[str, Any]:
        """`status.components.X`, to read and change."""
        components: dict[str, dict[str, Any]] = self._status.setdefault("components", {})
        return components.setdefault(component.value, {})

    def forget_component(self, component: Component) -> None:
        """The service has no such component (any more)."""
        (self._status.get("components") or {}).pop(component.value, None)
        if component is not Component.PREDICTOR:
            self._conditions.pop(component.ready_condition, None)
        self._conditions.pop(component.route_condition, None)
        self._conditions.pop(component.configuration_condition, None)

    # The way in.

    def mark_ingress_ready(self) -> None:
        self.mark_true(INGRESS_READY)

    def mark_ingress_not_ready(self, reason: str, message: str) -> None:
        self.mark_false(INGRESS_READY, reason, message)

    def mark_ingress_unknown(self, reason: str, message: str) -> None:
        self.mark_unknown(INGRESS_READY, reason, message)

    def set_url(self, url: str) -> None:
        self._status["url"] = url

    def set_address(self, url: str) -> None:
        self._status["address"] = {"url": url}

    # Mode, runtime, canaries.

    def set_deployment_mode(self, mode: str) -> None:
        self._status["deploymentMode"] = mode

    def set_runtime(self, name: str, *, cluster_scoped: bool) -> None:
        """Record the runtime in use; an empty name for none."""
        self._status["servingRuntimeName"] = "" if cluster_scoped else name
        self._status["clusterServingRuntimeName"] = name if cluster_scoped else ""

    def mark_canaries(self, canaries: list[dict[str, Any]]) -> None:
        """Record the canary variants (`name`, `ready`, `trafficPercent`) and their condition."""
        if not canaries:
            self._status.pop("canaryStatuses", None)
            self.remove(CANARY_PREDICTOR_READY)
            return
        self._status["canaryStatuses"] = canaries
        waiting = [str(entry["name"]) for entry in canaries if not entry["ready"]]
        if waiting:
            message = f"Not ready: {', '.join(waiting)}."
            self.mark_false(CANARY_PREDICTOR_READY, Reason.CANARIES_NOT_READY, message)
        else:
            self.mark_true(CANARY_PREDICTOR_READY, Reason.ALL_CANARIES_READY)

    # Stopping.

    def mark_stopped(self, components: tuple[Component, ...], *, has_canary: bool = False) -> None:
        """The service is stopped: all that was reported about its children is forgotten."""
        mode = self._status.get("deploymentMode")
        generation = self._status["observedGeneration"]
        self._status = {"observedGeneration": generation, "deploymentMode": mode}
        self._conditions = {}
        message = "Stopped by its annotation. Fix: Remove serving.kserve.io/stop to resume."
        for component in components:
            self._set(component.ready_condition, "False", Reason.STOPPED, message)
        self._set(INGRESS_READY, "False", Reason.STOPPED, message)
        if has_canary:
            self._set(CANARY_PREDICTOR_READY, "False", Reason.STOPPED, message)
        self._set(STOPPED, "True")
        self._recompute()

    def mark_running(self) -> None:
        """The service is not stopped."""
        self._set(STOPPED, "False")
        for type_, entry in list(self._conditions.items()):
            if entry.get("reason") == Reason.STOPPED:
                self._set(type_, "Unknown")
        self._is_settled = False

    # The model.

    @property
    def model(self) -> dict[str, Any]:
        """`status.modelStatus`, to read and change."""
        model: dict[str, Any] = self._status.setdefault("modelStatus", {})
        return model

    def mark_model_pending(self) -> None:
        self._transition("InProgress", "Pending")

    def mark_model_loading(self) -> None:
        self._transition("InProgress", "Loading")

    def mark_model_loaded(self) -> None:
        self._transition("UpToDate", "Loaded")
        self.model["states"]["activeModelState"] = "Loaded"

    def mark_model_failed(
        self,
        message: str,
        *,
        reason: str = Reason.MODEL_LOAD_FAILED,
        location: str = "",
        revision: str = "",
        exit_code: int | None = None,
    ) -> None:
        """The model asked for did not load."""
        self._transition("BlockedByFailedLoad", "FailedToLoad")
        self._fail(reason, message, location, revision, exit_code)

    def mark_model_invalid(self, reason: str, message: str) -> None:
        """The spec cannot be served: no runtime, a wrong one, a contradiction."""
        self._transition("InvalidSpec", "FailedToLoad")
        self._fail(reason, message, "", "", None)

    def set_model_copies(self, total: int, failed: int = 0) -> None:
        """How many pods hold the model, and how many failed to."""
        self.model["copies"] = {"failedCopies": failed, "totalCopies": total}

    def _transition(self, transition: str, target: str) -> None:
        states = self.model.setdefault("states", {})
        states.setdefault("activeModelState", "Pending")
        states["targetModelState"] = target
        self.model["transitionStatus"] = transition

    def _fail(
        self, reason: str, message: str, location: str, revision: str, exit_code: int | None
    ) -> None:
        known = reason if reason in FAILURE_REASONS else Reason.RUNTIME_UNHEALTHY
        info = {
            "reason": str(known),
            "message": message,
            "location": location or None,
            "modelRevisionName": revision or None,
            "exitCode": exit_code,
        }
        info = {key: value for key, value in info.items() if value is not None}
        before = {k: v for k, v in self.model.get("lastFailureInfo", {}).items() if k != "time"}
        if info != before:
            self.model["lastFailureInfo"] = {**info, "time": format_time(self._clock.now())}

    # How a condition changes.

    def _set(self, type_: str, status: str, reason: str = "", message: str = "") -> None:
        entry = {"type": type_, "status": status}
        if type_ not in DEPENDENTS and type_ != READY:
            entry["severity"] = "Info"
        if reason:
            entry["reason"] = str(reason)
        if message:
            entry["message"] = message
        before = self._before.get(type_, {})
        if entry == {key: value for key, value in before.items() if key != "lastTransitionTime"}:
            self._conditions[type_] = before
        else:
            entry["lastTransitionTime"] = format_time(self._clock.now())
            self._conditions[type_] = entry

    def _settle(self) -> None:
        """Compute Ready, if something has been marked since."""
        if not self._is_settled:
            self._is_settled = True
            self._recompute()

    def _recompute(self) -> None:
        dependents = [self._conditions[type_] for type_ in DEPENDENTS if type_ in self._conditions]
        false = [entry for entry in dependents if entry["status"] == "False"]
        unknown = [entry for entry in dependents if entry["status"] == "Unknown"]
        if false:
            causes = (self._conditions.get(type_, {}) for type_ in _CAUSES)
            cause = next(
                entry
                for entry in causes
                if entry.get("status") == "False"
                or (entry.get("status") == "Unknown" and entry.get("reason"))
            )
            self._set(READY, "False", cause.get("reason", ""), cause.get("message", ""))
        elif unknown:
            self._copy_to_ready(unknown[0])
        elif len(dependents) < len(DEPENDENTS):
            self._set(READY, "Unknown")
        else:
            self._set(READY, "True")

    def _copy_to_ready(self, entry: dict[str, Any]) -> None:
        self._set(READY, entry["status"], entry.get("reason", ""), entry.get("message", ""))
