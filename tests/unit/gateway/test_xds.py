"""What an Envoy is sent, and in which order."""

from __future__ import annotations

from typing import Any

from envoy.service.discovery.v3 import discovery_pb2

from kedge.gateway.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource
from kedge.gateway.xds import AGAIN, PATIENCE, AdsServer, Connection


def resource(name: str, version: str = "1", *addresses: str) -> Resource:
    return Resource(name, version, f"{name}@{version}".encode(), frozenset(addresses))


class Envoy:
    """Subscribes and acknowledges as Envoy does, when told to."""

    def __init__(self, server: AdsServer) -> None:
        self.server = server
        self.connection = Connection(server, lambda: self.now)
        self.now = 0.0
        server.connections.add(self.connection)
        self.inbox: list[Any] = []
        self.has: dict[str, dict[str, str]] = {}

    def ask(self, type: str, *names: str, has: dict[str, str] | None = None) -> None:
        self.connection.take(
            discovery_pb2.DeltaDiscoveryRequest(
                type_url=type,
                resource_names_subscribe=names,
                initial_resource_versions=has or {},
            )
        )

    def receive(self) -> list[Any]:
        """What is sent now, unanswered."""
        found = [
            discovery_pb2.DeltaDiscoveryResponse.FromString(raw) for raw in self.connection.due()
        ]
        self.inbox += found
        return found

    def names(self) -> list[tuple[str, list[str], list[str]]]:
        """Of what is sent now: type, resources, removals."""
        return [
            (
                response.type_url.rpartition(".")[2],
                sorted(one.name for one in response.resources),
                sorted(response.removed_resources),
            )
            for response in self.receive()
        ]

    def answer(self, error: str = "") -> None:
        """Acknowledge, or refuse, the oldest unanswered response."""
        response = self.inbox.pop(0)
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=response.type_url, response_nonce=response.nonce
        )
        if error:
            request.error_detail.message = error
        self.connection.take(request)

    def answer_all(self) -> None:
        while self.inbox:
            self.answer()


def make_server() -> AdsServer:
    server = AdsServer(lambda: 0.0)
    server.update(CLUSTER, [resource("a")])
    server.update(ENDPOINT, [resource("a", "1", "10.0.0.1")])
    server.update(LISTENER, [resource("l")])
    server.update(ROUTE, [resource("r")])
    return server


def start(envoy: Envoy) -> None:
    """A new Envoy comes up to date."""
    envoy.ask(CLUSTER)
    envoy.receive()
    envoy.ask(ENDPOINT, "a")
    envoy.answer_all()
    envoy.receive()
    envoy.answer_all()
    envoy.ask(LISTENER)
    envoy.receive()
    envoy.ask(ROUTE, "r")
    envoy.answer_all()
    envoy.receive()
    envoy.answer_all()
    assert envoy.connection.settled
    assert envoy.names() == []


def test_clusters_and_endpoints_come_before_listeners_and_routes() -> None:
    envoy = Envoy(make_server())
    envoy.ask(CLUSTER)
    envoy.ask(LISTENER)
    assert envoy.names() == [("Cluster", ["a"], [])]
    envoy.ask(ENDPOINT, "a")
    assert envoy.names() == [("ClusterLoadAssignment", ["a"], [])]
    envoy.answer()
    assert envoy.names() == []
    envoy.answer()
    assert envoy.names() == [("Listener", ["l"], [])]
    envoy.ask(ROUTE, "r")
    assert envoy.names() == [("RouteConfiguration", ["r"], [])]
    assert not envoy.connection.settled
    envoy.answer_all()
    assert envoy.connection.settled


def test_an_envoy_without_anything_to_know_is_answered() -> None:
    """Its start waits for the first answer of each kind."""
    envoy = Envoy(AdsServer(lambda: 0.0))
    envoy.ask(CLUSTER)
    assert envoy.names() == [("Cluster", [], [])]
    envoy.answer_all()
    envoy.ask(LISTENER)
    assert envoy.names() == [("Listener", [], [])]


