"""What a reconcile found, into the InferenceService's status.

The words and rules of conditions are in `kedge.api.inferenceservice.status`; here is which finding
becomes which condition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kedge.api.inferenceservice import status as api
from kedge.api.inferenceservice.reasons import Reason
from kedge.api.inferenceservice.status import Status
from kedge.cluster.base import Object
from kedge.controllers.inferenceservice import names, urls
from kedge.controllers.inferenceservice.causes import NOT_READY, SCALED_TO_ZERO, Cause
from kedge.controllers.inferenceservice.children.service import make_service
from kedge.controllers.inferenceservice.components import Component, ServicePlan, Warned
from kedge.controllers.inferenceservice.errors import BuildError
from kedge.controllers.inferenceservice.names import ComponentKind
from kedge.controllers.inferenceservice.observe import Verdict, route_verdict, worst
from kedge.controllers.inferenceservice.pod import DEFAULT_PORT
from kedge.controllers.inferenceservice.rollout import Outcome
from kedge.settings.serving import DeploymentMode

WARNINGS = f"{names.KEDGE}/Warnings"
_IN_INGRESS = ("service", "path", *(kind.value for kind in ComponentKind))


def report(
    status: Status,
    plan: ServicePlan,
    outcomes: Mapping[ComponentKind, Outcome],
    errors: Mapping[ComponentKind, BuildError],
    routes: Sequence[Object],
    warnings: Sequence[Warned] = (),
) -> None:
    """Write everything that a reconcile found into `status`.

    Args:
        outcomes: of the components that could be brought about.
        errors: of the others.
        routes: the routes as they are stored now.
        warnings: besides those of the plan and of the components.
    """
    by_name = {route["metadata"]["name"]: route for route in routes}
    for kind in ComponentKind:
        part = api.Component(kind.value)
        if kind in errors:
            _report_error(status, part, errors[kind])
        elif kind in outcomes:
            route = by_name.get(outcomes[kind].component.name)
            _report_component(status, plan, outcomes[kind], route)
        else:
            status.forget_component(part)
    if plan.mode is DeploymentMode.KNATIVE:
        _report_totals(status, plan)
    _report_ingress(status, plan, outcomes, errors, routes)
    predictor = outcomes.get(ComponentKind.PREDICTOR)
    if predictor is not None:
        _report_predictor(status, plan, predictor)
    found = [warning for outcome in outcomes.values() for warning in outcome.warnings]
    _report_warnings(status, [*plan.warnings, *found, *warnings])


def _report_error(status: Status, part: api.Component, error: BuildError) -> None:
    status.mark_component_not_ready(part, error.reason, str(error))
    if part is api.Component.PREDICTOR and error.model_reason:
        status.mark_model_invalid(error.model_reason, str(error))


def _report_component(
    status: Status, plan: ServicePlan, outcome: Outcome, route: Object | None
) -> None:
    part = api.Component(outcome.component.kind.value)
    found = outcome.verdict
    if outcome.cause is not None:
        found = Verdict("False", outcome.cause.reason, outcome.cause.message)
    entry = status.component(part)
    if plan.mode is DeploymentMode.KNATIVE:
        routed = _routed(outcome, route)
        _mark(status, part.configuration_condition, found)
        _mark(status, part.route_condition, routed)
        found = worst([found, routed])
        _report_revisions(entry, plan, outcome)
    _mark(status, part.ready_condition, found)
    if found.ok or "url" in entry:
        entry["url"] = urls.component_url(plan, outcome.component.name)
        entry["address"] = {"url": urls.in_cluster_url(plan, outcome.component.name)}


def _routed(outcome: Outcome, route: Object | None) -> Verdict:
    if route is None:
        name = outcome.component.name
        return Verdict("Unknown", Reason.ROUTE_NOT_CREATED, f"Route {name} is not there yet.")
    found = route_verdict(route)
    if found.ok and not outcome.settled:
        if outcome.gradual and not outcome.waiting:
            moved = sum(target.percent for target in outcome.targets if target.latest)
            message = f"{moved} % of the requests go to {outcome.rollout.latest_ready} so far."
            return Verdict("Unknown", "RolloutInProgress", message)
        waiting = outcome.waiting or ", ".join(b.service for b in outcome.decision.pending)
        message = f"Requests move when {waiting or 'all revisions'} can answer."
        return Verdict("Unknown", "RolloutInProgress", message)
    return found


def _report_revisions(entry: dict[str, Any], plan: ServicePlan, outcome: Outcome) -> None:
    rollout = outcome.rollout
    for key, value in (
        ("latestCreatedRevision", rollout.latest_created),
        ("latestReadyRevision", rollout.latest_ready),
        ("latestRolledoutRevision", rollout.rolled_out),
        ("previousRolledoutRevision", rollout.previous),
    ):
        if value:
            entry[key] = value
        else:
            entry.pop(key, None)
    if not rollout.latest_ready:
        entry.pop("traffic", None)
        return
    traffic = []
    for target in outcome.targets:
        shown: dict[str, Any] = {
            "latestRevision": target.latest,
            "percent": target.percent,
            "revisionName": target.revision,
        }
        if target.tag:
            shown["tag"] = target.tag
            tagged = names.tag_route(outcome.component.name, target.tag)
            shown["url"] = urls.component_url(plan, tagged)
        traffic.append(shown)
    entry["traffic"] = traffic


def _report_totals(status: Status, plan: ServicePlan) -> None:
    parts = [api.Component(kind.value) for kind in plan.kinds()]
    for total, conditions in (
        (api.ROUTES_READY, [part.route_condition for part in parts]),
        (api.LATEST_DEPLOYMENT_READY, [part.configuration_condition for part in parts]),
    ):
        waiting = [(type_, status.status_of(type_)) for type_ in conditions]
        bad = next((pair for pair in waiting if pair[1] == "False"), None) or next(
            (pair for pair in waiting if pair[1] == "Unknown"), None
        )
        if bad is None:
            status.mark_true(total)
        else:
            status.mark(total, bad[1], f"{bad[0]} not ready")


def _report_ingress(
    status: Status,
    plan: ServicePlan,
    outcomes: Mapping[ComponentKind, Outcome],
    errors: Mapping[ComponentKind, BuildError],
    routes: Sequence[Object],
) -> None:
    counted = [
        route
        for route in routes
        if (route["metadata"].get("labels") or {}).get(names.ROUTE_ROLE_LABEL) in _IN_INGRESS
    ]
    if all(route["metadata"]["name"] != plan.name for route in counted):
        told = " ".join(str(error) for error in errors.values())
        status.mark_ingress_not_ready(Reason.ROUTE_NOT_CREATED, told or "There is no route yet.")
        return
    found = worst(route_verdict(route) for route in counted)
    _mark(status, api.INGRESS_READY, _explain(found, outcomes, errors))
    status.set_url(urls.service_url(plan))
    entry = plan.components.get(plan.entry)
    if plan.mode is DeploymentMode.KNATIVE:
        status.set_address(urls.address_url(plan, plan.name))
    elif entry is not None:
        status.set_address(urls.address_url(plan, entry.name, _headless_port(plan, entry)))


def _headless_port(plan: ServicePlan, component: Component) -> int | None:
    """The pods' REST port, when the component's Service has no address of its own."""
    service = make_service(plan, component)
    if service["spec"].get("clusterIP") != "None":
        return None
    ports = service["spec"]["ports"]
    return next((int(p["targetPort"]) for p in ports if "appProtocol" not in p), DEFAULT_PORT)


def _explain(
    found: Verdict,
    outcomes: Mapping[ComponentKind, Outcome],
    errors: Mapping[ComponentKind, BuildError],
) -> Verdict:
    """That no pod answers has a cause: say that one, or that the pods are on their way."""
    if found.status != "False" or found.reason != Reason.NO_READY_ENDPOINTS:
        return found
    for outcome in outcomes.values():
        if outcome.cause is not None:
            return Verdict("False", outcome.cause.reason, outcome.cause.message)
    for error in errors.values():
        return Verdict("False", error.reason, str(error))
    components = worst(outcome.verdict for outcome in outcomes.values())
    if components.status == "Unknown":
        return Verdict("Unknown", components.reason, found.message)
    return found


def _report_predictor(status: Status, plan: ServicePlan, outcome: Outcome) -> None:
    runtime = outcome.component.runtime
    status.set_runtime(
        runtime.name if runtime else "", cluster_scoped=bool(runtime and runtime.cluster_scoped)
    )
    status.mark_canaries(
        [
            {
                "name": canary.component.variant,
                "ready": canary.ready,
                "trafficPercent": canary.component.percent,
            }
            for canary in outcome.canaries
        ]
    )
    causes = [canary.cause.message for canary in outcome.canaries if canary.cause is not None]
    if causes:
        status.mark_false(api.CANARY_PREDICTOR_READY, Reason.CANARIES_NOT_READY, " ".join(causes))
    status.set_model_copies(outcome.copies)
    _report_model(status, plan, outcome)


def _report_model(status: Status, plan: ServicePlan, outcome: Outcome) -> None:
    cause = outcome.cause
    if cause is not None and cause.reason not in (NOT_READY, SCALED_TO_ZERO):
        _report_failure(status, plan, outcome, cause)
    elif _is_loaded(plan, outcome):
        status.mark_model_loaded()
    elif _is_loading(outcome):
        status.mark_model_loading()
    else:
        status.mark_model_pending()


def _report_failure(status: Status, plan: ServicePlan, outcome: Outcome, cause: Cause) -> None:
    revision = outcome.focus.name if plan.mode is DeploymentMode.KNATIVE else ""
    status.mark_model_failed(
        cause.message,
        reason=Reason.MODEL_LOAD_FAILED if cause.model_failed else Reason.RUNTIME_UNHEALTHY,
        location=cause.location,
        revision=revision,
        exit_code=cause.exit_code,
    )


def _is_loaded(plan: ServicePlan, outcome: Outcome) -> bool:
    # A Deployment that asks for no pod is "available" before any pod has loaded anything.
    if not outcome.verdict.ok or not outcome.focus.proven:
        return False
    if plan.mode is DeploymentMode.KNATIVE:
        return outcome.rollout.latest_created == outcome.rollout.latest_ready
    return outcome.focus.is_up_to_date


def _is_loading(outcome: Outcome) -> bool:
    """Whether the newest pod is bringing the model's files."""
    pods = outcome.focus.current_pods
    statuses = (pods[0].get("status") or {}).get("initContainerStatuses") or () if pods else ()
    return any(
        entry.get("name") == names.STORAGE_INITIALIZER and "running" in (entry.get("state") or {})
        for entry in statuses
    )


def _report_warnings(status: Status, warnings: Sequence[Warned]) -> None:
    if not warnings:
        status.remove(WARNINGS)
        return
    text = " ".join(dict.fromkeys(str(warning) for warning in warnings))
    status.mark_true(WARNINGS, "FieldsWithoutEffect", text)


def _mark(status: Status, type_: str, verdict: Verdict) -> None:
    status.mark(type_, verdict.status, verdict.reason if not verdict.ok else "",
                verdict.message if not verdict.ok else "")  # fmt: skip
