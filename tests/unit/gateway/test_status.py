"""What an HTTPRoute's status says of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.gateway.objects import (
    compile_all,
    make_http_route,
    make_rule,
    make_service,
    unbound,
)

from kedge.gateway.conditions import Condition
from kedge.gateway.ir import Binding, CompiledRoute, Problem, Reference
from kedge.gateway.routes import compile_route
from kedge.gateway.status import (
    ACCEPTED,
    ANSWERING,
    CONTROLLER,
    RESOLVED_REFS,
    Reach,
    Standing,
    current_condition,
    judge,
    make_status,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2026, 1, 2, tzinfo=UTC)
SERVICES = [make_service("a"), make_service("b")]


def answering(
    *rules: dict[str, Any],
    confirmed: bool = True,
    reach: dict[str, Reach | Standing] | None = None,
    refusal: str = "",
    obstacle: str = "",
) -> Condition:
    [compiled] = compile_all([make_http_route("r", *rules), *SERVICES])

    def stand(name: str) -> Standing:
        found = (reach or {}).get(name, Reach.ANSWERING)
        return found if isinstance(found, Standing) else Standing(found)

    return judge(compiled, confirmed, stand, refusal, obstacle)[-1]


@pytest.mark.parametrize(
    ("case", "reason", "words"),
    [
        ({}, "Answering", "A request sent now is answered."),
        ({"confirmed": False}, "NotAcknowledged", "not yet taken in the route"),
        (
            {"reach": {"default/b/80": Reach.NONE}},
            "NoReadyEndpoints",
            "Service default/b port 80 has no ready endpoint",
        ),
        (
            {"reach": {"default/b/80": Standing(Reach.FAILED, "OOMKilled.")}},
            "CannotStart",
            "Service default/b port 80 cannot start: OOMKilled.",
        ),
        ({"reach": {"default/a/80": Reach.SENT}}, "NotAcknowledged", "Service default/a port 80"),
        (
            {"confirmed": False, "obstacle": "Envoy refuses a listener: no"},
            "NotAcknowledged",
            "the route: Envoy refuses a listener: no.",
        ),
        ({"refusal": "bad regex"}, "NotAccepted", "not accepted"),
    ],
)
def test_answering(case: dict[str, Any], reason: str, words: str) -> None:
    found = answering(make_rule("a"), make_rule("b"), **case)
    assert (found.type, found.reason, found.status) == (ANSWERING, reason, reason == "Answering")
    assert words in found.message


def test_a_backend_without_a_share_need_not_be_ready() -> None:
    refs = [{"name": "a", "port": 80}, {"name": "b", "port": 80, "weight": 0}]
    assert answering({"backendRefs": refs}, reach={"default/b/80": Reach.NONE}).status
    assert answering({"backendRefs": refs[1:]}).reason == "NoBackends"


def test_references_and_acceptance() -> None:
    [compiled] = compile_all([make_http_route("r", make_rule("absent"))])
    accepted, resolved, _ = judge(compiled, True, lambda _: Standing(Reach.NONE), "")
    assert accepted.status
    assert (resolved.status, resolved.reason) == (False, "BackendNotFound")
    [compiled] = compile_all([make_http_route("r", {"filters": [{"type": "What"}]})])
    accepted, _, answer = judge(compiled, True, lambda _: Standing(Reach.NONE), "")
    assert (accepted.status, accepted.reason) == (False, "UnsupportedValue")
    assert answer.reason == "NotAccepted"


NAME = "kedge/kedge-gateway"


def read(route: dict[str, Any], generation: int) -> CompiledRoute:
    return compile_route({**route, "metadata": {**route["metadata"], "generation": generation}},
                         lambda *_: None, unbound(route))  # fmt: skip


def test_status_keeps_others_parents_and_times_of_what_did_not_change() -> None:
    route = make_http_route("r")
    first_read, second_read = read(route, 1), read(route, 2)
    other = {"controllerName": "istio.io/gateway", "parentRef": {"name": "x"}, "conditions": []}
    route["status"] = {"parents": [other]}
    yes = Condition(ANSWERING, True, "Answering", "")
    first = make_status(route, NAME, first_read, [yes], NOW)
    assert first["parents"][0] == other
    mine = first["parents"][1]
    assert mine["controllerName"] == CONTROLLER
    assert mine["parentRef"] == route["spec"]["parentRefs"][0]

    route["status"] = first
    assert make_status(route, NAME, first_read, [yes], LATER) == first
    again = make_status(route, NAME, second_read, [yes], LATER)
    condition = again["parents"][1]["conditions"][0]
    assert condition["observedGeneration"] == 2
    assert condition["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    no = Condition(ANSWERING, False, "NoReadyEndpoints", "")
    route["status"] = make_status(route, NAME, second_read, [no], LATER)
    condition = current_condition(route, ANSWERING) or {}
    assert (condition["status"], condition["lastTransitionTime"]) == (
        "False", "2026-01-02T00:00:00Z",
    )  # fmt: skip


def test_each_reference_is_told_what_becomes_of_it() -> None:
    route = make_http_route("r", make_rule("a"))
    route["spec"]["parentRefs"] = [
        {"name": "kedge-gateway", "namespace": "kedge", "sectionName": name}
        for name in ("nope", "http")
    ]
    problem = Problem(ACCEPTED, "NoMatchingParent", "No such listener.")
    binding = Binding(("http",), refused=((Reference("nope", 0), problem),))
    compiled = compile_route(route, lambda *_: make_service("a"), binding)
    conditions = judge(compiled, True, lambda _: Standing(Reach.ANSWERING), "")
    route["status"] = make_status(route, NAME, compiled, conditions, NOW)
    told = [
        {one["type"]: (one["status"], one["reason"]) for one in parent["conditions"]}
        for parent in route["status"]["parents"]
    ]
    assert told == [
        {
            ACCEPTED: ("False", "NoMatchingParent"),
            RESOLVED_REFS: ("True", "ResolvedRefs"),
            ANSWERING: ("False", "NotAccepted"),
        },
        {
            ACCEPTED: ("True", "Accepted"),
            RESOLVED_REFS: ("True", "ResolvedRefs"),
            ANSWERING: ("True", "Answering"),
        },
    ]
    # It is answered, by one of them.
    assert (current_condition(route, ANSWERING) or {})["status"] == "True"
