"""The replicas of the gateway, and what each of them is for."""

from __future__ import annotations

from typing import Any

from kedge.gateway.members import Member, Members, choose_owner, read_members


def make_slice(
    *endpoints: tuple[str, str, dict[str, bool]], family: str = "IPv4"
) -> dict[str, Any]:
    return {
        "metadata": {"name": f"gateway-{family}", "namespace": "kedge"},
        "addressType": family,
        "ports": [{"name": "http", "port": 8888}, {"name": "peers", "port": 9445}],
        "endpoints": [
            {"addresses": [address], "targetRef": {"name": name}, "conditions": conditions}
            for name, address, conditions in endpoints
        ],
    }


READY = {"ready": True}


def test_endpoints_are_members() -> None:
    going = {"ready": False, "serving": True, "terminating": True}
    found = read_members(
        [make_slice(("b", "10.0.0.2", {"ready": False}), ("a", "10.0.0.1", READY)),
         make_slice(("a", "fd00::1", READY), ("c", "fd00::3", going), family="IPv6")]
    )  # fmt: skip
    assert [(one.name, one.address, one.ready, one.terminating) for one in found] == [
        ("a", "10.0.0.1", True, False),
        ("b", "10.0.0.2", False, False),
        ("c", "fd00::3", False, True),
    ]
    assert [one.address_of("IPv6") for one in found] == ["fd00::1", "", "fd00::3"]
    assert {one.local_port for one in found} == {8888}
    assert {one.peers_port for one in found} == {9445}


def member(name: str, *, ready: bool = True) -> Member:
    return Member(name, name, "IPv4", 8888, 9445, ready)


def test_the_first_ready_one_writes_and_one_alone_always_does() -> None:
    told = []
    members = Members("b")
    members.on_change(lambda: told.append(members.view))
    assert members.writes
    members.take((member("a"), member("b")))
    assert not members.writes
    members.take((member("a", ready=False), member("b")))
    assert members.writes
    assert list(members.others) == ["a"]
    assert members.ready_peers == []
    members.take((member("a"),))
    assert not members.writes
    assert members.mine is None
    members.take(())
    assert members.writes
    assert told == [("a", "b"), ("b",), ("a",), ("b",)]


def test_owners_are_spread_and_few_change() -> None:
    keys = [f"default/service-{number}" for number in range(600)]
    three = {key: choose_owner(key, "abc") for key in keys}
    assert all(150 < list(three.values()).count(name) < 250 for name in "abc")
    two = {key: choose_owner(key, "ab") for key in keys}
    assert all(two[key] == owner for key, owner in three.items() if owner != "c")
