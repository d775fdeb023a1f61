"""Endpoints of Services that lead to the gateway."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kedge.gateway.localendpoints import is_ours, make_slice
from kedge.gateway.members import Member


def make_service(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "iris",
            "namespace": "default",
            "uid": "u-1",
            "labels": {"serving.kedge.dev/endpoints": "gateway"},
        },
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}], **spec},
    }


def member(name: str, address: str, *, ready: bool = True, family: str = "IPv4") -> Member:
    return Member(name, address, family, 8888, 9445, ready)


def test_they_are_the_ready_replicas_where_pods_ask() -> None:
    made = make_slice(
        make_service(),
        [member("a", "10.0.0.1"), member("b", "10.0.0.2", ready=False), member("c", "10.0.0.3")],
    )
    assert made["metadata"]["labels"]["kubernetes.io/service-name"] == "iris"
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u-1"
    assert made["addressType"] == "IPv4"
    assert made["ports"] == [{"name": "http", "port": 8888, "protocol": "TCP"}]
    assert [one["addresses"] for one in made["endpoints"]] == [["10.0.0.1"], ["10.0.0.3"]]


def test_their_addresses_are_of_the_family_that_the_service_has_first() -> None:
    both = [replace(member("a", "10.0.0.1"), second="fd00::1"), member("b", "10.0.0.2")]

    def found(*families: str) -> tuple[str, list[str]]:
        made = make_slice(make_service(ipFamilies=list(families)), both)
        return made["addressType"], [one["addresses"][0] for one in made["endpoints"]]

    assert found("IPv4") == found("IPv4", "IPv6") == ("IPv4", ["10.0.0.1", "10.0.0.2"])
    assert found("IPv6") == ("IPv6", ["fd00::1"])
    assert make_slice(make_service(ipFamilies=["IPv6"]), both[1:])["addressType"] == "IPv4"
    assert make_slice(make_service(ipFamilies=["IPv6"]), [])["endpoints"] == []


def test_a_service_with_pods_is_left_alone() -> None:
    assert is_ours(make_service())
    assert not is_ours(make_service(selector={"app": "iris"}))
    plain = make_service()
    del plain["metadata"]["labels"]
    assert not is_ours(plain)
