"""What the status of Kedge's Gateway says: which listeners can be used, and by how many routes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from kedge.api.scheme import GATEWAY, GATEWAY_GROUP, HTTP_ROUTE
from kedge.cluster.base import Cluster, Object
from kedge.cluster.errors import ApiError
from kedge.gateway.certificates import Certificates, Wanted
from kedge.gateway.members import Members
from kedge.gateway.routes import parent_refs
from kedge.lib.clock import SYSTEM_CLOCK, Clock, format_time

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
_KINDS = [{"group": GATEWAY_GROUP, "kind": HTTP_ROUTE.kind}]
_SERVED = ("HTTP", "HTTPS")


def count_attached(gateway: Object, routes: Iterable[Object]) -> Counter[str]:
    """How many routes use each listener; the routes are all of this Gateway."""
    names = [str(one["name"]) for one in gateway["spec"].get("listeners") or ()]
    found: Counter[str] = Counter()
    for route in routes:
        sections = {ref.get("sectionName") for ref in parent_refs(route)}
        found.update(name for name in names if None in sections or name in sections)
    return found


def make_gateway_status(
    gateway: Object, wanted: Iterable[Wanted], attached: Counter[str], now: datetime
) -> dict[str, Any]:
    """The whole new status; what others wrote of it stays."""
    status = dict(gateway.get("status") or {})
    generation = gateway["metadata"].get("generation", 0)
    problems = {one.listener: one.problem for one in wanted}
    before = {one["name"]: one.get("conditions") or [] for one in status.get("listeners") or ()}

    def condition(
        type: str, reason: str, message: str, known: Iterable[dict[str, Any]], *, good: bool = True
    ) -> dict[str, Any]:
        value = "True" if good else "False"
        old = next((one for one in known if one["type"] == type), {})
        same = old.get("status") == value
        return {
            "type": type,
            "status": value,
            "reason": reason,
            "message": message,
            "observedGeneration": generation,
            "lastTransitionTime": old["lastTransitionTime"] if same else format_time(now),
        }

    def listener(declared: dict[str, Any]) -> dict[str, Any]:
        name = declared["name"]
        known = before.get(name, [])
        reason, message = problems.get(name, ("", ""))
        served = declared.get("protocol") in _SERVED
        refused = "" if served else f"Protocol {declared.get('protocol')} is not served."
        bad = refused or message
        return {
            "name": name,
            "attachedRoutes": attached[name],
            "supportedKinds": _KINDS,
            "conditions": [
                condition(
                    "Accepted", "UnsupportedProtocol" if refused else "Accepted", refused, known,
                    good=served,
                ),
                condition(
                    "ResolvedRefs", reason or "ResolvedRefs", message, known, good=not reason
                ),
                condition(
                    "Programmed", "Invalid" if bad else "Programmed", bad, known, good=not bad
                ),
            ],
        }  # fmt: skip

    told = status.get("conditions") or []
    ours = [
        condition("Accepted", "Accepted", "Kedge's gateway serves it.", told),
        condition("Programmed", "Programmed", "Its listeners that can be served are.", told),
    ]
    types = {one["type"] for one in ours}
    return {
        **status,
        "conditions": [*(one for one in told if one["type"] not in types), *ours],
        "listeners": [listener(one) for one in gateway["spec"].get("listeners") or ()],
    }


class GatewayStatus:
    """Writes it when it changed, if we are the replica that writes.

    Args:
        routes: gives the routes of the Gateway.
    """

    def __init__(
        self,
        cluster: Cluster,
        certificates: Certificates,
        members: Members,
        routes: Callable[[], Iterable[Object]],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._cluster = cluster
        self._certificates = certificates
        self._members = members
        self._routes = routes
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except (ApiError, OSError) as error:
                log.info("status of the Gateway: %s", error)
            await self._clock.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Write the status once, if it says something else now."""
        gateway = self._certificates.gateway
        if gateway is None or not self._members.writes:
            return
        attached = count_attached(gateway, self._routes())
        status = make_gateway_status(
            gateway, self._certificates.wanted, attached, self._clock.now()
        )
        if status != gateway.get("status"):
            await self._cluster.replace_status(GATEWAY, {**gateway, "status": status})
