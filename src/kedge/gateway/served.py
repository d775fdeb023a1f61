"""The Gateway whose routes are served, and what its listeners depend on: Secrets and namespaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kedge.api.scheme import GATEWAY, NAMESPACE
from kedge.cluster.base import Cluster, EventType, Object
from kedge.gateway.binding import bind
from kedge.gateway.certificates import Certificates
from kedge.gateway.ir import Binding
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.reconcile.informer import Informer
from kedge.settings.gateway import GatewaySettings

NAME_LABEL = "kubernetes.io/metadata.name"
"""Every namespace has it."""


class ServedGateway:
    """Follows the Gateway.

    Attributes:
        certificates: for HTTPS; None where there is no port for it.
        informers: all that must be read before a route can be judged.
    """

    def __init__(
        self, cluster: Cluster, settings: GatewaySettings, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._name = settings.gateway
        self._place = tuple(settings.gateway.split("/"))
        self._gateways = Informer(cluster, GATEWAY, namespace=self._place[0], clock=clock)
        self._namespaces = Informer(cluster, NAMESPACE, clock=clock)
        self.certificates = (
            Certificates(cluster, self._gateways, self._name, settings.tls_folder, clock)
            if settings.https_port is not None
            else None
        )
        self.informers = [self._gateways]
        if self.certificates is not None:
            self.informers += self.certificates.informers
        # Who may read one namespace alone knows of the others nothing but their names.
        if not settings.served_namespace:
            self.informers.append(self._namespaces)
        self._listeners: list[Callable[[str], None]] = []

    @property
    def object(self) -> Object | None:
        """As last seen; None while there is none."""
        return self._gateways.get(*self._place)

    def bind(self, route: Object) -> Binding:
        """What the listeners make of a route."""
        return bind(route, self._name, self.object, self._labels)

    def _labels(self, namespace: str) -> Mapping[str, str]:
        found = self._namespaces.get(None, namespace)
        labels = (found["metadata"].get("labels") if found else None) or {}
        return {NAME_LABEL: namespace, **labels}

    def on_change(self, handler: Callable[[str], None]) -> None:
        """Call `handler(namespace)` when routes of a namespace may be bound elsewhere than before;
        of any namespace, if it is empty."""
        self._listeners.append(handler)

    def follow(self) -> None:
        """Tell of changes from now on."""
        if self.certificates is not None:
            self.certificates.follow()
        self._gateways.on_change(self._on_gateway)
        self._namespaces.on_change(self._on_namespace)

    def _on_gateway(self, type: EventType, obj: Object, old: Object | None) -> None:
        if obj["metadata"]["name"] != self._place[1]:
            return
        changed = old is None or type is EventType.DELETED or old["spec"] != obj["spec"]
        if changed:
            self._tell("")

    def _on_namespace(self, type: EventType, obj: Object, old: Object | None) -> None:
        before = old["metadata"].get("labels") if old is not None else None
        if type is not EventType.DELETED and before != obj["metadata"].get("labels"):
            self._tell(obj["metadata"]["name"])

    def _tell(self, namespace: str) -> None:
        for handler in self._listeners:
            handler(namespace)
