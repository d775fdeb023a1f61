"""Standard mode: one Deployment per component, rolling updates, canaries as Deployments beside it.

Who counts the pods is `children.scaling`'s to say. Where Kedge's autoscaler does not, a Deployment
gets `minReplicas`, at least 1 (the autoscaler class `none` may have 0), and what `kubectl scale`
sets stays until `minReplicas` changes. HPA and ScaledObject are written where they are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kedge.api.inferenceservice.scaler import Scaler
from kedge.api.scheme import DEPLOYMENT, HORIZONTAL_POD_AUTOSCALER, SERVICE, Kind
from kedge.cluster.base import Object
from kedge.cluster.errors import NotFound
from kedge.controllers.inferenceservice import names
from kedge.controllers.inferenceservice.children.autoscaler import (
    OTEL_COLLECTOR,
    SCALED_OBJECT,
    make_autoscaler,
    make_collector,
)
from kedge.controllers.inferenceservice.children.deployment import (
    make_deployment,
    make_worker_deployment,
    template_hash,
)
from kedge.controllers.inferenceservice.children.httproute import Backend, make_single_route
from kedge.controllers.inferenceservice.children.scaling import (
    initial_replicas,
    is_activatable,
    is_autoscaled,
    scaler,
)
from kedge.controllers.inferenceservice.children.service import (
    Ports,
    make_gateway_service,
    make_node_services,
    make_service,
    ports_of,
)
from kedge.controllers.inferenceservice.components import Component, ServicePlan, Warned
from kedge.controllers.inferenceservice.names import ComponentKind
from kedge.controllers.inferenceservice.observe import Verdict, Workload, pod_is_ready, worst
from kedge.controllers.inferenceservice.rollout import CanaryState, Outcome, Scope


@dataclass(frozen=True)
class Variant:
    """A canary with its pods and the Service of these."""

    component: Component
    workload: Workload
    selecting: Object

    @property
    def service(self) -> str:
        return str(self.selecting["metadata"]["name"])

    @property
    def ports(self) -> Ports:
        return ports_of(self.selecting)


class StandardMode:
    """Makes the workloads of one service and says which of them answer."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.plan = scope.plan
        self.applier = scope.applier
        self.warnings: list[Warned] = []

    async def reconcile(self, kind: ComponentKind) -> Outcome:
        """Bring one component about."""
        component = self.plan.components[kind]
        if kind is not ComponentKind.PREDICTOR:
            return await self._component(component, ())
        return await self._component(component, self.plan.canaries)

    async def _component(self, component: Component, canaries: tuple[Component, ...]) -> Outcome:
        variants = [
            Variant(canary, await self._workload(canary), await self._service(canary, split=False))
            for canary in canaries
        ]
        ready = [variant.workload for variant in variants if variant.workload.ready_pods]
        stable = beside(component, sum(workload.replicas for workload in ready))
        workload = await self._workload(stable)
        service = await self._service(component, split=bool(canaries))
        await self._autoscaler(stable)
        outcome = Outcome(component, workload, [workload])
        outcome.verdict = workload.verdict()
        if component.worker is not None:
            outcome.verdict = await self._workers(component, workload)
        outcome.canaries = [
            CanaryState(v.component, v.workload, self.scope.answers(v.workload, v.component))
            for v in variants
        ]
        outcome.warnings = self.warnings
        outcome.activatable = is_activatable(self.plan, component)
        self._route(outcome, service, variants)
        return outcome

    # -- workloads -------------------------------------------------------------------------

    async def _workload(self, component: Component) -> Workload:
        deployment = make_deployment(self.plan, component)
        if component.replicas is not None:
            await self._autoscaler(component)
        live = await self.applier.ensure_deployment(
            deployment,
            fixed_replicas(self.plan, component),
            only_raise=is_scaled_elsewhere(self.plan, component),
        )
        workload = self.scope.workload(live)
        return await self._prove(workload) if workload.autoscaled else workload

    async def _prove(self, workload: Workload) -> Workload:
        """Remember that the pods of this template were ready; of another, have one tried."""
        if any(pod_is_ready(pod) for pod in workload.current_pods):
            proof = {
                names.PROVEN: "true",
                names.PROVEN_TEMPLATE: template_hash(workload.deployment),
            }
            await self.applier.annotate(DEPLOYMENT, workload.deployment, proof)
        elif not workload.proven:
            await self.applier.annotate(DEPLOYMENT, workload.deployment, {names.PROVEN: None})
            if names.PROVEN_TEMPLATE in workload.annotations and workload.replicas == 0:
                await self.applier.raise_to(workload.deployment, 1)
                spec = {**workload.deployment["spec"], "replicas": 1}
                return replace(workload, deployment={**workload.deployment, "spec": spec})
        return workload

    async def _workers(self, component: Component, head: Workload) -> Verdict:
        assert component.worker is not None
        live = await self.applier.ensure_deployment(
            make_worker_deployment(self.plan, component), component.worker.replicas
        )
        for service in make_node_services(self.plan, component):
            await self.applier.apply(SERVICE, service)
        verdicts = []
        for name, workload in (
            (names.SERVER_CONTAINER, head),
            (names.WORKER_CONTAINER, self.scope.workload(live)),
        ):
            found = workload.verdict(whole=True)
            message = f"{name}: {found.message}" if found.message else ""
            verdicts.append(Verdict(found.status, found.reason, message))
        return worst(verdicts)

    # -- Services --------------------------------------------------------------------------

    async def _service(self, component: Component, *, split: bool) -> Object:
        """The Service of the component's pods; the caller routes to it."""
        private = names.private_service(component.name)
        split = split or private in self.scope.ports
        if not needs_gateway(self.plan, component, split=split):
            return await self.applier.apply(SERVICE, make_service(self.plan, component))
        selecting = await self.applier.apply(SERVICE, make_service(self.plan, component, private))
        if self.scope.is_routed(component.name):
            # Requests still come by the Service's own pods: it keeps them until routes have moved.
            await self.applier.apply(SERVICE, make_service(self.plan, component))
        else:
            await self.applier.apply_front(
                make_gateway_service(self.plan, component.name, component.labels)
            )
        return selecting

    def _route(self, outcome: Outcome, service: Object, variants: list[Variant]) -> None:
        component = outcome.component
        answering = set()
        if self.scope.answers(outcome.focus, component):
            # Both select the same pods, where the component's own Service still selects.
            answering = {str(service["metadata"]["name"]), component.name}
        taking = []
        for variant in variants:
            if self.scope.answers(variant.workload, variant.component):
                answering.add(variant.service)
                taking.append(Backend(variant.service, variant.component.percent, variant.ports))
            alone = Backend(variant.service, 100, variant.ports)
            outcome.routes.append(
                make_single_route(self.plan, variant.component.name, variant.component, alone)
            )
        rest = 100 - sum(backend.weight for backend in taking)
        stable = Backend(service["metadata"]["name"], rest, ports_of(service))
        outcome.decision = self.scope.decide(component, [stable, *taking], answering, answering)
        outcome.settled = outcome.decision.complete
        alone_already = {variant.service for variant in variants}
        for backend in outcome.decision.pending:
            if backend.service not in alone_already:
                alone = Backend(backend.service, 100, backend.ports)
                outcome.routes.append(
                    make_single_route(self.plan, backend.service, component, alone)
                )

    # -- autoscalers -----------------------------------------------------------------------

    async def _autoscaler(self, component: Component) -> None:
        made = make_autoscaler(self.plan, component)
        there = self.scope.cache.get(HORIZONTAL_POD_AUTOSCALER, self.plan.namespace, component.name)
        if made is not None and made[0] is HORIZONTAL_POD_AUTOSCALER:
            if there is None:
                # The class may have been another before: one Deployment, one autoscaler.
                await self.applier.delete_named(SCALED_OBJECT, component.name)
            await self.applier.apply(*made)
            return
        if there is not None:
            await self.applier.delete(HORIZONTAL_POD_AUTOSCALER, there)
        if made is not None:
            await self._apply_addon(*made)
        collector = make_collector(self.plan, component)
        if collector is not None:
            await self._apply_addon(OTEL_COLLECTOR, collector)

    async def _apply_addon(self, kind: Kind, obj: Object) -> None:
        """Apply an object of a kind that the cluster may not have."""
        try:
            await self.applier.apply_unseen(kind, obj)
        except NotFound:
            self.warnings.append(
                Warned(
                    f"metadata.annotations[{names.AUTOSCALER_CLASS}]",
                    f"`keda` has no effect: this cluster has no {kind.kind}. Fix: Install what"
                    f" provides {kind}, or set the annotation to `hpa` or `none`.",
                )
            )


