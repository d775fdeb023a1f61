"""Endpoints of Services, from pods in every state."""

from __future__ import annotations

from typing import Any

from kedge.cluster.base import Object
from kedge.cluster.local.workloads.endpoints import make_endpoints, make_slices

SERVICE: Object = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "s", "namespace": "ns", "uid": "u", "labels": {"l": "v"}},
    "spec": {
        "selector": {"app": "x"},
        "ports": [
            {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"},
            {"name": "grpc", "port": 81, "targetPort": "h2c", "appProtocol": "kubernetes.io/h2c"},
        ],
    },
}


def pod(
    name: str, address: str, *, ready: bool = True, going: bool = False, grpc: int = 8081
) -> Object:
    port = {"name": "h2c", "containerPort": grpc, "protocol": "TCP"}
    metadata: dict[str, Any] = {"name": name, "namespace": "ns", "uid": name}
    if going:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    condition = {"type": "Ready", "status": str(ready)}
    return {
        "metadata": metadata,
        "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [port]}]},
        "status": {"phase": "Running", "podIP": address, "conditions": [condition]},
    }


def states(endpoint_slice: Object) -> dict[str, tuple[bool, bool, bool]]:
    return {
        one["addresses"][0]: (
            one["conditions"]["ready"],
            one["conditions"]["serving"],
            one["conditions"]["terminating"],
        )
        for one in endpoint_slice["endpoints"]
    }


def test_states_of_pods_become_conditions_of_endpoints() -> None:
    ended = pod("e", "127.1.0.5")
    ended["status"]["phase"] = "Failed"
    (made,) = make_slices(
        SERVICE,
        [
            pod("a", "127.1.0.1"),
            pod("b", "127.1.0.2", ready=False),
            pod("c", "127.1.0.3", going=True),
            pod("d", ""),
            ended,
        ],
    )
    assert states(made) == {
        "127.1.0.1": (True, True, False),
        "127.1.0.2": (False, False, False),
        "127.1.0.3": (False, True, True),
    }
    assert made["ports"] == [
        {"name": "http", "protocol": "TCP", "port": 8080},
        {"name": "grpc", "protocol": "TCP", "port": 8081, "appProtocol": "kubernetes.io/h2c"},
    ]
    assert made["metadata"]["labels"] == {
        "l": "v",
        "kubernetes.io/service-name": "s",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert made["endpoints"][0]["targetRef"]["name"] == "a"
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u"


def test_pods_with_other_ports_are_in_another_slice() -> None:
    made = make_slices(SERVICE, [pod("a", "127.1.0.1"), pod("b", "127.1.0.2", grpc=9000)])
    assert [one["ports"][1]["port"] for one in made] == [8081, 9000]
    assert len({one["metadata"]["name"] for one in made}) == 2


def test_without_pods_there_is_one_empty_slice_of_the_same_name_where_ports_are_numbers() -> None:
    service = {**SERVICE, "spec": {**SERVICE["spec"], "ports": SERVICE["spec"]["ports"][:1]}}
    (empty,) = make_slices(service, [])
    (full,) = make_slices(service, [pod("a", "127.1.0.1")])
    assert empty["endpoints"] == []
    assert empty["metadata"]["name"] == full["metadata"]["name"]


def test_large_services_have_several_slices() -> None:
    made = make_slices(SERVICE, [pod(f"p{n:03}", f"127.1.1.{n}") for n in range(150)])
    assert [len(one["endpoints"]) for one in made] == [100, 50]


def test_addresses_may_be_published_before_they_are_ready() -> None:
    service = {**SERVICE, "spec": {**SERVICE["spec"], "publishNotReadyAddresses": True}}
    (made,) = make_slices(service, [pod("b", "127.1.0.2", ready=False)])
    assert states(made) == {"127.1.0.2": (True, False, False)}


def test_the_older_form_leaves_out_pods_that_are_going() -> None:
    made = make_endpoints(
        SERVICE,
        [
            pod("a", "127.1.0.1"),
            pod("b", "127.1.0.2", ready=False),
            pod("c", "127.1.0.3", going=True),
        ],
    )
    (subset,) = made["subsets"]
    assert [one["ip"] for one in subset["addresses"]] == ["127.1.0.1"]
    assert [one["ip"] for one in subset["notReadyAddresses"]] == ["127.1.0.2"]
    assert "subsets" not in make_endpoints(SERVICE, [])
