"""Services taken apart, and kept apart while nothing has changed that they are made of.

A service that starts is looked at several times within seconds, because something became of its
children; what it asks for is the same each time.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

from kedge.api.inferenceservice.defaults import apply_defaults
from kedge.cluster.base import Cluster, Object
from kedge.controllers.inferenceservice.applier import Applications
from kedge.controllers.inferenceservice.assembly import plan_service
from kedge.controllers.inferenceservice.cache import Cache
from kedge.controllers.inferenceservice.components import ServicePlan
from kedge.controllers.inferenceservice.gathering import gather
from kedge.controllers.inferenceservice.surroundings import Surroundings
from kedge.reconcile.controller import Key
from kedge.settings.serving import ServingConfig

_REMEMBERED = 64
"""Services: as many as are under way at a time. Those that rest need not be known by heart."""


@dataclass(frozen=True)
class _Known:
    asked: tuple[object, ...]
    config: ServingConfig
    around: Surroundings
    plan: ServicePlan
    applied: Applications


class Planner:
    """Takes services apart.

    Args:
        cluster_domain: the domain of in-cluster names.
        namespace: where the configuration is.
    """

    def __init__(
        self, cluster: Cluster, cache: Cache, *, cluster_domain: str, namespace: str
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._cluster_domain = cluster_domain
        self._namespace = namespace
        self._known: OrderedDict[Key, _Known] = OrderedDict()

    async def plan(self, isvc: Object, config: ServingConfig) -> tuple[ServicePlan, Applications]:
        """What a service comes to with the settings of now, and what was applied of that."""
        metadata = isvc["metadata"]
        key, asked = Key(metadata["namespace"], metadata["name"]), _asked(isvc)
        known = self._known.get(key)
        if known is not None and (known.config is not config or known.asked != asked):
            known = None
        full = apply_defaults(isvc, config) if known is None else _renewed(known.plan.isvc, isvc)
        around = await gather(
            self._cluster,
            self._cache,
            full,
            config,
            cluster_domain=self._cluster_domain,
            home=self._namespace,
        )
        if known is not None and known.around == around:
            return replace(known.plan, isvc=full), known.applied
        plan, applied = plan_service(full, around, config), Applications()
        if not plan.errors:
            self._remember(key, _Known(asked, config, around, plan, applied))
        return plan, applied

    def forget(self, key: Key) -> None:
        self._known.pop(key, None)

    def _remember(self, key: Key, known: _Known) -> None:
        self._known[key] = known
        self._known.move_to_end(key)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


def _asked(isvc: Object) -> tuple[object, ...]:
    """All of a service that its plan is made of."""
    metadata = isvc["metadata"]
    given = (metadata.get(field) for field in ("uid", "generation", "labels", "annotations"))
    return (isvc.get("spec"), (isvc.get("status") or {}).get("deploymentMode"), *given)


def _renewed(full: Object, isvc: Object) -> Object:
    """`isvc` with the defaults of `full`, which asks for the same."""
    metadata = {**isvc["metadata"], "annotations": full["metadata"].get("annotations")}
    return {**isvc, "metadata": metadata, "spec": full["spec"]}
