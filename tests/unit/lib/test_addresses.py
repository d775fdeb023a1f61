"""Addresses of IPv6 and IPv4: to listen on, before a port, of peers."""

from __future__ import annotations

import socket

import pytest

from kedge.lib.addresses import any_address, bracket, canonical, has_port, join, make_bound, plain

needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")


def test_every_address_is_of_both_families_where_the_machine_has_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: True)
    assert any_address() == "::"
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    assert any_address() == "0.0.0.0"


@needs_ipv6
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_one_socket_is_reached_by_both(host: str) -> None:
    with make_bound("::", 0) as listening:
        listening.listen()
        with socket.create_connection((host, listening.getsockname()[1])):
            accepted, (peer, *_) = listening.accept()
            accepted.close()
    assert plain(peer) == host


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1"])
def test_one_family_only_where_that_is_asked_for(address: str) -> None:
    with make_bound(address, 0) as bound:
        assert (bound.family, bound.getsockname()[0]) == (socket.AF_INET, address)


def test_a_port_follows_the_brackets() -> None:
    assert join("10.0.0.1", 80) == "10.0.0.1:80"
    assert join("iris.default", 80) == "iris.default:80"
    assert join("fd00::1", 80) == "[fd00::1]:80"
    assert bracket("[fd00::1]") == "[fd00::1]"


@pytest.mark.parametrize("target", ["iris:80", "10.0.0.1:80", "[fd00::1]:80"])
def test_a_port_is_seen(target: str) -> None:
    assert has_port(target)


@pytest.mark.parametrize("target", ["iris", "10.0.0.1", "fd00::1", "[fd00::1]"])
def test_no_port_is_seen(target: str) -> None:
    assert not has_port(target)


def test_an_address_is_written_in_one_way() -> None:
    assert canonical("FD00:0:0::0001") == "fd00::1"
    assert canonical("10.0.0.1") == "10.0.0.1"
    assert canonical("a:b") == "a:b"


def test_a_peer_that_came_by_ipv4_has_an_address_of_ipv4() -> None:
    assert plain("::ffff:10.0.0.1") == "10.0.0.1"
    assert plain("::ffff:1") == "::ffff:1"
    assert plain("fd00::1") == "fd00::1"
