"""Which listeners take a route, for which hosts, and why not."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.gateway.objects import make_http_route, make_rule, make_service

from kedge.gateway.binding import bind
from kedge.gateway.ir import Binding, Reference
from kedge.gateway.routes import compile_route

NAME = "kedge/kedge-gateway"
LABELS = {"team-a": {"team": "a"}}


def listener(name: str, host: str = "", come_from: str = "All", **more: Any) -> dict[str, Any]:
    made = {
        "name": name,
        "port": 80,
        "protocol": "HTTP",
        "allowedRoutes": {"namespaces": {"from": come_from}},
        **more,
    }
    return {**made, "hostname": host} if host else made


def make_gateway(*listeners: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": "kedge-gateway", "namespace": "kedge"}
    return {"metadata": metadata, "spec": {"listeners": list(listeners)}}


def make_route(*hosts: str, refs: list[dict[str, Any]] | None = None, **metadata: Any) -> Any:
    route = make_http_route("r", make_rule("iris"), hostnames=hosts, **metadata)
    if refs is not None:
        route["spec"]["parentRefs"] = [
            {"name": "kedge-gateway", "namespace": "kedge", **ref} for ref in refs
        ]
    return route


def bound(route: Any, *listeners: dict[str, Any]) -> Binding:
    return bind(route, NAME, make_gateway(*listeners), lambda name: LABELS.get(name, {}))


def reasons(binding: Binding) -> dict[Reference, str]:
    return {ref: problem.reason for ref, problem in binding.refused}


@pytest.mark.parametrize(
    ("ref", "listeners"),
    [
        ({}, ("http", "local")),
        ({"sectionName": "local"}, ("local",)),
        ({"port": 80}, ("http",)),
        ({"port": 8888, "sectionName": "local"}, ("local",)),
    ],
)
def test_a_reference_means_a_listener_by_name_and_port(
    ref: dict[str, Any], listeners: tuple[str, ...]
) -> None:
    found = bound(make_route(refs=[ref]), listener("http"), listener("local", port=8888))
    assert (found.listeners, found.refused) == (listeners, ())


@pytest.mark.parametrize(
    ("ref", "what"),
    [
        ({"sectionName": "nope"}, "of name nope; it has http (any host, port 80)."),
        ({"port": 81}, "of port 81; it has"),
        ({"port": 81, "sectionName": "http"}, "of name http and port 81; it has"),
    ],
)
def test_a_reference_to_no_listener(ref: dict[str, Any], what: str) -> None:
    found = bound(make_route(refs=[ref]), listener("http"))
    ((_, problem),) = found.refused
    assert (found.listeners, problem.reason) == ((), "NoMatchingParent")
    assert what in problem.message


@pytest.mark.parametrize(
    ("allowed", "namespace", "taken"),
    [
        ({}, "kedge", True),
        ({}, "default", False),
        ({"namespaces": {"from": "All"}}, "default", True),
        ({"namespaces": {"from": "None"}}, "kedge", False),
        ({"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}},
         "team-a", True),
        ({"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}},
         "default", False),
        ({"namespaces": {"from": "Selector"}}, "team-a", False),
        ({"namespaces": {"from": "All"}, "kinds": [{"kind": "GRPCRoute"}]}, "default", False),
        ({"namespaces": {"from": "All"}, "kinds": [{"kind": "HTTPRoute"}]}, "default", True),
        ({"namespaces": {"from": "All"}, "kinds": [{"kind": "HTTPRoute", "group": "x"}]},
         "default", False),
    ],
)  # fmt: skip
def test_a_listener_allows_routes(allowed: dict[str, Any], namespace: str, taken: bool) -> None:
    found = bound(make_route(namespace=namespace), listener("http", allowedRoutes=allowed))
    assert found.listeners == (("http",) if taken else ())
    assert list(reasons(found).values()) == ([] if taken else ["NotAllowedByListeners"])


def test_a_listener_of_another_protocol_takes_no_http_routes() -> None:
    found = bound(make_route(), listener("raw", protocol="TCP"))
    assert list(reasons(found).values()) == ["NotAllowedByListeners"]


@pytest.mark.parametrize(
    ("host", "hosts", "common"),
    [
        ("", ("a.example.com",), ("a.example.com",)),
        ("*.example.com", (), ("*.example.com",)),
        ("*.example.com", ("a.example.com", "a.example.net"), ("a.example.com",)),
        ("*.example.com", ("*.b.example.com",), ("*.b.example.com",)),
        ("a.example.com", ("*.example.com",), ("a.example.com",)),
        ("*.example.com", ("example.com", "aexample.com"), None),
        ("a.example.com", ("b.example.com",), None),
    ],
)
def test_hosts_are_those_of_both(
    host: str, hosts: tuple[str, ...], common: tuple[str, ...] | None
) -> None:
    found = bound(make_route(*hosts), listener("http", host))
    if common is None:
        ((_, problem),) = found.refused
        assert problem.reason == "NoMatchingListenerHostname"
        assert f"http ({host}, port 80)" in problem.message
    else:
        assert (found.listeners, found.hostnames) == (("http",), common)


def test_a_route_is_answered_for_each_host_that_some_listener_takes_it_for() -> None:
    found = bound(
        make_route("x.inside", "a.example.com", "c.example.org"),
        listener("one", "*.example.com"), listener("two", "*.inside"),
    )  # fmt: skip
    assert found.listeners == ("one", "two")
    assert found.hostnames == ("x.inside", "a.example.com")
    # One that takes it for any host takes it for all.
    assert bound(make_route(), listener("one", "*.example.com"), listener("two")).hostnames == ()


def test_each_reference_is_judged_alone() -> None:
    found = bound(
        make_route(refs=[{"sectionName": "local"}, {"sectionName": "nope"}]),
        listener("http"), listener("local"),
    )  # fmt: skip
    # What is for pods alone stays so, whatever else it asks for in vain.
    assert found.listeners == ("local",)
    assert reasons(found) == {Reference("nope", 0): "NoMatchingParent"}


def test_without_the_gateway_a_route_is_taken_as_it_says() -> None:
    found = bind(make_route("a", refs=[{"sectionName": "local"}]), NAME, None, lambda _: {})
    assert found == Binding(("local",), ("a",))


def test_what_no_listener_takes_is_not_served() -> None:
    route = make_route("a.example.net")
    binding = bound(route, listener("http", "*.example.com"))
    compiled = compile_route(route, lambda *_: make_service("iris"), binding)
    assert (compiled.routes, compiled.hostnames, compiled.clusters) == ((), (), ())
    (problem,) = compiled.problems
    assert (problem.condition, problem.reason) == ("Accepted", "NoMatchingListenerHostname")
