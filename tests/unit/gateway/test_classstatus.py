"""Kedge's GatewayClass is accepted; that of another controller is its own affair."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kedge.api.scheme import GATEWAY_CLASS
from kedge.cluster.local.admission import AdmitAll
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.store import Store
from kedge.gateway.classstatus import ClassStatus, make_class_status

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2026, 1, 2, tzinfo=UTC)
GATEWAY = "kedge/kedge-gateway"


def make_class(name: str, controller: str = "kedge.dev/gateway", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": GATEWAY_CLASS.api_version,
        "kind": GATEWAY_CLASS.kind,
        "metadata": {"name": name},
        "spec": {"controllerName": controller, **spec},
    }


def test_it_is_accepted_for_its_generation() -> None:
    found = make_class("kedge")
    found["metadata"]["generation"] = 3
    theirs = {"type": "Theirs", "status": "True", "reason": "R", "message": ""}
    waiting = {
        "type": "Accepted", "status": "Unknown", "reason": "Pending", "message": "",
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    }  # fmt: skip
    found["status"] = {"conditions": [waiting, theirs]}
    status = make_class_status(found, GATEWAY, NOW)
    accepted, kept = status["conditions"]
    assert kept == theirs
    assert (accepted["status"], accepted["observedGeneration"]) == ("True", 3)
    assert accepted["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    # Nobody supports all of what these names would promise.
    assert "supportedFeatures" not in status
    assert make_class_status({**found, "status": status}, GATEWAY, LATER) == status


def test_parameters_are_refused() -> None:
    parameters = {"group": "x", "kind": "Y", "name": "z"}
    (told,) = make_class_status(make_class("k", parametersRef=parameters), GATEWAY, NOW)[
        "conditions"
    ]
    assert (told["status"], told["reason"]) == ("False", "InvalidParameters")


@pytest.fixture
def cluster() -> LocalCluster:
    return LocalCluster(Store(":memory:"), AdmitAll())


async def test_it_is_written_once_and_only_where_it_is_ours(cluster: LocalCluster) -> None:
    for made in (make_class("kedge"), make_class("other", "example.com/other")):
        await cluster.create(GATEWAY_CLASS, made)
    writer = ClassStatus(cluster, GATEWAY)
    (classes,) = writer.informers
    await classes._relist()
    await writer.look()
    ours = await cluster.get(GATEWAY_CLASS, "kedge")
    assert [one["type"] for one in ours["status"]["conditions"]] == ["Accepted"]
    assert not (await cluster.get(GATEWAY_CLASS, "other")).get("status")
    # What was just written is known; at rest nothing is.
    await writer.look()
    await classes._relist()
    await writer.look()
    assert await cluster.get(GATEWAY_CLASS, "kedge") == ours