def beside(component: Component, taken: int) -> Component:
    """The stable component, whose ready canaries have taken over `taken` of its replicas."""
    if component.spec.get("minReplicas") is None or not taken:
        return component
    fewest = max(component.min_replicas - taken, 1)
    return replace(component, spec={**component.spec, "minReplicas": fewest})


def needs_gateway(plan: ServicePlan, component: Component, *, split: bool) -> bool:
    """Whether callers inside the cluster come through the gateway too."""
    return split or component.fewest == 0 or is_activatable(plan, component)


def fixed_replicas(plan: ServicePlan, component: Component) -> int:
    """How many pods a component has as long as nobody scales it."""
    if component.replicas is None:
        return initial_replicas(plan, component)
    fixed = scaler(plan, component) in (Scaler.NONE, Scaler.KEDA, Scaler.EXTERNAL)
    return component.replicas if fixed else max(component.replicas, 1)


def is_scaled_elsewhere(plan: ServicePlan, component: Component) -> bool:
    """Whether an autoscaler may have given the component more pods than the fewest."""
    who = scaler(plan, component)
    if is_autoscaled(plan, component):
        return True
    if component.replicas is not None or who is Scaler.NONE:
        return False
    most = int(component.spec.get("maxReplicas") or 0)
    return who is Scaler.EXTERNAL or most > max(component.min_replicas, 1)
