"""What the status of a GatewayClass says whose Gateways are Kedge's to serve.

`supportedFeatures` is left out: a feature may be named only with all of the Gateway API's core
support for its kind, and of HTTPRoute's the filter `RequestRedirect` is not served.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kedge.api.scheme import GATEWAY_CLASS
from kedge.cluster.base import Cluster, Object
from kedge.gateway.conditions import Condition, write_conditions
from kedge.gateway.status import ACCEPTED, CONTROLLER
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.reconcile.informer import Informer


def make_class_status(found: Object, gateway: str, now: datetime) -> dict[str, Any]:
    """The whole new status; what others wrote of it stays."""
    status = found.get("status") or {}
    known = status.get("conditions") or []
    generation = found["metadata"].get("generation", 0)
    told = write_conditions([_judge(found, gateway)], generation, known, now)
    return {**status, "conditions": told}


def _judge(found: Object, gateway: str) -> Condition:
    if found["spec"].get("parametersRef"):
        message = "Kedge's gateway takes no parameters. Fix: Remove spec.parametersRef."
        return Condition(ACCEPTED, False, "InvalidParameters", message)
    message = f"Kedge's gateway serves Gateway {gateway}."
    return Condition(ACCEPTED, True, "Accepted", message)


class ClassStatus:
    """Writes it where it changed.

    Args:
        gateway: `namespace/name` of the one that is served.
    """

    def __init__(self, cluster: Cluster, gateway: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self._cluster = cluster
        self._gateway = gateway
        self._clock = clock
        self._classes = Informer(cluster, GATEWAY_CLASS, clock=clock)
        self.informers = (self._classes,)

    async def look(self) -> None:
        """Write what says something else now."""
        for found in self._classes.list():
            if found["spec"].get("controllerName") != CONTROLLER:
                continue
            status = make_class_status(found, self._gateway, self._clock.now())
            if status != found.get("status"):
                new = {**found, "status": status}
                written = await self._cluster.replace_status(GATEWAY_CLASS, new)
                self._classes.note_write(written)
