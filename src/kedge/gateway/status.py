"""What an HTTPRoute's status says of it. Pure.

`serving.kedge.dev/Answering` is True when a request sent now is answered by a backend: Envoy has
acknowledged this generation of the route, and for every backend that has a share at least one ready
endpoint, or that its requests wait for one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from kedge.cluster.base import Object
from kedge.gateway.binding import names_gateway, parent_refs, read_reference
from kedge.gateway.conditions import Condition, find_condition, write_condition
from kedge.gateway.ir import CompiledRoute, Problem

CONTROLLER = "kedge.dev/gateway"
ACCEPTED = "Accepted"
RESOLVED_REFS = "ResolvedRefs"
ANSWERING = "serving.kedge.dev/Answering"


class Reach(StrEnum):
    """How far a cluster's endpoints have come."""

    NONE = "no ready endpoint"
    FAILED = "cannot start"
    SENT = "not acknowledged"
    ANSWERING = "acknowledged"


@dataclass(frozen=True)
class Standing:
    """Where a cluster stands; `cause` says why it cannot start."""

    reach: Reach
    cause: str = ""


_NOT_ACCEPTED = Condition(ANSWERING, False, "NotAccepted", "The route is not accepted.")


def judge(
    compiled: CompiledRoute,
    confirmed: bool,
    reach: Callable[[str], Standing],
    refusal: str,
    obstacle: str = "",
) -> list[Condition]:
    """The conditions of a route.

    `confirmed`: every Envoy has it; `refusal`: what Envoy or the route's reader has against it;
    `obstacle`: what Envoy has against something else that it needs.
    """
    return [
        _accepted(compiled, refusal),
        _resolved(compiled),
        _answering(compiled, confirmed, reach, refusal, obstacle),
    ]


def _accepted(compiled: CompiledRoute, refusal: str) -> Condition:
    for problem in compiled.problems:
        if problem.condition == ACCEPTED:
            return Condition(ACCEPTED, False, problem.reason, problem.message)
    if refusal:
        return Condition(ACCEPTED, False, "UnsupportedValue", refusal)
    return Condition(ACCEPTED, True, "Accepted", "Kedge's gateway serves this route.")


def _resolved(compiled: CompiledRoute) -> Condition:
    found = [problem for problem in compiled.problems if problem.condition == RESOLVED_REFS]
    if found:
        message = " ".join(problem.message for problem in found)
        return Condition(RESOLVED_REFS, False, found[0].reason, message)
    return Condition(RESOLVED_REFS, True, "ResolvedRefs", "All backends exist.")


def _answering(
    compiled: CompiledRoute,
    confirmed: bool,
    reach: Callable[[str], Standing],
    refusal: str,
    obstacle: str,
) -> Condition:
    if not _accepted(compiled, refusal).status:
        return _NOT_ACCEPTED
    clusters = {b.cluster for route in compiled.routes for b in route.backends if b.weight > 0}
    if not clusters:
        return Condition(ANSWERING, False, "NoBackends", "The route has no backend.")
    found = {cluster: reach(cluster) for cluster in sorted(clusters)}
    for cluster, standing in found.items():
        if standing.reach is Reach.NONE:
            message = f"{_title(cluster)} has no ready endpoint."
            return Condition(ANSWERING, False, "NoReadyEndpoints", message)
        if standing.reach is Reach.FAILED:
            message = f"{_title(cluster)} cannot start: {standing.cause}"
            return Condition(ANSWERING, False, "CannotStart", message)
    for cluster, standing in found.items():
        if standing.reach is Reach.SENT:
            message = _not_taken_in(f"the endpoints of {_title(cluster)}", obstacle)
            return Condition(ANSWERING, False, "NotAcknowledged", message)
    if not confirmed:
        message = _not_taken_in("the route", obstacle)
        return Condition(ANSWERING, False, "NotAcknowledged", message)
    return Condition(ANSWERING, True, "Answering", "A request sent now is answered.")


def _not_taken_in(what: str, obstacle: str) -> str:
    return f"Envoy has not yet taken in {what}{f': {obstacle}' if obstacle else ''}."


def _title(cluster: str) -> str:
    namespace, name, port = cluster.split("/")
    return f"Service {namespace}/{name} port {port}"


def current_condition(route: Object, type: str) -> dict[str, Any] | None:
    """What the route's status says now, by us; of several parents the best that is said."""
    found = [
        dict(condition)
        for parent in (route.get("status") or {}).get("parents") or ()
        if parent.get("controllerName") == CONTROLLER
        for condition in parent.get("conditions") or ()
        if condition["type"] == type
    ]
    best = (one for one in found if one["status"] == "True")
    return next(best, found[0] if found else None)


def make_status(
    route: Object, gateway: str, compiled: CompiledRoute, conditions: list[Condition], now: datetime
) -> dict[str, Any]:
    """The route's whole new status: our parents anew, everybody else's as they are."""
    status = dict(route.get("status") or {})
    parents = status.get("parents") or []
    refused = dict(compiled.binding.refused)
    mine = []
    for ref in parent_refs(route):
        if names_gateway(ref, route, gateway):
            problem = refused.get(read_reference(ref))
            told = _refuse(conditions, problem) if problem else conditions
            known = _find(parents, ref)
            written = [
                write_condition(one, compiled.generation, find_condition(known, one.type), now)
                for one in told
            ]
            mine.append({"parentRef": ref, "controllerName": CONTROLLER, "conditions": written})
    others = [parent for parent in parents if parent.get("controllerName") != CONTROLLER]
    return {**status, "parents": others + mine}


def _refuse(conditions: list[Condition], problem: Problem) -> list[Condition]:
    """What is said of a reference that no listener takes."""
    told = {
        ACCEPTED: Condition(ACCEPTED, False, problem.reason, problem.message),
        ANSWERING: _NOT_ACCEPTED,
    }
    return [told.get(one.type, one) for one in conditions]


def _find(parents: list[dict[str, Any]], ref: dict[str, Any]) -> list[dict[str, Any]]:
    for parent in parents:
        if parent.get("controllerName") == CONTROLLER and parent.get("parentRef") == ref:
            return parent.get("conditions") or []
    return []
