"""Who reaches what: services for the cluster alone, and HTTPS by certificates of Secrets."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kubernetes.gateways import (
    GATEWAY,
    GatewayProcess,
    answers,
    gateway,
    get,
    make_route,
    make_service,
    make_slice,
    pods,
)
from tests.kubernetes.tls import (
    RSA_ALONE,
    der,
    listener_status,
    make_pair,
    make_rsa_pair,
    make_secret,
    shown,
)
from tests.kubernetes.world import HOME, World, until

from kedge.install.objects.gateway import make_gateway, make_tls_gateway
from kedge.install.values import Gateway, Values
from kedge.lib.certificates import Pair

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(240)]
SECURE = "secure.example.com"


@pytest.fixture
def one(edge: World, edge_account: Path) -> Iterator[GatewayProcess]:
    with gateway(edge, "gw-one", edge_account) as it:
        yield it


def test_what_is_for_the_cluster_alone_is_not_answered_outside(
    edge: World, one: GatewayProcess, space: str
) -> None:
    edge.apply(*make_gateway(Values()))
    inside, outside = f"inside.{space}.svc.cluster.local", f"{space}.example.com"
    by_path = make_route("by-path", "iris", section="local")
    match = {"path": {"type": "PathPrefix", "value": f"/serving/{space}/"}}
    by_path["spec"]["rules"][0]["matches"] = [match]
    with pods() as (pod,):
        edge.apply(
            make_service("iris"), make_slice("iris", pod.place), by_path,
            make_route("inside", "iris", inside, section="local"),
            make_route("outside", "iris", outside),
            namespace=space,
        )  # fmt: skip
        for route in ("inside", "outside", "by-path"):
            answers(edge, route, space)
        path = f"/serving/{space}/x"
        for host, way in ((inside, "/"), ("any.example.com", path)):
            assert one.ask(host, way)[0] == 404
            assert one.ask(host, way, inside=True)[0] == 200
        assert one.ask(outside)[0] == 200
        assert one.ask(outside, inside=True)[0] == 200
        # Nobody can say that he is inside.
        place = ("127.0.0.1", one.port)
        told = {"x-kedge-listener": "pods"}
        assert get(*place, "/", inside, told)[0] == 404
        # It is a way in, not a way out.
        assert one.ask(f"127.0.0.1:{one.metrics_port}", "/healthz", inside=True)[0] == 404
    until(lambda: attached(edge).get("local", 0) == attached(edge).get("http", 0) + 2, "counts")


def attached(world: World) -> dict[str, int]:
    status = world.get("gateways", GATEWAY, HOME).get("status") or {}
    return {one["name"]: one["attachedRoutes"] for one in status.get("listeners") or ()}


# HTTPS


def served(port: int) -> bytes:
    return shown(port, SECURE)


def https_status(world: World) -> dict[str, Any]:
    return listener_status(world, "https")


def test_certificates_are_renewed_while_connections_last(
    edge: World, one: GatewayProcess, space: str
) -> None:
    values = Values(gateway=Gateway(tls_secret="wildcard"))
    edge.apply(*make_tls_gateway(values))
    until(
        lambda: https_status(edge).get("ResolvedRefs", {}).get("status") == "False",
        "the status of a missing Secret",
    )
    assert "does not exist" in https_status(edge)["ResolvedRefs"]["message"]
    first, second = make_pair(SECURE), make_pair(SECURE)
    edge.apply(make_secret(first))
    until(lambda: served(one.https_port) == der(first), "the first certificate")
    with pods() as (pod,):
        edge.apply(
            make_service("iris"), make_slice("iris", pod.place),
            make_route("iris", "iris", SECURE), namespace=space,
        )  # fmt: skip
        answers(edge, "iris", space)
        context = ssl._create_unverified_context()
        kept = http.client.HTTPSConnection("127.0.0.1", one.https_port, context=context)
        assert _ask(kept) == 200
        edge.apply(make_secret(second))
        until(lambda: served(one.https_port) == der(second), "the second certificate")
        assert _ask(kept) == 200
        # What cannot be served leaves the one before in use.
        edge.apply(make_secret(Pair(first.certificate, second.key)))
        until(
            lambda: "does not belong" in https_status(edge)["ResolvedRefs"]["message"],
            "the status of a wrong key",
        )
        assert served(one.https_port) == der(second)
        one.kill()
        one.start()
        until(one.is_ready, "ready again")
        assert served(one.https_port) == der(second)
        assert _ask(kept) == 200
        kept.close()
    edge.apply(make_secret(second))
    until(lambda: https_status(edge)["Programmed"]["status"] == "True", "a good status")


def test_several_certificates_of_a_listener(edge: World, one: GatewayProcess) -> None:
    names = ("rsa", "ecdsa", "other", "absent")
    (made,) = make_tls_gateway(Values(gateway=Gateway(tls_secret="rsa")))
    https = next(it for it in made["spec"]["listeners"] if it["name"] == "https")
    https["tls"]["certificateRefs"] = [{"name": name} for name in names]
    edge.apply(made)
    rsa, ecdsa, other = make_rsa_pair(SECURE), make_pair(SECURE), make_pair("other.example.com")
    port = one.https_port
    for name, pair in (("rsa", rsa), ("ecdsa", ecdsa), ("other", other)):
        edge.apply(make_secret(pair, name))

    def all_shown() -> list[bytes]:
        return [
            shown(port, SECURE, ciphers=RSA_ALONE), shown(port, SECURE),
            shown(port, "other.example.com"),
        ]  # fmt: skip

    until(lambda: all_shown() == [der(rsa), der(ecdsa), der(other)], "each its certificate")
    # What is missing is told, and the others are served.
    told = until(
        lambda: _told(edge, generation_of(edge), "ResolvedRefs", "False"), "a status of it"
    )
    assert (told["ResolvedRefs"]["reason"], told["Programmed"]["status"]) == (
        "InvalidCertificateRef", "True",
    )  # fmt: skip
    assert "Secret kedge/absent: It does not exist" in told["ResolvedRefs"]["message"]
    assert "kedge/rsa" not in told["ResolvedRefs"]["message"]
    # One is renewed, another cannot be served any more.
    newer = make_pair("other.example.com")
    edge.apply(make_secret(newer, "other"), make_secret(Pair(ecdsa.certificate, rsa.key), "ecdsa"))
    until(lambda: shown(port, "other.example.com") == der(newer), "the newer one")
    assert all_shown() == [der(rsa), der(ecdsa), der(newer)]
    edge.apply(make_secret(ecdsa, "absent"), make_secret(ecdsa, "ecdsa"))
    until(lambda: _told(edge, generation_of(edge), "ResolvedRefs", "True"), "a good status")
    edge.apply(*make_gateway(Values()))


def generation_of(world: World) -> int:
    return int(world.get("gateways", GATEWAY, HOME)["metadata"]["generation"])


def _told(world: World, generation: int, type: str, status: str) -> dict[str, Any]:
    """The conditions of the HTTPS listener once one is so for that generation."""
    found = https_status(world)
    one = found.get(type, {})
    return (
        found if (one.get("observedGeneration"), one.get("status")) == (generation, status) else {}
    )


def _ask(connection: http.client.HTTPSConnection) -> int:
    connection.request("GET", "/", headers={"Host": SECURE})
    response = connection.getresponse()
    response.read()
    return response.status


def test_another_way_in_is_led_to_the_gateway(edge: World, one: GatewayProcess, space: str) -> None:
    edge.apply(
        make_service("iris", activation=True), make_route("iris", "iris", f"{space}.example.com"),
        namespace=space,
    )  # fmt: skip
    answers(edge, "iris", space)

    def fronts(resource: str) -> list[dict[str, Any]]:
        found = edge.api.kubectl(
            "get", resource, "-n", HOME, "-l", "serving.kedge.dev/front=true", "-o", "json"
        )
        return [
            front
            for front in json.loads(found)["items"]
            if front["metadata"]["annotations"]["serving.kedge.dev/front-of"] == f"{space}/iris"
        ]

    configure(edge, kserveIngressGateway="istio-system/shared")
    (front,) = until(lambda: fronts("httproutes"), "a route of the other Gateway")
    assert front["spec"]["hostnames"] == [f"{space}.example.com"]
    configure(edge, enableGatewayApi=False, ingressClassName="nginx")
    (front,) = until(lambda: fronts("ingresses"), "an Ingress")
    assert front["spec"]["rules"][0]["host"] == f"{space}.example.com"
    until(lambda: not fronts("httproutes"), "no route of the other Gateway")
    edge.api.kubectl("delete", "ingress", front["metadata"]["name"], "-n", HOME)
    until(lambda: fronts("ingresses"), "the Ingress again")
    edge.api.kubectl("delete", "httproute", "iris", "-n", space)
    until(lambda: not fronts("ingresses"), "no Ingress")
    edge.api.kubectl("delete", "configmap", "inferenceservice-config", "-n", HOME)


def configure(world: World, **ingress: Any) -> None:
    world.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "inferenceservice-config", "namespace": HOME},
            "data": {"ingress": json.dumps(ingress)},
        }
    )
