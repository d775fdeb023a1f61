"""HTTPRoutes, Services and EndpointSlices into the intermediate form."""

from __future__ import annotations

import pytest
from tests.unit.gateway.objects import (
    compile_all,
    make_http_route,
    make_rule,
    make_service,
    make_slice,
)

from kedge.cluster.base import Object
from kedge.gateway import routes
from kedge.gateway.binding import is_ours
from kedge.gateway.ir import CompiledRoute, Endpoint, MatchKind, PathMatch, Problem


def compile_one(route: Object, *others: Object) -> CompiledRoute:
    [compiled] = compile_all([route, *others])
    return compiled


def test_a_route_that_names_another_gateway_is_not_ours() -> None:
    route = make_http_route("iris")
    assert is_ours(route, "kedge/kedge-gateway")
    assert not is_ours(route, "istio-system/gateway")
    route["spec"]["parentRefs"] = [{"name": "kedge-gateway"}]
    assert not is_ours(route, "kedge/kedge-gateway")
    assert is_ours(route, "default/kedge-gateway")


def test_services_referenced_by_backends_and_mirrors() -> None:
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "m", "port": 80}}}
    route = make_http_route("iris", make_rule("a"), make_rule("b", filters=[mirror]))
    assert routes.referenced_services(route) == {("default", n) for n in ("a", "b", "m")}


@pytest.mark.parametrize(
    ("port", "http2"),
    [
        ({"port": 80}, False),
        ({"port": 80, "name": "http"}, False),
        ({"port": 80, "name": "h2c"}, True),
        ({"port": 80, "name": "grpc-port"}, True),
        ({"port": 80, "name": "x", "appProtocol": "kubernetes.io/h2c"}, True),
        ({"port": 80, "name": "grpc", "appProtocol": "http"}, False),
    ],
)
def test_the_protocol_of_a_port(port: Object, http2: bool) -> None:
    compiled = compile_one(make_http_route("r", make_rule("s")), make_service("s", port))
    assert compiled.clusters[0].http2 is http2


