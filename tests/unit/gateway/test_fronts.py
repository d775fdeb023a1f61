"""What leads to the gateway from another way in."""

from __future__ import annotations

import json
from typing import Any

from tests.unit.gateway.objects import make_http_route, make_rule

from kedge.api.scheme import HTTP_ROUTE, INGRESS
from kedge.gateway.fronts import front_name, make_front, outside_hosts, paths_of
from kedge.settings.serving import ServingConfig

OWN = "ml/kedge-gateway"


def make_config(**ingress: Any) -> ServingConfig:
    return ServingConfig.from_config_map(
        {"metadata": {"namespace": "ml"}, "data": {"ingress": json.dumps(ingress)}}
    )


def make_route(*hosts: str, **rule: Any) -> dict[str, Any]:
    return make_http_route("iris", make_rule("iris", **rule), hostnames=hosts)


OUTSIDE = ("iris-default.example.com", "iris.models.example")
ROUTE = make_route(
    *OUTSIDE, "iris.default", "iris.default.svc", "iris.default.svc.cluster.local"
)  # fmt: skip


def test_nothing_is_in_front_unless_the_configuration_says_so() -> None:
    for config in (
        ServingConfig.default(),
        make_config(kserveIngressGateway=OWN),
        make_config(kserveIngressGateway=OWN, ingressClassName="nginx"),
        make_config(kserveIngressGateway="kserve/theirs", enableGatewayApi=False),
    ):
        assert make_front(ROUTE, config, "cluster.local") is None
    assert make_config(kserveIngressGateway="kserve/theirs").own_gateway == OWN
    assert make_config(kserveIngressGateway="x/kedge-gateway").own_gateway == "x/kedge-gateway"


def test_hosts_go_to_the_gateway_by_another_gateway() -> None:
    config = make_config(kserveIngressGateway="istio-system/shared")
    assert config.own_gateway == OWN
    made = make_front(ROUTE, config, "cluster.local")
    assert made is not None
    kind, front = made
    assert kind is HTTP_ROUTE
    assert front["metadata"]["namespace"] == "ml"
    spec = front["spec"]
    assert (spec["parentRefs"][0]["namespace"], spec["parentRefs"][0]["name"]) == (
        "istio-system", "shared",
    )  # fmt: skip
    assert spec["hostnames"] == list(OUTSIDE)
    (backend,) = spec["rules"][0]["backendRefs"]
    assert (backend["name"], backend["port"]) == ("kedge-gateway", 80)


def test_hosts_go_to_the_gateway_by_an_ingress() -> None:
    config = make_config(
        kserveIngressGateway="kserve/theirs", enableGatewayApi=False, ingressClassName="nginx"
    )
    made = make_front(ROUTE, config, "cluster.local")
    assert made is not None
    kind, front = made
    assert kind is INGRESS
    assert front["spec"]["ingressClassName"] == "nginx"
    assert [rule["host"] for rule in front["spec"]["rules"]] == list(OUTSIDE)
    (path,) = front["spec"]["rules"][0]["http"]["paths"]
    assert (path["path"], path["pathType"]) == ("/", "Prefix")
    assert path["backend"]["service"] == {"name": "kedge-gateway", "port": {"number": 80}}


def test_a_route_by_path_takes_its_path_alone() -> None:
    path = {"path": {"type": "PathPrefix", "value": "/serving/iris/"}}
    explain = {"path": {"type": "Exact", "value": "/serving/iris/v1/models/iris:explain"}}
    route = make_route("example.com", matches=[path, explain])
    assert paths_of(route) == ["/serving/iris/", "/serving/iris/v1/models/iris:explain"]
    regular = {"path": {"type": "RegularExpression", "value": "^/x$"}}
    assert paths_of(make_route("example.com", matches=[path, regular])) == ["/"]
    assert paths_of(make_route("example.com")) == ["/"]


def test_names_of_services_are_not_for_outside() -> None:
    assert outside_hosts(ROUTE, "cluster.local") == list(OUTSIDE)
    assert outside_hosts(make_route("iris.default", "iris.example"), "x") == ["iris.example"]
    assert front_name("a-b", "c") != front_name("a", "b-c")
