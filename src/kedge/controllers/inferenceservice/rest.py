"""The objects of a service when all its pods are ready and the gateway knows them: what the
reconcile comes to, without a cluster to come to it in."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

from kedge.api.inferenceservice.scaler import Scaler
from kedge.api.scheme import DEPLOYMENT
from kedge.cluster.base import Object
from kedge.controllers.inferenceservice import names
from kedge.controllers.inferenceservice.children.autoscaler import (
    make_autoscaler,
    make_collector,
    make_revision_autoscaler,
)
from kedge.controllers.inferenceservice.children.deployment import (
    make_deployment,
    make_revision,
    make_worker_deployment,
)
from kedge.controllers.inferenceservice.children.httproute import (
    Backend,
    make_routes,
    make_single_route,
)
from kedge.controllers.inferenceservice.children.scaling import initial_replicas, scaler
from kedge.controllers.inferenceservice.children.service import (
    make_gateway_service,
    make_node_services,
    make_revision_service,
    make_service,
    ports_of,
)
from kedge.controllers.inferenceservice.components import Component, ServicePlan
from kedge.controllers.inferenceservice.names import ComponentKind
from kedge.controllers.inferenceservice.standard import (
    beside,
    fixed_replicas,
    is_scaled_elsewhere,
    needs_gateway,
)
from kedge.controllers.inferenceservice.traffic import LATEST_TAG
from kedge.settings.serving import DeploymentMode

Backends = dict[ComponentKind, Sequence[Backend]]


def objects_at_rest(plan: ServicePlan) -> Iterator[Object]:
    """Every child object, Deployments with the replicas they are created with."""
    backends: Backends = {}
    for kind, component in plan.components.items():
        if plan.mode is DeploymentMode.KNATIVE:
            yield from _knative(plan, component, backends)
        else:
            canaries = plan.canaries if kind is ComponentKind.PREDICTOR else ()
            yield from _standard(plan, component, canaries, backends)
    if plan.mode is DeploymentMode.KNATIVE and backends.get(plan.entry):
        yield make_gateway_service(plan, plan.name, {names.ISVC_LABEL: plan.name})
    yield from make_routes(plan, backends)
    shares = backends.get(ComponentKind.PREDICTOR, ())[1:]
    for canary, share in zip(plan.canaries, shares, strict=False):
        alone = Backend(share.service, 100, share.ports)
        yield make_single_route(plan, canary.name, canary, alone)


def _knative(plan: ServicePlan, component: Component, backends: Backends) -> Iterator[Object]:
    yield _counted(make_revision(plan, component, 1), initial_replicas(plan, component))
    if scaler(plan, component) is Scaler.HPA:
        yield make_revision_autoscaler(plan, component, names.revision(component.name, 1))
    service = make_revision_service(plan, component, names.revision(component.name, 1))
    yield service
    yield make_gateway_service(plan, component.name, component.labels)
    backend = Backend(service["metadata"]["name"], 100, ports_of(service))
    backends[component.kind] = [backend]
    if component.annotations.get(names.ENABLE_TAG_ROUTING) == "true":
        name = names.tag_route(component.name, LATEST_TAG)
        yield make_single_route(plan, name, component, backend, external=True)


def _standard(
    plan: ServicePlan,
    component: Component,
    canaries: Sequence[Component],
    backends: Backends,
) -> Iterator[Object]:
    taken = sum(fixed_replicas(plan, canary) for canary in canaries)
    for variant in (beside(component, taken), *canaries):
        scaled = variant.replicas is None and is_scaled_elsewhere(plan, variant)
        whole = component if scaled else variant
        yield _counted(make_deployment(plan, variant), fixed_replicas(plan, whole))
        yield from _autoscaling(plan, variant)
    if component.worker is not None:
        yield _counted(make_worker_deployment(plan, component), component.worker.replicas)
        yield from make_node_services(plan, component)
    rest = 100 - sum(canary.percent for canary in canaries)
    answering = []
    for variant, share, split in (
        (component, rest, bool(canaries)), *((c, c.percent, False) for c in canaries)
    ):  # fmt: skip
        service = make_service(plan, variant)
        if needs_gateway(plan, variant, split=split):
            yield make_gateway_service(plan, variant.name, variant.labels)
            service = make_service(plan, variant, names.private_service(variant.name))
        yield service
        answering.append(Backend(service["metadata"]["name"], share, ports_of(service)))
    backends[component.kind] = answering


def _autoscaling(plan: ServicePlan, component: Component) -> Iterator[Object]:
    made = make_autoscaler(plan, component)
    if made is not None:
        yield made[1]
    collector = make_collector(plan, component)
    if collector is not None:
        yield collector


def _counted(deployment: Object, replicas: int) -> Object:
    """A Deployment with its first replicas, which another field manager writes."""
    assert deployment["kind"] == DEPLOYMENT.kind
    counted = copy.deepcopy(deployment)
    counted["spec"] = {"replicas": replicas, **counted["spec"]}
    return counted
