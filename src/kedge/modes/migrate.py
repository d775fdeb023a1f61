"""`kedge migrate`: what services will be, as controllers and admission know it, and the cluster."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from kedge.admission.review import AdmissionReview
from kedge.api.inferenceservice.defaults import apply_defaults
from kedge.api.scheme import (
    CLUSTER_SERVING_RUNTIME,
    CLUSTER_STORAGE_CONTAINER,
    INFERENCE_SERVICE,
    SERVING_RUNTIME,
    Kind,
)
from kedge.cluster.base import Cluster, Object
from kedge.cluster.errors import Invalid
from kedge.cluster.kubernetes import KubernetesCluster
from kedge.controllers.inferenceservice import names
from kedge.controllers.inferenceservice.assembly import plan_service
from kedge.controllers.inferenceservice.components import Component, ServicePlan
from kedge.controllers.inferenceservice.errors import BuildError
from kedge.controllers.inferenceservice.gathering import gather
from kedge.controllers.inferenceservice.rest import objects_at_rest
from kedge.controllers.inferenceservice.urls import service_url
from kedge.install.installing import Installation
from kedge.install.migration.finding import Found
from kedge.install.migration.migrating import Migration
from kedge.install.migration.planning import Foresee, Foresight, Plan
from kedge.install.objects.serving import make_runtimes, make_storage_containers
from kedge.install.target import Tell
from kedge.install.values import Values
from kedge.modes.install import find_kubeconfig
from kedge.reconcile.controller import Key
from kedge.settings.serving import ServingConfig


async def run_migrate(
    kubeconfig: Path | None,
    context: str | None,
    values: Values,
    tell: Tell,
    *,
    only: Collection[str],
    agree: Callable[[Plan], bool],
    seconds: float,
    at_once: int,
    drain: float,
) -> list[str]:
    """Show the plan, and do it if `agree` says so; what could not be taken over."""
    async with KubernetesCluster.from_kubeconfig(find_kubeconfig(kubeconfig), context) as cluster:
        migration = Migration(
            cluster, values, tell, foresee(cluster, values), seconds, at_once, drain
        )
        plan = await migration.plan(only)
        for line in plan.lines():
            tell(line)
        if not agree(plan):
            return []

        async def install() -> None:
            await Installation(cluster, values, tell, seconds).run()

        return await migration.apply(plan, install)


async def run_undo(
    kubeconfig: Path | None, context: str | None, values: Values, tell: Tell
) -> None:
    """Give the cluster back to KServe."""
    async with KubernetesCluster.from_kubeconfig(find_kubeconfig(kubeconfig), context) as cluster:
        await Migration(cluster, values, tell, foresee(cluster, values)).undo()


def foresee(cluster: Cluster, values: Values) -> Foresee:
    """Tells what a service will be, by the rules and builders that will make it."""

    async def look(isvc: Object, config: ServingConfig, found: Found) -> Foresight:
        around = _Around(found, values)
        try:
            review = AdmissionReview(lambda: config, around.list).admit(
                INFERENCE_SERVICE, "CREATE", isvc
            )
        except Invalid as error:
            return Foresight(errors=(error.message,))
        full = apply_defaults(isvc, config)
        surroundings = await gather(
            cluster, around, full, config,
            cluster_domain=values.cluster_domain, home=values.namespace,
        )  # fmt: skip
        plan = plan_service(full, surroundings, config)
        warned = [*review.warnings, *map(str, plan.warnings)]
        return _of_plan(plan, tuple(dict.fromkeys(warned)))

    return look


def _of_plan(plan: ServicePlan, warnings: tuple[str, ...]) -> Foresight:
    errors = [str(error) for error in plan.errors.values()]
    try:
        made = [] if errors else [*objects_at_rest(plan)]
        url = service_url(plan)
    except BuildError as error:
        errors, made, url = [*errors, str(error)], [], ""
    objects = [f"{obj['kind']} {_numbered(plan, obj['metadata']['name'])}" for obj in made]
    return Foresight(
        url=url,
        mode=plan.mode.value,
        objects=tuple(objects),
        images=tuple(_server(component) for component in plan.components.values()),
        warnings=warnings,
        errors=tuple(errors),
    )


def _numbered(plan: ServicePlan, name: str) -> str:
    """A revision's name, or its Service's, with the number after KServe's newest."""
    known = (plan.isvc.get("status") or {}).get("components") or {}
    for kind, component in plan.components.items():
        newest = str((known.get(kind.value) or {}).get("latestCreatedRevision") or "")
        first = names.revision(component.name, 1)
        if name.startswith(first):
            number = names.revision_number(newest) + 1
            return names.revision(component.name, number) + name.removeprefix(first)
    return name


def _server(component: Component) -> str:
    image = str(component.pod["containers"][0].get("image") or "")
    return f"{image} ({component.runtime.name})" if component.runtime else image


class _Around:
    """What services are built from: what is there, and what an installation brings."""

    def __init__(self, found: Found, values: Values) -> None:
        there = {obj["metadata"]["name"] for obj in found.cluster_runtimes}
        brought = make_runtimes(values) if values.runtimes.enabled else []
        self._by_kind: dict[Kind, list[Object]] = {
            SERVING_RUNTIME: found.runtimes,
            CLUSTER_SERVING_RUNTIME: [
                *found.cluster_runtimes,
                *(obj for obj in brought if obj["metadata"]["name"] not in there),
            ],
            CLUSTER_STORAGE_CONTAINER: make_storage_containers(values),
        }

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        return None

    def of_service(self, kind: Kind, key: Key) -> list[Object]:
        return []

    def list(self, kind: Kind, namespace: str | None = None) -> list[Object]:
        return [
            obj
            for obj in self._by_kind.get(kind, [])
            if namespace is None or obj["metadata"].get("namespace") == namespace
        ]