def test_a_new_route_waits_until_its_cluster_is_warm() -> None:
    server = make_server()
    envoy = Envoy(server)
    start(envoy)
    server.update(ENDPOINT, [resource("b", "1", "10.0.0.2")])
    server.update(CLUSTER, [resource("b")])
    server.update(ROUTE, [resource("r", "2")])
    assert envoy.names() == [("Cluster", ["b"], [])]
    envoy.answer_all()
    assert envoy.names() == []
    envoy.ask(ENDPOINT, "b")
    assert envoy.names() == [("ClusterLoadAssignment", ["b"], [])]
    assert not envoy.connection.settled
    envoy.answer_all()
    assert envoy.names() == [("RouteConfiguration", ["r"], [])]


def test_a_cluster_goes_after_the_routes_that_named_it() -> None:
    server = make_server()
    envoy = Envoy(server)
    start(envoy)
    server.update(CLUSTER, [], ["a"])
    server.update(ENDPOINT, [], ["a"])
    server.update(ROUTE, [resource("r", "2")])
    assert envoy.names() == [("RouteConfiguration", ["r"], [])]
    assert envoy.names() == []
    assert envoy.connection.may_send_to("10.0.0.1")
    envoy.answer_all()
    assert envoy.names() == [("Cluster", [], ["a"])]
    assert not envoy.connection.settled
    envoy.answer_all()
    envoy.connection.take(
        discovery_pb2.DeltaDiscoveryRequest(type_url=ENDPOINT, resource_names_unsubscribe=["a"])
    )
    assert envoy.connection.settled
    assert not envoy.connection.may_send_to("10.0.0.1")


def test_a_cluster_that_comes_back_before_it_went_is_not_removed() -> None:
    server = make_server()
    envoy = Envoy(server)
    start(envoy)
    server.update(CLUSTER, [], ["a"])
    server.update(ROUTE, [resource("r", "2")])
    envoy.receive()
    server.update(CLUSTER, [resource("a")])
    envoy.answer_all()
    assert envoy.names() == []
    assert envoy.connection.settled


def test_endpoints_do_not_wait_and_go_alone() -> None:
    server = make_server()
    envoy = Envoy(server)
    start(envoy)
    server.update(ROUTE, [resource("r", "2")])
    assert envoy.names() == [("RouteConfiguration", ["r"], [])]
    server.update(ENDPOINT, [resource("a", "2", "10.0.0.2")])
    assert envoy.names() == [("ClusterLoadAssignment", ["a"], [])]


def test_a_changed_cluster_takes_its_endpoints_along() -> None:
    server = make_server()
    envoy = Envoy(server)
    start(envoy)
    server.update(CLUSTER, [resource("a", "2")])
    server.update(ROUTE, [resource("r", "2")])
    assert envoy.names() == [("Cluster", ["a"], []), ("ClusterLoadAssignment", ["a"], [])]
    envoy.answer()
    assert envoy.names() == []
    envoy.answer()
    assert envoy.names() == [("RouteConfiguration", ["r"], [])]


def test_an_unchanged_resource_is_not_sent_again() -> None:
    server = make_server()
    envoy = Envoy(server)
    start(envoy)
    assert not server.update(ROUTE, [resource("r")])
    assert envoy.names() == []