@pytest.mark.parametrize(
    ("declared", "seconds"),
    [(None, 1), ("75", 60), ("5", 4), ("3", 2), ("1", 1), ("never", 1)],
)
def test_an_idle_connection_ends_before_its_server_ends_it(
    declared: str | None, seconds: float
) -> None:
    annotations = {} if declared is None else {routes.KEEPALIVE_ANNOTATION: declared}
    service = make_service("s", annotations=annotations)
    compiled = compile_one(make_http_route("r", make_rule("s")), service)
    assert compiled.clusters[0].idle_timeout == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("60s", 60), ("1m30s", 90), ("250ms", 0.25), ("1h", 3600), ("1h2m3s4ms", 3723.004)],
)
def test_durations(text: str, seconds: float) -> None:
    assert routes.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"timeouts": {"request": "60"}}, "Duration '60'"),
        ({"timeouts": {"request": "1.5s"}}, "Duration '1.5s'"),
        ({"matches": [{"path": {"value": "x"}}]}, "does not begin with a slash"),
        ({"matches": [{"path": {"type": "Glob", "value": "/"}}]}, "'Glob' is not supported"),
        ({"filters": [{"type": "RequestRedirect"}]}, "RequestRedirect is not supported"),
        *(
            ({"matches": [{"path": {"type": "RegularExpression", "value": bad}}]}, words)
            for bad, words in (
                ("(", "malformed"), ("a(?=b)", "RE2"), (r"(a)\1", "RE2"), ("a*+", "RE2"),
                ("(?<!a)b", "RE2"),
            )
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_refused_with_a_reason(rule: Object, words: str) -> None:
    compiled = compile_one(make_http_route("r", make_rule("s", **rule)), make_service("s"))
    assert compiled.routes == ()
    [problem] = compiled.problems
    assert problem.condition == "Accepted"
    assert words in problem.message


@pytest.mark.parametrize("host", ["a b", "*.", "x_y", "*", "A.example"])
def test_hostnames_are_dns_names(host: str) -> None:
    [problem] = compile_one(make_http_route("r", hostnames=[host])).problems
    assert host in problem.message


def test_a_backend_that_is_not_there_is_a_cluster_without_endpoints() -> None:
    route = make_http_route("r", make_rule("absent"), make_rule("s", 81))
    compiled = compile_one(route, make_service("s"))
    assert [cluster.name for cluster in compiled.clusters] == ["default/absent/80", "default/s/81"]
    assert compiled.problems == (
        Problem("ResolvedRefs", "BackendNotFound", "Service default/absent does not exist."),
        Problem("ResolvedRefs", "BackendNotFound", "Service default/s has no port 81; it has 80."),
    )


@pytest.mark.parametrize(
    ("ref", "reason"),
    [({"namespace": "other"}, "RefNotPermitted"), ({"kind": "Bucket"}, "InvalidKind")],
)
def test_references_that_are_refused(ref: Object, reason: str) -> None:
    rule = {"backendRefs": [{"name": "s", "port": 80, **ref}]}
    [problem] = compile_one(make_http_route("r", rule), make_service("s")).problems
    assert problem.reason == reason


def test_an_inference_service_is_called_by_its_name_in_errors() -> None:
    owner = {"kind": "InferenceService", "name": "iris"}
    route = make_http_route("iris-predictor", make_rule("s"), ownerReferences=[owner])
    assert compile_one(route).routes[0].service == "default/iris"
    assert compile_one(make_http_route("mine", make_rule("s"))).routes[0].service == "default/mine"


def test_ready_endpoints_of_the_right_port_only() -> None:
    service = make_service("s", {"name": "http", "port": 80}, {"name": "grpc", "port": 81})
    other = make_slice("s", "127.0.0.9", port=9000, name="grpc")
    piece = make_slice("s", "127.0.0.3", "127.0.0.2")
    piece["endpoints"] += [
        {"addresses": ["127.0.0.4"]},
        {"addresses": ["127.0.0.5"], "conditions": {"ready": False}},
        {"addresses": ["127.0.0.6"], "conditions": {"ready": True, "terminating": True}},
    ]
    found = routes.compile_endpoints("default/s/80", service, [piece, other])
    assert found.ready == tuple(Endpoint(f"127.0.0.{n}", 8080) for n in (2, 3, 4))
    found = routes.compile_endpoints("default/s/81", service, [piece, other])
    assert found.ready == (Endpoint("127.0.0.9", 9000),)
    assert routes.compile_endpoints("default/s/82", service, [piece]).ready == ()
    assert routes.compile_endpoints("default/s/80", None, [piece]).ready == ()


def make_family(family: str, pods: dict[str, str], **conditions: bool) -> Object:
    piece = make_slice("s")
    piece["addressType"] = family
    piece["endpoints"] = [
        {"addresses": [address], "targetRef": {"kind": "Pod", "name": pod},
         "conditions": {"ready": True, **conditions}}
        for pod, address in pods.items()
    ]  # fmt: skip
    return piece


@pytest.mark.parametrize(
    ("families", "expected"),
    [
        (["IPv4", "IPv6"], ("10.0.0.1", "10.0.0.2", "fd00::3")),
        (["IPv6", "IPv4"], ("fd00::1", "fd00::2", "fd00::3")),
        (None, ("10.0.0.1", "10.0.0.2", "fd00::3")),
    ],
)
def test_a_pod_of_two_families_is_one_endpoint(
    families: list[str] | None, expected: tuple[str, ...]
) -> None:
    """Otherwise each would get twice the requests that its hard limit says."""
    service = make_service("s")
    if families:
        service["spec"]["ipFamilies"] = families
    six = make_family("IPv6", {"a": "fd00::1", "b": "fd00::2", "c": "fd00::3"})
    four = make_family("IPv4", {"a": "10.0.0.1", "b": "10.0.0.2"})
    for slices in ([six, four], [four, six]):
        found = routes.compile_endpoints("default/s/80", service, slices)
        assert found.ready == tuple(Endpoint(address, 8080) for address in expected)


def test_a_pod_does_not_change_its_family_while_it_ends() -> None:
    service = make_service("s")
    service["spec"]["ipFamilies"] = ["IPv4", "IPv6"]
    slices = [make_family("IPv6", {"a": "fd00::1"}),
              make_family("IPv4", {"a": "10.0.0.1"}, ready=False)]  # fmt: skip
    assert routes.compile_endpoints("default/s/80", service, slices).ready == ()


def test_an_endpoint_is_its_first_address_written_as_envoy_does() -> None:
    piece = make_slice("s")
    piece["addressType"] = "IPv6"
    piece["endpoints"] = [{"addresses": ["FD00:0::1", "fd00::2"]}]
    named = make_slice("s", "iris.example.org")
    named["addressType"] = "FQDN"  # Envoy takes none, and with it none of the others.
    found = routes.compile_endpoints("default/s/80", make_service("s"), [piece, named])
    assert found.ready == (Endpoint("fd00::1", 8080),)


def test_hosts_of_which_the_same_is_to_be_done_share_a_virtual_host() -> None:
    owner = [{"kind": "InferenceService", "name": "s"}]
    a = make_http_route("a", make_rule("s"), hostnames=["a.x", "both.x"], ownerReferences=owner)
    twin = make_http_route("twin", make_rule("s"), hostnames=["twin.x"], ownerReferences=owner)
    b = make_http_route("b", make_rule("s"), hostnames=["b.x", "both.x", "c.x"])
    anyone = make_http_route("any", make_rule("s"))
    hosts = routes.make_hosts(compile_all([a, twin, b, anyone]))
    assert {host.name: host.domains for host in hosts} == {
        "*": ("*",),
        "a.x": ("a.x", "twin.x"),
        "b.x": ("b.x", "c.x"),
        "both.x": ("both.x",),
    }
    assert [len(host.routes) for host in hosts] == [1, 1, 1, 2]
    assert routes.make_hosts([])[0].domains == ("*",)


def test_the_more_specific_rule_comes_first() -> None:
    def at(value: str, type: str = "PathPrefix", **more: object) -> Object:
        return {"path": {"type": type, "value": value}, **more}

    header, query = {"name": "h", "value": "1"}, {"name": "q", "value": "1"}
    matches = [
        at("/"), at("/a"), at("/a", queryParams=[query]), at("/a", headers=[header]),
        at("/a", method="GET"), at("/a/b"), at("^/r$", "RegularExpression"), at("/", "Exact"),
    ]  # fmt: skip
    route = make_http_route("r", make_rule("s", matches=matches), hostnames=["x"])
    [_, host] = routes.make_hosts([compile_one(route)])
    assert [r.match.path for r in host.routes] == [
        PathMatch(MatchKind.EXACT, "/"),
        PathMatch(MatchKind.REGEX, "^/r$"),
        PathMatch(MatchKind.PREFIX, "/a/b"),
        *([PathMatch(MatchKind.PREFIX, "/a")] * 4),
        PathMatch(MatchKind.PREFIX, ""),
    ]
    same = host.routes[3:7]
    assert [(bool(r.match.method), len(r.match.headers), len(r.match.query)) for r in same] == [
        (True, 0, 0), (False, 1, 0), (False, 0, 1), (False, 0, 0),
    ]  # fmt: skip
