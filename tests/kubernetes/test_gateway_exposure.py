"""Who reaches what: services for the cluster alone, and HTTPS by certificates of Secrets."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
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
from tests.kubernetes.world import HOME, World, until

from kedge.install.objects.gateway import make_gateway, make_tls_gateway
from kedge.install.values import Gateway, Values
from kedge.lib.certificates import Pair, make_authority, make_server_certificate

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(240)]
DAY = timedelta(days=1)
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


def make_pair() -> Pair:
    now = datetime.now(UTC)
    authority = make_authority("test", now, DAY)
    return make_server_certificate(authority, now, DAY, names=[SECURE])


def make_secret(pair: Pair) -> dict[str, Any]:
    data = {"tls.crt": pair.certificate, "tls.key": pair.key}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "wildcard", "namespace": HOME},
        "type": "kubernetes.io/tls",
        "data": {name: base64.b64encode(value).decode() for name, value in data.items()},
    }


def served(port: int) -> bytes:
    """The certificate that a client is shown; nothing where nobody answers."""
    context = ssl._create_unverified_context()
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname=SECURE) as secure,
        ):
            return secure.getpeercert(binary_form=True) or b""
    except OSError:
        return b""


def der(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.certificate.decode())


def https_status(world: World) -> dict[str, Any]:
    status = world.get("gateways", GATEWAY, HOME).get("status") or {}
    for listener in status.get("listeners") or ():
        if listener["name"] == "https":
            return {one["type"]: one for one in listener["conditions"]}
    return {}


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
    first, second = make_pair(), make_pair()
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
