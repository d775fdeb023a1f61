"""What the Gateway's own status says."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from tests.unit.gateway.objects import make_http_route, make_rule

from kedge.gateway.certificates import Wanted
from kedge.gateway.ownstatus import count_attached, make_gateway_status

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2026, 1, 2, tzinfo=UTC)


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


def conditions(status: dict[str, Any], listener: str) -> dict[str, tuple[str, str, str]]:
    (found,) = [one for one in status["listeners"] if one["name"] == listener]
    return {
        one["type"]: (one["status"], one["reason"], one["lastTransitionTime"])
        for one in found["conditions"]
    }


def test_listeners_say_whether_they_can_be_used() -> None:
    gateway = make_gateway()
    broken = Wanted("https", "", "wildcard", ("InvalidCertificateRef", "It does not exist."))
    status = make_gateway_status(gateway, [broken], Counter(http=2), NOW)
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
    again = make_gateway_status(
        {**gateway, "status": status}, [Wanted("https", "", "wildcard")], Counter(http=2), LATER
    )
    assert conditions(again, "http")["Programmed"][2] == stamp
    assert conditions(again, "https")["Programmed"] == (
        "True", "Programmed", "2026-01-02T00:00:00Z",
    )  # fmt: skip


def test_routes_are_attached_where_they_are_bound() -> None:
    everywhere, bound = (make_http_route(name, make_rule("iris")) for name in ("one", "two"))
    bound["spec"]["parentRefs"][0]["sectionName"] = "http"
    assert count_attached(make_gateway(), [everywhere, bound]) == {"http": 2, "https": 1, "raw": 1}
