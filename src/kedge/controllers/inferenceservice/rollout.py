"""What both deployment modes have in common: the state of one reconcile, and of one component.

A mode makes workloads and says which Services shall answer for each component; what is here looks
at what became of them and moves the requests when they can be answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from kedge.api.scheme import DEPLOYMENT, HTTP_ROUTE, POD, SERVICE
from kedge.cluster.base import Object
from kedge.controllers.inferenceservice import names
from kedge.controllers.inferenceservice.applier import Applier
from kedge.controllers.inferenceservice.cache import Cache, is_owned
from kedge.controllers.inferenceservice.causes import Cause, Scene, find_cause
from kedge.controllers.inferenceservice.children.httproute import (
    Backend,
    Shadow,
    backends_of,
    services_in,
)
from kedge.controllers.inferenceservice.children.service import Ports, ports_of
from kedge.controllers.inferenceservice.components import Component, ServicePlan, Warned
from kedge.controllers.inferenceservice.names import ComponentKind
from kedge.controllers.inferenceservice.observe import (
    READY,
    Verdict,
    Workload,
    route_verdict,
)
from kedge.controllers.inferenceservice.pins import ModelPins
from kedge.controllers.inferenceservice.routing import Decision, decide
from kedge.controllers.inferenceservice.traffic import Rollout, Target
from kedge.reconcile.controller import Key
from kedge.settings.revisions import RevisionConfig


@dataclass
class CanaryState:
    """A canary variant of Standard mode; ready is also one at zero whose pods were ready once."""

    component: Component
    workload: Workload
    ready: bool
    cause: Cause | None = None


@dataclass
class Outcome:
    """What became of one component in this reconcile.

    Attributes:
        component: what was asked for.
        focus: the workload that was asked for last; its pods tell how the model fares.
        workloads: all its workloads.
        decision: which Services answer now.
        settled: the shares are what was asked for.
        verdict: whether the workloads are ready.
        cause: why not.
        routes: routes besides those that every component has.
        rollout: revisions and their roles, in Knative mode.
        targets: shares of revisions, in Knative mode.
        asked: revisions that shall have a share in the end.
        canaries: variants, in Standard mode.
        started: the revision created in this reconcile; empty for none.
        warnings: what was asked for and could not be had.
        gradual: how far a gradual rollout is, as stored; empty for none.
        waiting: why requests do not move yet; empty when nothing needs saying.
        activatable: whether a request is held while there is no pod.
        causes: why workloads cannot start, by name; those that can are not in it.
        look_again: seconds after which something is due.
    """

    component: Component
    focus: Workload
    workloads: list[Workload]
    decision: Decision = field(default_factory=lambda: Decision(()))
    settled: bool = True
    verdict: Verdict = READY
    cause: Cause | None = None
    routes: list[Object] = field(default_factory=list)
    rollout: Rollout = field(default_factory=Rollout)
    targets: list[Target] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    canaries: list[CanaryState] = field(default_factory=list)
    started: str = ""
    warnings: list[Warned] = field(default_factory=list)
    gradual: str = ""
    waiting: str = ""
    activatable: bool = False
    causes: dict[str, Cause] = field(default_factory=dict)
    look_again: float | None = None

    def again_in(self, seconds: float) -> None:
        """Have the service looked at again by then."""
        self.look_again = seconds if self.look_again is None else min(self.look_again, seconds)

    @property
    def all_workloads(self) -> list[Workload]:
        return [*self.workloads, *(canary.workload for canary in self.canaries)]

    @property
    def concerning(self) -> list[Workload]:
        """The workloads by which the component is judged, the one asked for last first."""
        listed = [self.focus, *(w for w in self.workloads if w is not self.focus)]
        if not self.targets:
            return listed
        carrying = {target.revision for target in self.targets if target.percent > 0} | self.asked
        if not self.focus.proven:
            carrying.add(self.focus.name)
        return [workload for workload in listed if workload.name in carrying]

    def shadows(self, percent: int) -> list[Shadow]:
        """Copies of requests to what was asked for last, or a variant, while it has no share."""
        focus = [self.focus, *(canary.workload for canary in self.canaries)]
        candidates = {name for w in focus for name in (w.name, names.private_service(w.name))}
        backends = self.decision.backends
        beside = [backend for backend in backends if backend.weight > 0]
        return [
            Shadow(backend, beside, percent)
            for backend in backends
            if percent and beside and backend.weight == 0 and backend.service in candidates
        ]

    @property
    def copies(self) -> int:
        return sum(len(workload.ready_pods) for workload in self.workloads)


class Scope:
    """One InferenceService while it is being reconciled: its plan, and what is there of it."""

    def __init__(
        self,
        plan: ServicePlan,
        cache: Cache,
        applier: Applier,
        now: datetime,
        config: RevisionConfig,
        keeper: ModelPins,
    ) -> None:
        self.plan = plan
        self.cache = cache
        self.applier = applier
        self.now = now
        self.config = config
        self.keeper = keeper
        self.key = Key(plan.namespace, plan.name)

    @cached_property
    def deployments(self) -> list[Object]:
        return self._owned(self.cache.of_service(DEPLOYMENT, self.key))

    @cached_property
    def services(self) -> list[Object]:
        return self._owned(self.cache.of_service(SERVICE, self.key))

    @cached_property
    def routes(self) -> list[Object]:
        return self._owned(self.cache.of_service(HTTP_ROUTE, self.key))

    @cached_property
    def pods(self) -> list[Object]:
        return self.cache.of_service(POD, self.key)

    def _owned(self, objects: Sequence[Object]) -> list[Object]:
        return [
            obj
            for obj in objects
            if is_owned(obj, self.plan.isvc) and not obj["metadata"].get("deletionTimestamp")
        ]

    def workload(self, deployment: Object) -> Workload:
        """A Deployment with the pods that it selects."""
        selector = deployment["spec"]["selector"]["matchLabels"]
        pods = [pod for pod in self.pods if _has_labels(pod, selector)]
        return Workload(deployment, pods)

    def activatable_service(self, workload: str) -> Object | None:
        """The Service of a workload's pods, where the gateway holds requests for them."""
        for service in self.services:
            metadata = service["metadata"]
            held = (metadata.get("labels") or {}).get(names.ACTIVATION) == "true"
            if held and metadata["name"] in (names.private_service(workload), workload):
                return service
        return None

    def route(self, name: str) -> Object | None:
        return next((r for r in self.routes if r["metadata"]["name"] == name), None)

    @cached_property
    def ports(self) -> dict[str, Ports]:
        """Ports of the Services that are there."""
        return {
            str(service["metadata"]["name"]): ports_of(service)
            for service in self.services
            if names.ENDPOINTS_LABEL not in (service["metadata"].get("labels") or {})
        }

    @property
    def acknowledged(self) -> bool:
        """Whether the gateway answers by the routes as they are, those to single ones aside."""
        return all(
            route_verdict(route).ok
            for route in self.routes
            if (route["metadata"].get("labels") or {}).get(names.ROUTE_ROLE_LABEL) != "single"
        )

    @cached_property
    def known_services(self) -> set[str]:
        """Services that the gateway answers from on some route."""
        known: set[str] = set()
        for route in self.routes:
            if route_verdict(route).ok:
                known |= {
                    str(ref["name"])
                    for rule in route["spec"].get("rules") or ()
                    for ref in rule.get("backendRefs") or ()
                    if int(ref.get("weight", 1)) > 0
                }
        return known

    def current_backends(self, component: Component) -> list[Backend]:
        """The Services that answer for a component now, as its routes say."""
        route = self.route(component.name)
        if route is None and component.kind is self.plan.entry:
            route = self.route(self.plan.name)
        if route is None:
            return []
        return backends_of(route, self.ports)

    def decide(
        self,
        component: Component,
        desired: Sequence[Backend],
        answering: set[str],
        able: set[str],
    ) -> Decision:
        current = self.current_backends(component)
        return decide(current, desired, answering, able, self.known_services)

    def fails(self, workload: Workload, component: Component) -> bool:
        """Whether a workload is to have pods and those it has cannot start."""
        if workload.replicas == 0 or workload.ready_pods:
            return False
        if not workload.autoscaled:
            return True
        scene = Scene(self.plan.name, component.kind.value, now=self.now)
        return find_cause(workload.current_pods, workload.deployment, scene) is not None

    def answers(self, workload: Workload, component: Component) -> bool:
        """Whether a request sent to it now is answered, be it after a wait."""
        if workload.ready_pods:
            return True
        if not (workload.autoscaled and workload.proven) or self.fails(workload, component):
            return False
        return workload.replicas > 0 or not workload.last_failure

    def is_routed(self, service: str) -> bool:
        """Whether some route names a Service."""
        return any(service in services_in(route) for route in self.routes)

    def previous_status(self, kind: ComponentKind) -> dict[str, object]:
        components = (self.plan.isvc.get("status") or {}).get("components") or {}
        found: dict[str, object] = components.get(kind.value) or {}
        return found


def _has_labels(obj: Object, wanted: dict[str, str]) -> bool:
    labels = obj["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in wanted.items())
