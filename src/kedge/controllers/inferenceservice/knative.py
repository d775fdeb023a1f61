"""Knative mode: every change of a component's pods is a revision, and requests move to it when it
can answer.

A revision is one Deployment whose template never changes and one Service that selects its pods.
The newest revision that was ever ready is "latest"; what it gets is decided by `traffic`, when it
gets it by `routing`. A revision that nobody needs any more rests at zero pods if a rollback may
still want it, and is deleted otherwise; both only after no route of the gateway names it.

Replicas here are fixed: `minReplicas`, at least 1. Changing what only scales a revision makes no
new one.
"""

from __future__ import annotations

from dataclasses import replace

from kedge.api.scheme import DEPLOYMENT, SERVICE
from kedge.cluster.base import Object
from kedge.controllers.inferenceservice import names
from kedge.controllers.inferenceservice.children.deployment import (
    make_revision,
    revision_digest,
    template_hash,
)
from kedge.controllers.inferenceservice.children.httproute import (
    Backend,
    make_single_route,
)
from kedge.controllers.inferenceservice.children.service import (
    Ports,
    make_gateway_service,
    make_revision_service,
    ports_of,
)
from kedge.controllers.inferenceservice.components import Component
from kedge.controllers.inferenceservice.errors import InvalidWorkerSpec
from kedge.controllers.inferenceservice.names import ComponentKind
from kedge.controllers.inferenceservice.observe import Verdict, Workload
from kedge.controllers.inferenceservice.rollout import Outcome, Scope
from kedge.controllers.inferenceservice.routing import withdraw
from kedge.controllers.inferenceservice.traffic import (
    Rollout,
    Target,
    advance,
    plan_traffic,
    shares,
)


