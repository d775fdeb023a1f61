"""What the status of Kedge's Gateway says: where it is reached, which of its listeners can be used,
and by how many routes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from kedge.api.scheme import GATEWAY, GATEWAY_GROUP, HTTP_ROUTE
from kedge.cluster.base import Cluster, Object
from kedge.gateway.addresses import Addresses, Whereabouts
from kedge.gateway.binding import SERVED_PROTOCOLS, is_http_route, takes_http_routes
from kedge.gateway.certificates import Reason, Wanted
from kedge.gateway.conditions import Condition, write_conditions
from kedge.gateway.ir import CompiledRoute
from kedge.gateway.served import ServedGateway
from kedge.lib.clock import SYSTEM_CLOCK, Clock

_KINDS = [{"group": GATEWAY_GROUP, "kind": HTTP_ROUTE.kind}]


def count_attached(routes: Iterable[CompiledRoute]) -> Counter[str]:
    """How many routes use each listener."""
    return Counter(name for route in routes for name in route.binding.listeners)


def make_gateway_status(
    gateway: Object,
    wanted: Iterable[Wanted],
    attached: Counter[str],
    where: Whereabouts | None,
    now: datetime,
) -> dict[str, Any]:
    """The whole new status; what others wrote of it stays, and where the Gateway is reached stays
    as it is while that is not known."""
    status = dict(gateway.get("status") or {})
    generation = gateway["metadata"].get("generation", 0)
    with_tls = {one.listener: one for one in wanted}
    before = {one["name"]: one.get("conditions") or [] for one in status.get("listeners") or ()}
    if where is not None:
        status.pop("addresses", None)
        if where.addresses:
            status["addresses"] = [dict(one) for one in where.addresses]
    told = _judge_gateway(where.missing if where is not None else "")
    return {
        **status,
        "conditions": write_conditions(told, generation, status.get("conditions") or [], now),
        "listeners": [
            {
                "name": one["name"],
                "attachedRoutes": attached[one["name"]],
                "supportedKinds": _KINDS if takes_http_routes(one) else [],
                "conditions": write_conditions(
                    _judge_listener(one, with_tls.get(one["name"])),
                    generation,
                    before.get(one["name"], []),
                    now,
                ),
            }
            for one in gateway["spec"].get("listeners") or ()
        ],
    }


def _judge_gateway(missing: str) -> list[Condition]:
    if missing:
        programmed = Condition("Programmed", False, "AddressNotAssigned", missing)
    else:
        message = "Its listeners that can be served are."
        programmed = Condition("Programmed", True, "Programmed", message)
    return [Condition("Accepted", True, "Accepted", "Kedge's gateway serves it."), programmed]


def _judge_listener(declared: Object, tls: Wanted | None) -> list[Condition]:
    protocol = declared.get("protocol")
    served = protocol in SERVED_PROTOCOLS and (tls is not None or protocol != "HTTPS")
    refused = "" if served else f"Protocol {protocol} is not served."
    problems = [*_judge_kinds(declared), *(tls.problems if tls is not None else ())]
    # With one good certificate of several it is served.
    unusable = tls is not None and not tls.served
    message = " ".join(text for _, text in problems)
    reason = problems[0][0] if problems else "ResolvedRefs"
    bad = refused or (message if unusable else "")
    accepted = "Accepted" if served else "UnsupportedProtocol"
    return [
        Condition("Accepted", served, accepted, refused),
        Condition("ResolvedRefs", not problems, reason, message),
        Condition("Programmed", not bad, "Invalid" if bad else "Programmed", bad),
    ]


def _judge_kinds(declared: Object) -> list[Reason]:
    kinds = (declared.get("allowedRoutes") or {}).get("kinds") or ()
    others = ", ".join(str(kind.get("kind")) for kind in kinds if not is_http_route(kind))
    return [("InvalidRouteKinds", f"Of kind {others} no routes are served.")] if others else []


class GatewayStatus:
    """Writes it when it changed.

    Args:
        routes: gives the routes of the Gateway.

    Attributes:
        informers: to be run for it.
        wakers: what it is worth to look after when they change.
    """

    def __init__(
        self,
        cluster: Cluster,
        served: ServedGateway,
        addresses: Addresses,
        routes: Callable[[], Iterable[CompiledRoute]],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._cluster = cluster
        self._served = served
        self._addresses = addresses
        self._routes = routes
        self._clock = clock
        self.informers = addresses.informers
        self.wakers = (*addresses.informers, *served.informers)

    async def look(self) -> None:
        """Write the status once, if it says something else now."""
        gateway = self._served.object
        if gateway is None:
            return
        certificates = self._served.certificates
        status = make_gateway_status(
            gateway,
            certificates.wanted if certificates is not None else (),
            count_attached(self._routes()),
            self._addresses.find(),
            self._clock.now(),
        )
        if status != gateway.get("status"):
            await self._cluster.replace_status(GATEWAY, {**gateway, "status": status})
