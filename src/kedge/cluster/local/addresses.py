"""Cluster addresses of Services.

They identify a Service to clients that ask for one; on this machine nothing listens there, as the
gateway and the pods' proxy know Services by name.
"""

from __future__ import annotations

import ipaddress
import random

from kedge.cluster.base import Object
from kedge.cluster.errors import Unavailable

_NETWORK = ipaddress.IPv4Network("10.96.0.0/16")
_RESERVED = 16


class ServiceAddresses:
    """Which cluster addresses are taken."""

    def __init__(self, services: list[Object]) -> None:
        self._taken = {service["spec"].get("clusterIP") for service in services}
        self._random = random.Random()

    def assign(self, service: Object, old: Object | None) -> None:
        """Give a Service that needs one an address; an update keeps the one it has."""
        spec = service.get("spec")
        if not isinstance(spec, dict):
            return
        if spec.get("type") == "ExternalName":
            return
        if old is not None and not spec.get("clusterIP"):
            spec["clusterIP"] = old["spec"].get("clusterIP", "")
        if not spec.get("clusterIP"):
            spec["clusterIP"] = self._free()
        if not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]

    def claim(self, service: Object) -> None:
        self._taken.add(service["spec"].get("clusterIP"))

    def release(self, service: Object) -> None:
        self._taken.discard(service["spec"].get("clusterIP"))

    def _free(self) -> str:
        last = _NETWORK.num_addresses - 2
        for _ in range(1000):
            address = str(_NETWORK[self._random.randint(_RESERVED, last)])
            if address not in self._taken:
                return address
        raise Unavailable(
            f"No cluster address is free in {_NETWORK}. Fix: Delete Services that nothing uses."
        )