class KnativeMode:
    """Makes the revisions of one service and says which of them answer."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.plan = scope.plan
        self.applier = scope.applier

    async def reconcile(self, kind: ComponentKind) -> Outcome:
        """Bring one component about."""
        component = self.plan.components[kind]
        if component.worker is not None:
            raise InvalidWorkerSpec(
                "`workerSpec` needs the deployment mode Standard.",
                fix=f"Annotate the service before its first apply with {names.DEPLOYMENT_MODE}:"
                " Standard, or remove `spec.predictor.workerSpec`.",
            )
        revisions = _Revisions(self.scope, component)
        newest, started = await revisions.ensure_newest()
        await self.applier.apply(
            SERVICE, make_gateway_service(self.plan, component.name, component.labels)
        )
        outcome = Outcome(component, newest, list(revisions.workloads.values()))
        outcome.started = started
        await self._spread(outcome, revisions)
        outcome.verdict = self._verdict(outcome, revisions)
        return outcome

    async def _spread(self, outcome: Outcome, revisions: _Revisions) -> None:
        """Decide about shares, and make ready what is to get one."""
        component = outcome.component
        services = revisions.services
        current = {
            revision: backend.weight
            for backend in self.scope.current_backends(component)
            for revision, service in services.items()
            if service == backend.service
        }
        rollout, targets = plan_traffic(
            self._rollout(component, revisions),
            component.spec.get("canaryTrafficPercent"),
            current,
            tag_latest=component.annotations.get(names.ENABLE_TAG_ROUTING) == "true",
        )
        await revisions.wake({target.revision for target in targets})
        desired = [
            Backend(services[revision], weight, revisions.ports(revision))
            for revision, weight in shares(targets).items()
        ]
        ready = {services[name] for name, found in revisions.workloads.items() if found.ready_pods}
        failing = {
            services[name]
            for name, found in revisions.workloads.items()
            if found.replicas > 0 and not found.ready_pods
        }
        outcome.decision = self.scope.decide(component, withdraw(desired, failing), ready)
        outcome.settled = list(outcome.decision.backends) == desired
        if outcome.settled:
            rollout = advance(rollout, shares(targets))
        outcome.rollout = rollout
        outcome.targets = targets if outcome.settled else _as_routed(targets, outcome, services)
        outcome.routes = self._single_routes(outcome, revisions)

    def _rollout(self, component: Component, revisions: _Revisions) -> Rollout:
        """Where the rollout stands: what the status remembers, as far as it is still there."""
        status = self.scope.previous_status(component.kind)

        def kept(key: str) -> str:
            name = str(status.get(key) or "")
            return name if name in revisions.workloads else ""

        return Rollout(
            latest_created=revisions.newest,
            latest_ready=revisions.latest_ready(kept("latestReadyRevision")),
            rolled_out=kept("latestRolledoutRevision"),
            previous=kept("previousRolledoutRevision"),
        )

    def _single_routes(self, outcome: Outcome, revisions: _Revisions) -> list[Object]:
        """Routes to one revision alone: those with a tag, and those that wait for a share."""
        component = outcome.component
        routes = [
            make_single_route(
                self.plan,
                names.tag_route(component.name, target.tag),
                component,
                Backend(revisions.services[target.revision], 100, revisions.ports(target.revision)),
                external=True,
            )
            for target in outcome.targets
            if target.tag
        ]
        named = {service: revision for revision, service in revisions.services.items()}
        for backend in outcome.decision.pending:
            alone = Backend(backend.service, 100, backend.ports)
            name = named[backend.service]
            routes.append(make_single_route(self.plan, name, component, alone))
        return routes

    def _verdict(self, outcome: Outcome, revisions: _Revisions) -> Verdict:
        """Whether the newest revision is ready, and every revision that has requests."""
        newest = outcome.focus
        if outcome.rollout.latest_ready != outcome.rollout.latest_created:
            found = newest.verdict()
            if found.status == "False":
                return Verdict("False", "RevisionFailed", found.message)
            return Verdict("Unknown", "Deploying", f"Revision {newest.name} is not ready yet.")
        found = newest.verdict()
        if not found.ok:
            return found
        for target in outcome.targets:
            workload = revisions.workloads[target.revision]
            if target.percent > 0 and not workload.ready_pods:
                return Verdict(
                    "False", "PodsNotReady", f"No pod of revision {workload.name} is ready."
                )
        return found

    async def collect(self, outcome: Outcome, *, settled: bool) -> None:
        """Let revisions rest or go that nobody needs and no route names.

        Args:
            settled: the gateway answers by the routes as they are now. Until it does, only
                revisions go that never had a request.
        """
        rollout = outcome.rollout
        needed = {rollout.latest_created, rollout.latest_ready}
        needed |= {target.revision for target in outcome.targets}
        for workload in outcome.workloads:
            if workload.name in needed or self.scope.is_routed(
                names.private_service(workload.name)
            ):
                continue
            if workload.name in (rollout.rolled_out, rollout.previous):
                if settled:
                    await self.applier.rest(workload.deployment)
            elif settled or _never_served(workload, rollout):
                await self._delete(workload)

    async def _delete(self, workload: Workload) -> None:
        await self.applier.delete(DEPLOYMENT, workload.deployment)
        service = names.private_service(workload.name)
        found = self.scope.cache.get(SERVICE, self.plan.namespace, service)
        if found is not None:
            await self.applier.delete(SERVICE, found)


def _never_served(workload: Workload, rollout: Rollout) -> bool:
    """Whether a revision was passed over: newer than the newest that was ever ready."""
    ready = names.revision_number(rollout.latest_ready)
    return names.revision_number(workload.name) > ready > 0


def _as_routed(targets: list[Target], outcome: Outcome, services: dict[str, str]) -> list[Target]:
    """The shares as they are now, where they are not yet what was asked for."""
    revisions = {service: revision for revision, service in services.items()}
    latest = outcome.rollout.latest_ready
    tags = {target.revision: target.tag for target in targets}
    return [
        Target(
            revisions[backend.service],
            backend.weight,
            latest=revisions[backend.service] == latest,
            tag=tags.get(revisions[backend.service], ""),
        )
        for backend in outcome.decision.backends
    ]


class _Revisions:
    """The revisions of one component."""

    def __init__(self, scope: Scope, component: Component) -> None:
        self.scope = scope
        self.plan = scope.plan
        self.applier = scope.applier
        self.component = component
        self.workloads: dict[str, Workload] = {}
        self.newest = ""
        self._replicas = max(component.min_replicas, 1)
        for deployment in scope.deployments:
            labels = deployment["metadata"].get("labels") or {}
            if labels.get(names.CONFIGURATION_LABEL) == component.name:
                workload = scope.workload(deployment)
                self.workloads[workload.name] = workload

    @property
    def services(self) -> dict[str, str]:
        """The Service of each revision's pods."""
        return {name: names.private_service(name) for name in self.workloads}

    def ports(self, revision: str) -> Ports:
        """Where a revision answers; of one not seen yet, as it was made."""
        service = names.private_service(revision)
        known = self.scope.ports.get(service)
        return known or ports_of(make_revision_service(self.plan, self.component, revision))

    async def ensure_newest(self) -> tuple[Workload, str]:
        """The revision of the pods that are asked for now, and its name if it was made now."""
        wanted = revision_digest(self.plan, self.component)
        number, existing = await self._place_of(wanted)
        deployment = make_revision(self.plan, self.component, number)
        live = await self.applier.ensure_deployment(deployment, self._replicas)
        workload = self.scope.workload(live)
        self.newest = workload.name
        self.workloads[workload.name] = workload
        await self.applier.apply(
            SERVICE, make_revision_service(self.plan, self.component, workload.name)
        )
        for name, service in self.services.items():
            self.applier.keep(DEPLOYMENT, name)
            self.applier.keep(SERVICE, service)
        return workload, "" if existing else workload.name

    async def _place_of(self, wanted: str) -> tuple[int, bool]:
        """The number of the revision made of `wanted`, and whether it exists.

        That is the newest one or the next. The cluster is asked, since the cache may not show yet
        what an earlier reconcile made.
        """
        status = self.scope.previous_status(self.component.kind)
        created = names.revision_number(str(status.get("latestCreatedRevision") or ""))
        seen = [names.revision_number(name) for name in self.workloads]
        number = max([created, *seen])
        found = await self._find(number) if number else None
        if found is not None and template_hash(found) == wanted:
            return number, True
        while (found := await self._find(number + 1)) is not None:
            number += 1
            if template_hash(found) == wanted:
                return number, True
        return number + 1, False

    async def _find(self, number: int) -> Object | None:
        name = names.revision(self.component.name, number)
        if name in self.workloads:
            return self.workloads[name].deployment
        return await self.applier.find(DEPLOYMENT, name)

    def latest_ready(self, before: str) -> str:
        """The newest revision that was ever ready; it never becomes an older one."""
        ready = [name for name, workload in self.workloads.items() if workload.serves]
        newer = [
            name for name in ready if names.revision_number(name) > names.revision_number(before)
        ]
        return max(newer, key=names.revision_number, default=before)

    async def wake(self, wanted: set[str]) -> None:
        """Give pods to resting revisions that are to get requests."""
        for name in wanted:
            workload = self.workloads.get(name)
            if workload is None or name == self.newest:
                continue
            annotations = workload.deployment["metadata"].get("annotations") or {}
            if annotations.get(names.INITIAL_REPLICAS) == "0":
                await self.applier.wake(workload.deployment, self._replicas)
                awake = {
                    **workload.deployment,
                    "spec": {**workload.deployment["spec"], "replicas": self._replicas},
                }
                self.workloads[name] = replace(workload, deployment=awake)
