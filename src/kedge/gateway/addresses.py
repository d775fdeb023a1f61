"""Where clients reach the gateway, as its Service tells. Pure but for the cache.

A Service that waits for a load balancer's address has none, and the Gateway is not `Programmed`
(`AddressNotAssigned`): that is what the Gateway API has the reason for, what other implementations
say, and what whoever waits for `Programmed` wants to wait for. The cluster IP is not told instead,
though it is answered: what makes DNS records of a Gateway's addresses would publish it in the
minutes until the balancer is there. Where none will ever come, as in kind or on bare metal without
one, the message says what answers meanwhile and which type of Service to choose; routes, services
and listeners do not depend on it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kedge.api.scheme import SERVICE
from kedge.cluster.base import Cluster, Object
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.reconcile.informer import Informer
from kedge.settings.gateway import GatewaySettings

_MOST = 16
"""As many addresses as a Gateway's status takes."""


@dataclass(frozen=True)
class Whereabouts:
    """Where the gateway is reached.

    Attributes:
        addresses: as the status of a Gateway has them.
        missing: why there is none that there should be; else empty.
    """

    addresses: tuple[dict[str, str], ...] = ()
    missing: str = ""


def read_service(service: Object | None) -> Whereabouts:
    """Where a Service is reached, from outside the cluster if it is for that."""
    if service is None:
        return Whereabouts()
    spec = service.get("spec", {})
    balancer = (service.get("status") or {}).get("loadBalancer") or {}
    outside = [one.get("ip") or one.get("hostname") for one in balancer.get("ingress") or ()]
    outside += spec.get("externalIPs") or ()
    inside = [one for one in _cluster_ips(spec) if one not in ("", "None")]
    if spec.get("type") == "LoadBalancer" and not any(outside):
        return Whereabouts(missing=_say_missing(service, inside))
    return Whereabouts(_write(outside if any(outside) else inside))


def _cluster_ips(spec: Mapping[str, Any]) -> list[str]:
    return list(spec.get("clusterIPs") or [spec.get("clusterIP") or ""])


def _say_missing(service: Object, inside: Iterable[str]) -> str:
    metadata = service["metadata"]
    answered = ", ".join(inside)
    return (
        f"Service {metadata['namespace']}/{metadata['name']} has no address of a load balancer yet"
        f"{f'; inside the cluster {answered} is answered' if answered else ''}."
        " Fix: If the cluster has no load balancers, install with gateway.serviceType NodePort or"
        " ClusterIP."
    )


def _write(found: Iterable[str | None]) -> tuple[dict[str, str], ...]:
    values = dict.fromkeys(one.lower() for one in found if one)
    return tuple({"type": _type_of(one), "value": one} for one in values)[:_MOST]


def _type_of(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return "Hostname"
    return "IPAddress"


class Addresses:
    """Follows the Service that leads clients to the gateway; where there is none, clients reach its
    listeners themselves."""

    def __init__(
        self, cluster: Cluster, settings: GatewaySettings, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._host = settings.host
        self._namespace, _, self._name = settings.service.partition("/")
        self._services = Informer(
            cluster,
            SERVICE,
            namespace=self._namespace,
            fields=f"metadata.name={self._name}",
            clock=clock,
        )
        self.informers = (self._services,) if self._name else ()

    def find(self) -> Whereabouts | None:
        """Where the gateway is reached; None as long as that is not known."""
        if not self._name:
            return Whereabouts(_write([self._host]))
        if not self._services.synced.is_set():
            return None
        return read_service(self._services.get(self._namespace, self._name))