def test_an_envoy_that_comes_back_gets_the_difference_only() -> None:
    server = make_server()
    server.update(CLUSTER, [resource("b")])
    server.update(ENDPOINT, [resource("b", "2", "10.0.0.2")])
    envoy = Envoy(server)
    envoy.ask(CLUSTER, has={"a": "1", "b": "1", "old": "1"})
    envoy.ask(ENDPOINT, "a", "b", "old", has={"a": "1", "b": "1", "old": "1"})
    envoy.ask(LISTENER, has={"l": "1"})
    envoy.ask(ROUTE, "r", has={"r": "1"})
    assert envoy.connection.may_send_to("10.9.9.9"), "what it has of b is not known"
    assert envoy.names() == [("Cluster", [], []), ("ClusterLoadAssignment", ["b"], [])]
    envoy.answer_all()
    assert envoy.names() == [("Listener", [], []), ("RouteConfiguration", [], [])]
    envoy.answer_all()
    assert envoy.names() == [("Cluster", [], ["old"])]
    envoy.answer_all()
    envoy.connection.take(
        discovery_pb2.DeltaDiscoveryRequest(type_url=ENDPOINT, resource_names_unsubscribe=["old"])
    )
    assert envoy.connection.settled
    assert not envoy.connection.may_send_to("10.9.9.9")
    assert envoy.connection.may_send_to("10.0.0.2")


def test_an_address_counts_until_the_change_that_takes_it_is_acknowledged() -> None:
    server = make_server()
    envoy = Envoy(server)
    start(envoy)
    server.update(ENDPOINT, [resource("a", "2", "10.0.0.1", "10.0.0.2")])
    envoy.receive()
    server.update(ENDPOINT, [resource("a", "3", "10.0.0.1")])
    envoy.receive()
    assert server.may_send_to("10.0.0.2")
    envoy.answer()
    assert server.may_send_to("10.0.0.2")
    envoy.answer()
    assert not server.may_send_to("10.0.0.2")
    assert server.may_send_to("10.0.0.1")


def test_what_envoy_refuses_is_not_sent_again_and_said() -> None:
    server = make_server()
    envoy = Envoy(server)
    start(envoy)
    server.update(ROUTE, [resource("r", "2")])
    envoy.receive()
    envoy.answer(error="bad regex")
    assert envoy.connection.rejected == {ROUTE: "bad regex"}
    assert envoy.connection.settled
    held = envoy.connection.acknowledged(ROUTE, "r")
    assert held is not None
    assert held.version == "1"
    assert envoy.names() == []
    server.update(ROUTE, [resource("r", "1")])
    assert envoy.names() == [("RouteConfiguration", ["r"], [])]
    envoy.answer_all()
    assert envoy.connection.rejected == {}


def test_routes_do_not_wait_for_a_cluster_for_ever() -> None:
    server = make_server()
    envoy = Envoy(server)
    start(envoy)
    server.update(ENDPOINT, [resource("b")])
    server.update(CLUSTER, [resource("b")])
    server.update(ROUTE, [resource("r", "2")])
    envoy.receive()
    envoy.answer_all()
    envoy.now = PATIENCE + 1
    assert [type for type, _, _ in envoy.names()] == ["RouteConfiguration"]


def test_a_refused_listener_is_sent_again_and_again() -> None:
    server = make_server()
    envoy = Envoy(server)
    start(envoy)
    envoy.inbox.clear()
    server.update(LISTENER, [resource("l", "2"), resource("m")])
    for _ in range(3):
        assert envoy.names() == [("Listener", ["l", "m"], [])]
        envoy.answer("cannot bind")
        assert envoy.connection.rejected == {LISTENER: "cannot bind"}
        envoy.now += AGAIN - 0.1
        assert envoy.names() == []
        envoy.now += 0.2
    assert envoy.names() == [("Listener", ["l", "m"], [])]
    envoy.answer()
    assert not envoy.connection.rejected
    envoy.now += AGAIN + 1
    assert envoy.names() == []
    assert envoy.connection.settled


def test_a_listener_that_was_mended_meanwhile_is_sent_once() -> None:
    server = make_server()
    envoy = Envoy(server)
    start(envoy)
    envoy.inbox.clear()
    server.update(LISTENER, [resource("l", "2")])
    envoy.receive()
    envoy.answer("no such filter")
    server.update(LISTENER, [resource("l", "3")])
    assert envoy.names() == [("Listener", ["l"], [])]
    envoy.answer()
    envoy.now += AGAIN + 1
    assert envoy.names() == []
