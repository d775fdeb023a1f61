"""What pods ask for, and what they leave of a node."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from kedge.cluster.base import Object
from kedge.cluster.local.workloads.pods import has_ended
from kedge.lib.quantity import format_bytes, parse_quantity

PODS = "pods"
_BYTES = ("memory", "ephemeral-storage")

Amounts = Mapping[str, Decimal]


def requests_of(pod: Object) -> dict[str, Decimal]:
    """What the node must have free for this pod, itself included."""
    spec = pod.get("spec") or {}
    running: dict[str, Decimal] = {}
    starting: dict[str, Decimal] = {}
    for container in spec.get("initContainers") or ():
        asked = _asked(container)
        if container.get("restartPolicy") == "Always":
            running = _plus(running, asked)
            asked = dict(running)
        else:
            asked = _plus(running, asked)
        starting = {
            name: max(starting.get(name, Decimal(0)), asked.get(name, Decimal(0)))
            for name in {*starting, *asked}
        }
    for container in spec.get("containers") or ():
        running = _plus(running, _asked(container))
    total = {
        name: max(running.get(name, Decimal(0)), starting.get(name, Decimal(0)))
        for name in {*running, *starting}
    }
    total = _plus(total, _parsed(spec.get("overhead") or {}))
    return {**{name: amount for name, amount in total.items() if amount}, PODS: Decimal(1)}


def allocatable_of(node: Object) -> dict[str, Decimal]:
    status = node.get("status") or {}
    return _parsed(status.get("allocatable") or status.get("capacity") or {})


def format_amount(resource: str, amount: Decimal) -> str:
    """An amount for people: `1500m`, `2Gi`, `3`."""
    if resource in _BYTES:
        return format_bytes(int(amount))
    if amount == amount.to_integral_value():
        return str(int(amount))
    return f"{int(amount * 1000)}m"


class Usage:
    """What the pods on every node ask for; kept as pods come, change and go."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], tuple[str, dict[str, Decimal]]] = {}
        self._totals: dict[str, dict[str, Decimal]] = {}

    def put(self, pod: Object) -> bool:
        """Count a pod as it is now; whether that made anything free."""
        freed = self.remove(pod)
        node = (pod.get("spec") or {}).get("nodeName")
        if not node or has_ended(pod):
            return freed
        held = requests_of(pod)
        metadata = pod["metadata"]
        self._held[metadata["namespace"], metadata["name"]] = node, held
        self._totals[node] = _plus(self._totals.get(node, {}), held)
        return False

    def remove(self, pod: Object) -> bool:
        """Forget a pod; whether it was counted."""
        metadata = pod["metadata"]
        found = self._held.pop((metadata["namespace"], metadata["name"]), None)
        if found is None:
            return False
        node, held = found
        totals = self._totals[node]
        for name, amount in held.items():
            totals[name] -= amount
        return True

    def on(self, node: str) -> Amounts:
        return self._totals.get(node, {})

    def holders(self, node: str, resource: str) -> list[tuple[str, Decimal]]:
        """Pods, as namespace/name, that hold a resource of a node; the largest first."""
        found = [
            (f"{namespace}/{name}", held[resource])
            for (namespace, name), (where, held) in self._held.items()
            if where == node and held.get(resource)
        ]
        return sorted(found, key=lambda one: (-one[1], one[0]))


def _asked(container: Mapping[str, Any]) -> dict[str, Decimal]:
    resources = container.get("resources") or {}
    return _parsed({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def _parsed(amounts: Mapping[str, Any]) -> dict[str, Decimal]:
    return {name: parse_quantity(amount) for name, amount in amounts.items()}


def _plus(one: Amounts, other: Amounts) -> dict[str, Decimal]:
    nothing = Decimal(0)
    return {name: one.get(name, nothing) + other.get(name, nothing) for name in {*one, *other}}
