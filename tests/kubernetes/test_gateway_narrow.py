"""A gateway that serves one namespace, and may look into no other."""

from __future__ import annotations

import pytest
from tests.kubernetes.gateways import (
    GATEWAY,
    answers,
    gateway,
    make_route,
    make_service,
    make_slice,
    pods,
)
from tests.kubernetes.world import World, until

from kedge.autoscaler.leader import make_token_secret
from kedge.install.objects.access import make_accounts, make_namespace_access
from kedge.install.objects.gateway import make_gateway, make_gateway_class
from kedge.install.values import Values

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(240)]


def test_it_serves_that_namespace_with_the_rights_for_it(edge: World) -> None:
    home, served = "narrow-home", "narrow-models"
    values = Values(namespace=home, watch_namespace=served)
    for namespace in (home, served):
        edge.api.kubectl("create", "namespace", namespace)
    given = [*make_accounts(values), *make_namespace_access(values)]
    edge.apply(*(obj for obj in given if obj["metadata"]["name"].startswith(GATEWAY)))
    edge.apply(make_token_secret(home), *make_gateway(values))
    account = edge.api.kubeconfig_of(GATEWAY, home)
    route = make_route("iris", "iris", "iris.example.com")
    route["spec"]["parentRefs"][0]["namespace"] = home
    place = (f"--namespace={home}", f"--watch-namespace={served}")
    with pods() as (pod,), gateway(edge, "gw-narrow", account, *place) as one:
        edge.apply(
            make_service("iris"), make_slice("iris", pod.place), route,
            make_service("front", labels={"serving.kedge.dev/endpoints": "gateway"}),
            namespace=served,
        )  # fmt: skip
        answers(edge, "iris", served)
        assert one.ask("iris.example.com")[0] == 200
        # Where it is reached it may look up, and of a class it says nothing.
        edge.apply(make_service(GATEWAY), *make_gateway_class(values), namespace=home)
        until(lambda: addresses(edge, home), "the Gateway's address")
    name = f"system:serviceaccount:{home}:{GATEWAY}"
    refused = [
        entry["objectRef"]
        for entry in edge.api.audited()
        if entry["user"]["username"] == name and entry["responseStatus"]["code"] == 403
    ]
    assert not refused


def addresses(world: World, namespace: str) -> list[str]:
    status = world.get("gateways", GATEWAY, namespace).get("status") or {}
    return [one["value"] for one in status.get("addresses") or ()]
