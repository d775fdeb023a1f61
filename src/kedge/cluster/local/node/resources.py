"""What containers may use, and GPUs handed out one by one."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from kedge.cluster.base import Object
from kedge.cluster.local.node.cgroups import Limits
from kedge.lib.quantity import parse_quantity

GPU = "nvidia.com/gpu"


def limits_of(container: Object) -> Limits:
    """The limits that are enforced."""
    resources = container.get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    request = requests.get("cpu", limits.get("cpu"))
    return Limits(
        memory=int(parse_quantity(limits["memory"])) if "memory" in limits else None,
        cpu=float(parse_quantity(limits["cpu"])) if "cpu" in limits else None,
        cpu_request=float(parse_quantity(request)) if request is not None else 0.1,
    )


def cpu_limit(container: Object) -> Decimal | None:
    limit = ((container.get("resources") or {}).get("limits") or {}).get("cpu")
    return parse_quantity(limit) if limit is not None else None


def gpus_wanted(container: Object) -> int:
    resources = container.get("resources") or {}
    amounts = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
    return int(parse_quantity(amounts.get(GPU, 0)))


class Gpus:
    """The GPUs of one node; each belongs to one container at most."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = tuple(ids)
        self._owners: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def take(self, uid: str, container: str, count: int) -> tuple[str, ...] | None:
        """The GPUs of a container; None when too few are free. The same ones when asked again."""
        owner = f"{uid}/{container}"
        had = [id for id in self._ids if self._owners.get(id) == owner]
        free = [id for id in self._ids if id not in self._owners]
        if len(had) + len(free) < count:
            return None
        chosen = (had + free)[:count]
        self.keep(uid, container, chosen)
        return tuple(chosen)

    def keep(self, uid: str, container: str, ids: Sequence[str]) -> None:
        """Go on with the GPUs that a container has."""
        for id in ids:
            self._owners[id] = f"{uid}/{container}"

    def release(self, uid: str) -> None:
        for id, owner in list(self._owners.items()):
            if owner.startswith(f"{uid}/"):
                del self._owners[id]
