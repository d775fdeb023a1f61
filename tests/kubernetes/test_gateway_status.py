"""What the gateway says of the GatewayClass, of its Gateway, and of routes that none takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kubernetes.gateways import (
    GATEWAY,
    GatewayProcess,
    answers,
    gateway,
    make_route,
    make_service,
    make_slice,
    pods,
)
from tests.kubernetes.world import HOME, World, until

from kedge.gateway.status import ACCEPTED, current_condition
from kedge.install.objects.gateway import make_gateway, make_gateway_class
from kedge.install.values import Values

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(240)]
ACCOUNT = f"system:serviceaccount:{HOME}:{GATEWAY}"
BALANCER = "203.0.113.9"


@pytest.fixture
def one(edge: World, edge_account: Path) -> Iterator[GatewayProcess]:
    with gateway(edge, "gw-one", edge_account) as it:
        yield it


def conditions(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Status and reason by type, of those that are of its generation."""
    return {
        one["type"]: (one["status"], one["reason"])
        for one in (found.get("status") or {}).get("conditions") or ()
        if one.get("observedGeneration") == found["metadata"]["generation"]
    }


def writes(world: World, resource: str) -> int:
    return sum(
        1
        for entry in world.api.audited()
        if entry["user"]["username"] == ACCOUNT
        and entry["verb"] == "update"
        and entry.get("objectRef", {}).get("resource") == resource
    )


def test_the_class_is_accepted_and_the_gateway_says_where_it_is(
    edge: World, one: GatewayProcess
) -> None:
    (ours,) = make_gateway_class(Values())
    other = {**ours, "metadata": {"name": "other"}, "spec": {"controllerName": "example.com/x"}}
    service = make_service(GATEWAY)
    edge.apply(ours, other, *make_gateway(Values()))
    edge.apply(service, namespace=HOME)
    place = edge.get("service", GATEWAY, HOME)["spec"]["clusterIP"]

    def said() -> tuple[list[dict[str, str]], tuple[str, str] | None]:
        found = edge.get("gateways", GATEWAY, HOME)
        return (
            (found.get("status") or {}).get("addresses") or [],
            conditions(found).get("Programmed"),
        )

    good = ("True", "Programmed")
    until(lambda: said() == ([ip(place)], good), "the address of a Service in the cluster")
    accepted = ("True", "Accepted")
    until(
        lambda: conditions(edge.get("gatewayclass", "kedge")).get("Accepted") == accepted,
        "an accepted class",
    )
    before = writes(edge, "gatewayclasses")
    service["spec"]["type"] = "LoadBalancer"
    edge.apply(service, namespace=HOME)
    until(lambda: said() == ([], ("False", "AddressNotAssigned")), "a balancer to be waited for")
    given = {"status": {"loadBalancer": {"ingress": [{"ip": BALANCER}]}}}
    edge.patch("service", GATEWAY, HOME, given, status=True)
    until(lambda: said() == ([ip(BALANCER)], good), "the balancer's address")
    table = edge.api.kubectl("get", "gateway", GATEWAY, "-n", HOME).splitlines()
    assert table[0].split() == ["NAME", "CLASS", "ADDRESS", "PROGRAMMED", "AGE"]
    assert table[1].split()[:4] == [GATEWAY, "kedge", BALANCER, "True"]
    # It was looked at since then, and there was nothing to say.
    assert writes(edge, "gatewayclasses") == before == 1
    assert conditions(edge.get("gatewayclass", "other")) == {}
    edge.api.kubectl("delete", "service", GATEWAY, "-n", HOME)
    until(lambda: said() == ([], good), "no address")


def ip(value: str) -> dict[str, str]:
    return {"type": "IPAddress", "value": value}


def test_a_route_that_no_listener_takes_says_why(
    edge: World, one: GatewayProcess, space: str
) -> None:
    host = f"a.{space}.example.com"
    names = ("section", "port", "host", "namespace")
    routes = {name: make_route(name, "iris", f"{name}.{space}.example.com") for name in names}
    for name, reference in (
        ("section", {"sectionName": "nope"}),
        ("port", {"port": 4711}),
        ("host", {"sectionName": "narrow"}),
        ("namespace", {"sectionName": "team"}),
    ):
        routes[name]["spec"]["parentRefs"][0] |= reference
    listeners = [
        {"name": "narrow", "port": 80, "protocol": "HTTP", "hostname": "*.elsewhere.example.com",
         "allowedRoutes": {"namespaces": {"from": "All"}}},
        {"name": "team", "port": 80, "protocol": "HTTP", "hostname": f"*.{space}.example.com",
         "allowedRoutes": {"namespaces": {
             "from": "Selector", "selector": {"matchLabels": {"team": space}}}}},
    ]  # fmt: skip
    (made,) = make_gateway(Values())
    made["spec"]["listeners"] += listeners
    edge.apply(made)

    def accepted(name: str) -> tuple[str, str]:
        condition = current_condition(edge.get("httproute", name, space), ACCEPTED) or {}
        return condition.get("status", ""), condition.get("reason", "")

    with pods() as (pod,):
        edge.apply(
            make_service("iris"), make_slice("iris", pod.place), make_route("good", "iris", host),
            *routes.values(), namespace=space,
        )  # fmt: skip
        answers(edge, "good", space)
        wanted = {
            "section": "NoMatchingParent",
            "port": "NoMatchingParent",
            "host": "NoMatchingListenerHostname",
            "namespace": "NotAllowedByListeners",
        }
        for name, reason in wanted.items():
            until(lambda name=name, reason=reason: accepted(name) == ("False", reason), reason)  # type: ignore[misc]
            assert one.ask(f"{name}.{space}.example.com")[0] == 404
        # The namespace becomes one of the team; the listeners become what the others ask for.
        edge.api.kubectl("label", "namespace", space, f"team={space}")
        answers(edge, "namespace", space)
        made["spec"]["listeners"][-2] |= {"hostname": f"host.{space}.example.com"}
        made["spec"]["listeners"] += [
            {**made["spec"]["listeners"][0], "name": "nope", "port": 8081}
        ]
        edge.apply(made)
        for name in ("host", "section"):
            answers(edge, name, space)
            assert one.ask(f"{name}.{space}.example.com")[0] == 200
        # A listener that goes takes its routes with it.
        edge.apply(*make_gateway(Values()))
        for name in ("host", "section", "namespace"):
            until(lambda name=name: accepted(name)[0] == "False", f"{name} refused")  # type: ignore[misc]
            until(
                lambda name=name: one.ask(f"{name}.{space}.example.com")[0] == 404,  # type: ignore[misc]
                "no answer",
            )
        assert one.ask(host)[0] == 200
