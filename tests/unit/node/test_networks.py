"""Networks of pods' addresses, and who is at the end of a connection within the machine."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path

import pytest

from kedge.cluster.local.node import loopback
from kedge.cluster.local.node.addresses import NETWORKS, Addresses, choose_network, room
from kedge.cluster.local.node.loopback import NetworkRefused, PodNetwork
from kedge.cluster.local.node.peers import owner_of

SMALL = ipaddress.IPv4Network("198.18.9.0/29")


def test_pods_get_all_addresses_of_their_network_but_the_nodes(tmp_path: Path) -> None:
    addresses = Addresses(tmp_path, SMALL)
    taken = {addresses.take(str(number)) for number in range(room(SMALL))}
    assert taken == {f"198.18.9.{number}" for number in range(2, 7)}
    addresses.release("0")
    assert addresses.take("again") in taken


def test_a_network_is_chosen_by_the_folder(tmp_path: Path) -> None:
    first = choose_network(tmp_path / "a")
    assert first.subnet_of(NETWORKS)
    assert first == choose_network(tmp_path / "a")
    assert len({choose_network(tmp_path / str(number)) for number in range(20)}) > 15


def test_who_may_not_change_the_machine_is_told_what_root_has_to_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(loopback, "_change", refuse)
    monkeypatch.setattr(loopback, "port_is_free", lambda *_: False)
    with pytest.raises(NetworkRefused, match=r"ip address add 198\.18\.9\.1/29 dev lo"):
        PodNetwork(SMALL).open()
    # Root has said it: all is well, and it is not ours to take back.
    monkeypatch.setattr(loopback, "port_is_free", lambda *_: True)
    network = PodNetwork(SMALL)
    network.open()
    network.close()


def test_the_owner_of_a_connection_is_known() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        with client, accepted:
            ends = client.getsockname(), server.getsockname()
            assert owner_of(*ends) == os.geteuid()
            assert owner_of(ends[0], ("127.0.0.1", 1)) is None


def test_connections_of_v6_sockets_are_known(tmp_path: Path) -> None:
    mapped = "0000000000000000FFFF0000{}:{}"
    line = "  0: {} {} 01 00000000:00000000 00:00000000 00000000 1234 0 99"
    places = mapped.format("0109120A", "1F90"), mapped.format("0109120B", "280A")
    (tmp_path / "tcp6").write_text("header\n" + line.format(*places) + "\n")
    if socket.ntohl(1) != 1:  # The words above are of a little-endian machine.
        client, server = ("10.18.9.1", 8080), ("11.18.9.1", 10250)
        assert owner_of(client, server, tmp_path) == 1234
