"""What the Gateway's own status says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from tests.unit.gateway.objects import make_http_route, make_rule

from kedge.gateway.addresses import Whereabouts
from kedge.gateway.certificates import Wanted
from kedge.gateway.ir import Binding
from kedge.gateway.ownstatus import (
    count_attached,
    make_gateway_status,
)
from kedge.gateway.routes import compile_route

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2026, 1, 2, tzinfo=UTC)
BROKEN = ("InvalidCertificateRef", "Secret kedge/b: It does not exist.")
HERE = Whereabouts(({"type": "IPAddress", "value": "10.96.0.7"},))


def make_gateway() -> dict[str, Any]:
    return {
        "metadata": {"name": "kedge-gateway", "namespace": "kedge", "generation": 3},
        "spec": {
            "listeners": [
                {"name": "http", "protocol": "HTTP"},
                {"name": "https", "protocol": "HTTPS"},
                {"name": "raw", "protocol": "TCP"},
            ]
        },
    }


def make_status(
    gateway: dict[str, Any],
    wanted: Iterable[Wanted] = (),
    where: Whereabouts | None = HERE,
    now: datetime = NOW,
) -> dict[str, Any]:
    return make_gateway_status(gateway, wanted, Counter(http=2), where, now)


def conditions(status: dict[str, Any], listener: str) -> dict[str, tuple[str, str, str]]:
    (found,) = [one for one in status["listeners"] if one["name"] == listener]
    return {
        one["type"]: (one["status"], one["reason"], one["lastTransitionTime"])
        for one in found["conditions"]
    }


def test_listeners_say_whether_they_can_be_used() -> None:
    gateway = make_gateway()
    status = make_status(gateway, [Wanted("https", "", ("b",), (BROKEN,))])
    assert {one["type"]: one["status"] for one in status["conditions"]} == {
        "Accepted": "True", "Programmed": "True",
    }  # fmt: skip
    assert {one["observedGeneration"] for one in status["conditions"]} == {3}
    assert [one["attachedRoutes"] for one in status["listeners"]] == [2, 0, 0]
    stamp = "2026-01-01T00:00:00Z"
    assert conditions(status, "http")["Programmed"] == ("True", "Programmed", stamp)
    assert conditions(status, "https")["ResolvedRefs"] == ("False", "InvalidCertificateRef", stamp)
    assert conditions(status, "https")["Programmed"][0] == "False"
    assert conditions(status, "raw")["Accepted"] == ("False", "UnsupportedProtocol", stamp)
    # Only what changes has a new time.
    good = Wanted("https", "", ("b",), served=True)
    again = make_status({**gateway, "status": status}, [good], now=LATER)
    assert conditions(again, "http")["Programmed"][2] == stamp
    assert conditions(again, "https")["Programmed"] == (
        "True", "Programmed", "2026-01-02T00:00:00Z",
    )  # fmt: skip


def test_a_bad_certificate_among_good_ones_is_told_and_the_listener_served() -> None:
    status = make_status(make_gateway(), [Wanted("https", "", ("a", "b"), (BROKEN,), served=True)])
    found = conditions(status, "https")
    assert found["ResolvedRefs"][:2] == ("False", "InvalidCertificateRef")
    assert found["Programmed"][:2] == ("True", "Programmed")


def test_https_without_a_port_for_it_is_not_served() -> None:
    found = conditions(make_status(make_gateway()), "https")
    assert (found["Accepted"][1], found["Programmed"][0]) == ("UnsupportedProtocol", "False")


def test_routes_of_other_kinds_are_not_served() -> None:
    gateway = make_gateway()
    http = gateway["spec"]["listeners"][0]
    for kinds, supported in (
        ([{"kind": "GRPCRoute"}], 0), ([{"kind": "HTTPRoute"}, {"kind": "TCPRoute"}], 1),
    ):  # fmt: skip
        http["allowedRoutes"] = {"kinds": kinds}
        status = make_status(gateway)
        assert conditions(status, "http")["ResolvedRefs"][:2] == ("False", "InvalidRouteKinds")
        assert len(status["listeners"][0]["supportedKinds"]) == supported


def programmed(status: dict[str, Any]) -> tuple[str, str]:
    (found,) = [one for one in status["conditions"] if one["type"] == "Programmed"]
    return found["status"], found["reason"]


def test_it_says_where_it_is_reached() -> None:
    gateway = make_gateway()
    status = gateway["status"] = make_status(gateway)
    assert status["addresses"] == [{"type": "IPAddress", "value": "10.96.0.7"}]
    assert programmed(status) == ("True", "Programmed")
    # Unknown for a moment: what was said stays.
    assert make_status(gateway, where=None) == status
    waiting = make_status(gateway, where=Whereabouts(missing="It has none yet."))
    assert "addresses" not in waiting
    assert programmed(waiting) == ("False", "AddressNotAssigned")
    assert "addresses" not in make_status(gateway, where=Whereabouts())


def test_at_rest_nothing_is_written_and_nothing_of_others_moved() -> None:
    gateway = make_gateway()
    theirs = {"type": "Theirs", "status": "True", "reason": "R", "message": ""}
    gateway["status"] = {"conditions": [theirs], "theirs": 1}
    status = make_status(gateway)
    assert (status["conditions"][0], status["theirs"]) == (theirs, 1)
    assert make_status({**gateway, "status": status}, now=LATER) == status


def test_routes_are_attached_where_they_are_bound() -> None:
    route = make_http_route("one", make_rule("iris"))
    routes = [
        compile_route(route, lambda *_: None, Binding(listeners))
        for listeners in (("http", "https"), ("http",))
    ]
    assert count_attached(routes) == {"http": 2, "https": 1}
