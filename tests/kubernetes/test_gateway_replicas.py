"""Several replicas of the gateway: what they agree on, and what happens when one goes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from tests.kubernetes.gateways import (
    GatewayProcess,
    answering,
    answers,
    ask_many,
    forget_members,
    gateway,
    make_route,
    make_service,
    make_slice,
    pod_address,
    pod_network,
    pods,
    tell_members,
)
from tests.kubernetes.world import World, until

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(240)]
Two = tuple[GatewayProcess, GatewayProcess]


@pytest.fixture
def two(edge: World, edge_account: Path) -> Iterator[Two]:
    with (
        pod_network(),
        gateway(edge, "gw-a", edge_account, address=pod_address(201), wait=False) as one,
        gateway(edge, "gw-b", edge_account, address=pod_address(202), wait=False) as other,
    ):
        for it in (one, other):
            until(it.is_ready, f"{it.name} ready", 120)
        tell_members(edge, one, other)
        yield one, other
        forget_members(edge)


def test_a_route_answers_when_every_replica_has_it(edge: World, two: Two, space: str) -> None:
    one, other = two
    edge.apply(
        make_service("iris", activation=True), make_route("iris", "iris", f"{space}.example.com"),
        namespace=space,
    )  # fmt: skip
    answers(edge, "iris", space)
    # One that cannot be told, and is not yet out of the way.
    other.kill_envoy()
    edge.apply(make_route("late", "iris", f"late.{space}.example.com"), namespace=space)
    condition = until(lambda: answering(edge, "late", space), "a status of the second route")
    assert (condition["status"], condition["reason"]) == ("False", "NotAcknowledged")
    assert "Replica gw-b" in condition["message"]
    assert answering(edge, "iris", space)["status"] == "True"
    tell_members(edge, one, other, unready="gw-b")
    answers(edge, "late", space)
    other.start_envoy()
    until(other.is_ready, "gw-b ready again")
    tell_members(edge, one, other)
    # The one that writes is gone; the next one writes.
    one.kill()
    tell_members(edge, one, other, unready="gw-a")
    edge.apply(make_route("last", "iris", f"last.{space}.example.com"), namespace=space)
    answers(edge, "last", space)


async def test_requests_wait_at_any_replica(edge: World, two: Two, space: str) -> None:
    host = f"{space}.example.com"
    edge.apply(
        make_service("cold", activation=True), make_route("cold", "cold", host), namespace=space
    )
    answers(edge, "cold", space)
    async with aiohttp.ClientSession() as session:
        asked = [asyncio.create_task(ask_many(one, host, 10, session)) for one in two]
        for one in two:
            await asyncio.to_thread(
                until,
                lambda one=one: "held_requests 10" in one.page("/metrics")[1],
                "held requests",
            )
        with pods() as (pod,):
            edge.apply(make_slice("cold", pod.place), namespace=space)
            for answered in asked:
                assert [code for code, _ in await answered] == [200] * 10


async def test_a_hard_limit_holds_over_replicas_whatever_dies(
    edge: World, two: Two, space: str
) -> None:
    host = f"{space}.example.com"
    edge.apply(
        make_service("few", activation=True, concurrency=1), make_route("few", "few", host),
        namespace=space,
    )  # fmt: skip
    with pods(2, seconds=0.1, first=11) as made:
        edge.apply(make_slice("few", *(pod.place for pod in made)), namespace=space)
        answers(edge, "few", space)
        one, other = two
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            asked = [asyncio.create_task(ask_many(it, host, 100, session)) for it in two]
            await asyncio.sleep(1)
            one.kill()
            await asyncio.to_thread(tell_members, edge, one, other, unready="gw-a")
            one.start()
            await asyncio.to_thread(until, one.is_ready, "gw-a ready again")
            await asyncio.to_thread(tell_members, edge, one, other)
            answered = [answer for task in asked for answer in await task]
        assert [code for code, _ in answered] == [200] * 200
        assert [pod.most for pod in made] == [1, 1]
        assert {body["pod"] for _, body in answered} == {"pod-11", "pod-12"}


def test_services_without_pods_lead_to_the_replicas(edge: World, two: Two, space: str) -> None:
    one, other = two
    service = make_service("iris", labels={"serving.kedge.dev/endpoints": "gateway"})
    edge.apply(service, namespace=space)

    def addresses() -> list[str]:
        found = edge.get("endpointslice", "iris-kedge-gateway", space)
        return sorted(end["addresses"][0] for end in found["endpoints"]) if found else []

    until(lambda: addresses() == [one.address, other.address], "endpoints of both")
    found = edge.get("endpointslice", "iris-kedge-gateway", space)
    assert found["ports"][0]["port"] in (one.inside_port, other.inside_port)
    assert found["metadata"]["ownerReferences"][0]["kind"] == "Service"
    tell_members(edge, one, other, unready="gw-b")
    until(lambda: addresses() == [one.address], "endpoints of one")
    edge.api.kubectl("delete", "endpointslice", "iris-kedge-gateway", "-n", space)
    until(lambda: addresses() == [one.address], "endpoints again")
    service["spec"]["selector"] = {"app": "iris"}
    edge.apply(service, namespace=space)
    until(lambda: not addresses(), "no endpoints of ours")


def test_pods_that_a_service_had_are_forgotten(edge: World, two: Two, space: str) -> None:
    """Kubernetes keeps the endpoints of a Service whose selector was taken away."""
    service = make_service("iris", labels={"serving.kedge.dev/endpoints": "gateway"})
    service["spec"]["selector"] = {"app": "iris"}
    makers = ("endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io", "ada")
    slices = []
    for maker in makers:
        made = make_slice("iris", ("10.9.9.9", 8080))
        made["metadata"]["name"] = f"iris-{maker.partition('.')[0]}"
        made["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] = maker
        slices.append(made)
    subset = {"addresses": [{"ip": "10.9.9.9"}], "ports": [{"port": 8080}]}
    endpoints = {
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "iris"}, "subsets": [subset],
    }  # fmt: skip
    edge.apply(service, endpoints, *slices, namespace=space)
    edge.api.kubectl("patch", "service", "iris", "-n", space, "--type=merge", "-p",
                     '{"spec": {"selector": null}}')  # fmt: skip

    def names() -> set[str]:
        return {one["metadata"]["name"] for one in edge.get("endpointslice", namespace=space)}

    until(lambda: names() == {"iris-kedge-gateway", "iris-ada"}, "the gateway's alone, and ada's")
    assert "iris" not in edge.api.kubectl("get", "endpoints", "-n", space, "-o", "name")


async def test_a_replica_that_is_deleted_cuts_nothing_off(
    edge: World, two: Two, space: str
) -> None:
    host = f"{space}.example.com"
    one, other = two
    edge.apply(make_service("slow"), make_route("slow", "slow", host), namespace=space)
    with pods(1, seconds=8, first=21) as (pod,):
        edge.apply(make_slice("slow", pod.place), namespace=space)
        answers(edge, "slow", space)
        async with aiohttp.ClientSession() as session:
            asked = asyncio.create_task(ask_many(other, host, 5, session))
            await asyncio.sleep(0.5)
            await asyncio.to_thread(tell_members, edge, one, other, terminating="gw-b")
            ended = asyncio.create_task(asyncio.to_thread(other.end))
            await asyncio.sleep(1)
            # Who has not heard of it yet is answered, and told to come by another connection.
            url = f"http://{other.address}:{other.port}/"
            late = asyncio.create_task(session.get(url, headers={"Host": host}))
            assert [code for code, _ in await asked] == [200] * 5
            async with await late as response:
                assert response.status == 200
                assert response.headers["connection"] == "close"
            assert await ended == 0
    assert (other.run_dir / "drained").exists()
    assert "no request is in flight any more" in other.log
    assert "Traceback" not in other.log
