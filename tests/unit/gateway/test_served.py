"""What is told of when the Gateway or a namespace changes, and what is known of namespaces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.gateway.objects import make_http_route, make_rule

from kedge.api.scheme import GATEWAY, NAMESPACE
from kedge.cluster.local.admission import AdmitAll
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.store import Store
from kedge.gateway.served import NAME_LABEL, ServedGateway
from kedge.settings.gateway import GatewaySettings


def make_gateway(selector: dict[str, str], name: str = "kedge-gateway") -> dict[str, Any]:
    allowed = {"namespaces": {"from": "Selector", "selector": {"matchLabels": selector}}}
    listener = {"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": allowed}
    return {
        "apiVersion": GATEWAY.api_version,
        "kind": GATEWAY.kind,
        "metadata": {"name": name, "namespace": "kedge"},
        "spec": {"gatewayClassName": "kedge", "listeners": [listener]},
    }


class Watched:
    """A cluster, what is served of it, and what was told."""

    def __init__(self, served_namespace: str = "") -> None:
        self.cluster = LocalCluster(Store(":memory:"), AdmitAll())
        settings = GatewaySettings(
            xds_socket=Path("/x"), admin_socket=Path("/a"), served_namespace=served_namespace
        )
        self.served = ServedGateway(self.cluster, settings)
        self.told: list[str] = []

    async def start(self) -> None:
        await self.look()
        self.served.on_change(self.told.append)
        self.served.follow()
        self.told.clear()

    async def look(self) -> None:
        for informer in self.served.informers:
            await informer._relist()

    @property
    def taken(self) -> bool:
        return bool(self.served.bind(make_http_route("r", make_rule("iris"))).listeners)


async def test_routes_are_bound_by_the_labels_of_their_namespace() -> None:
    it = Watched()
    await it.cluster.apply(GATEWAY, make_gateway({"team": "a"}))
    await it.start()
    assert not it.taken
    labels = {"metadata": {"labels": {"team": "a"}}}
    await it.cluster.patch(NAMESPACE, "default", labels)
    await it.look()
    assert (it.taken, it.told) == (True, ["default"])
    await it.cluster.apply(GATEWAY, make_gateway({"team": "b"}))
    await it.look()
    assert (it.taken, it.told) == (False, ["default", ""])
    # Of its status, and of another Gateway, nothing is told.
    status = {"addresses": [{"type": "IPAddress", "value": "127.0.0.1"}]}
    await it.cluster.replace_status(GATEWAY, {**(it.served.object or {}), "status": status})
    await it.cluster.apply(GATEWAY, make_gateway({}, "another"))
    await it.look()
    assert it.told == ["default", ""]
    # Without it every route is taken.
    await it.cluster.delete(GATEWAY, "kedge-gateway", "kedge")
    await it.look()
    assert (it.taken, it.told) == (True, ["default", "", ""])


@pytest.mark.parametrize(("selector", "taken"), [({NAME_LABEL: "default"}, True),
                                                 ({"team": "a"}, False)])  # fmt: skip
async def test_who_serves_one_namespace_knows_their_names(
    selector: dict[str, str], taken: bool
) -> None:
    it = Watched(served_namespace="default")
    await it.cluster.apply(GATEWAY, make_gateway(selector))
    await it.start()
    assert NAMESPACE not in [informer.kind for informer in it.served.informers]
    assert it.taken is taken
