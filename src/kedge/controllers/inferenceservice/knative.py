"""Knative mode: every change of a component's pods is a revision, and requests move to it when it
can answer.

A revision is one Deployment whose template never changes and one Service that selects its pods.
The newest revision that was ever ready is "latest"; what it gets is decided by `traffic`, when it
gets it by `routing`. A revision that nobody needs any more rests at zero pods if a rollback may
still want it, and is deleted otherwise; both only after no route of the gateway names it.

How many pods a revision has is the autoscaler's to say, within what its annotations tell; they
change without a new revision. Before requests move to a revision it is given the pods for its share
(`capacity`) and keeps them until the autoscaler has seen that share for as long as it looks back.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from kedge.api.inferenceservice.scaler import Scaler
from kedge.api.scheme import DEPLOYMENT, HORIZONTAL_POD_AUTOSCALER, SERVICE
from kedge.cluster.base import Object
from kedge.controllers.inferenceservice import gradual, names
from kedge.controllers.inferenceservice.children import scaling
from kedge.controllers.inferenceservice.children.autoscaler import make_revision_autoscaler
from kedge.controllers.inferenceservice.children.httproute import (
    Backend,
    make_single_route,
)
from kedge.controllers.inferenceservice.children.service import make_gateway_service
from kedge.controllers.inferenceservice.components import Component
from kedge.controllers.inferenceservice.errors import InvalidWorkerSpec
from kedge.controllers.inferenceservice.names import ComponentKind
from kedge.controllers.inferenceservice.observe import Verdict, Workload
from kedge.controllers.inferenceservice.retention import Idle, superfluous
from kedge.controllers.inferenceservice.revisions import Revisions
from kedge.controllers.inferenceservice.rollout import Outcome, Scope
from kedge.controllers.inferenceservice.routing import withdraw
from kedge.controllers.inferenceservice.traffic import (
    Rollout,
    Target,
    advance,
    plan_traffic,
    shares,
    spread,
)
from kedge.lib.clock import format_time
from kedge.lib.durations import parse_duration

_FLOOR = (names.FLOOR, names.FLOOR_UNTIL, names.SIZED)
_STABLE_WINDOW = 60.0
"""Seconds over which the autoscaler averages where nothing else is said."""


def _without_zeros(weights: Mapping[str, int]) -> dict[str, int]:
    return {name: weight for name, weight in weights.items() if weight}


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
        revisions = Revisions(self.scope, component)
        newest, started = await revisions.ensure_newest()
        await self.applier.apply_front(
            make_gateway_service(self.plan, component.name, component.labels)
        )
        if scaling.scaler(self.plan, component) is Scaler.HPA:
            hpa = make_revision_autoscaler(self.plan, component, newest.name)
            await self.applier.apply(HORIZONTAL_POD_AUTOSCALER, hpa)
            for name in revisions.workloads:
                self.applier.keep(HORIZONTAL_POD_AUTOSCALER, name)
        outcome = Outcome(component, newest, list(revisions.workloads.values()))
        outcome.started = started
        outcome.activatable = scaling.is_activatable(self.plan, component)
        await self._spread(outcome, revisions)
        outcome.verdict = self._verdict(outcome, revisions)
        return outcome

    async def _spread(self, outcome: Outcome, revisions: Revisions) -> None:
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
        progress = self._gradual(component, targets, current, revisions)
        if progress is not None:
            outcome.gradual = gradual.write(progress)
            targets = spread(targets, progress.shares)
            if progress.due is not None:
                outcome.again_in(max((progress.due - self.scope.now).total_seconds(), 0.05))
        desired = [
            Backend(services[revision], weight, revisions.ports(revision))
            for revision, weight in shares(targets).items()
        ]
        failing = {services[name] for name in revisions.workloads if revisions.fails(name)}
        aimed = withdraw(desired, failing)
        named = {service: revision for revision, service in services.items()}
        whole = revisions.whole(current)
        needed = revisions.needed(current, {named[b.service]: b.weight for b in aimed}, whole)
        await revisions.wake(needed, whole)
        # Last: what is proven may be released, unless it is said before how many pods stay.
        await revisions.note_proofs()
        answering = {services[name] for name in revisions.workloads if revisions.answers(name)}
        able = {s for s in answering if revisions.has(named[s], needed.get(named[s], 0))}
        outcome.decision = self.scope.decide(component, aimed, answering, able)
        outcome.waiting = _waiting(outcome, revisions, needed)
        outcome.settled = list(outcome.decision.backends) == desired and progress is None
        if outcome.settled:
            rollout = advance(rollout, shares(targets))
        outcome.rollout = rollout
        outcome.asked = {target.revision for target in targets if target.percent > 0}
        outcome.targets = targets if outcome.settled else _as_routed(targets, outcome, services)
        outcome.routes = self._single_routes(outcome, revisions)

    def _gradual(
        self,
        component: Component,
        targets: list[Target],
        current: dict[str, int],
        revisions: Revisions,
    ) -> gradual.Progress | None:
        """Where a gradual rollout stands, if one is asked for."""
        latest = next((target for target in targets if target.latest), None)
        if latest is None or latest.revision != revisions.newest:
            return None
        progress = self._stored_progress(component, revisions)
        written = {} if progress is None else shares(spread(targets, progress.shares))
        by_age = sorted(current.items(), key=lambda item: names.revision_number(item[0]))
        return gradual.go_on(
            progress,
            latest.revision,
            latest.percent,
            dict(by_age),
            duration=self._duration(component),
            acknowledged=self.scope.acknowledged and _without_zeros(current) == written,
            now=self.scope.now,
        )

    def _stored_progress(
        self, component: Component, revisions: Revisions
    ) -> gradual.Progress | None:
        route = self.scope.route(component.name)
        if route is None:
            return None
        annotations = route["metadata"].get("annotations") or {}
        found = gradual.read(annotations.get(names.GRADUAL_ROLLOUT))
        known = found is not None and all(name in revisions.workloads for name, _ in found.shares)
        return found if known else None

    def _duration(self, component: Component) -> float:
        """Seconds over which requests move to a new revision."""
        given = component.annotations.get(names.ROLLOUT_DURATION)
        if given is None:
            return self.scope.config.rollout_duration
        try:
            return parse_duration(given)
        except ValueError:
            return self.scope.config.rollout_duration

    def _rollout(self, component: Component, revisions: Revisions) -> Rollout:
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

    def _single_routes(self, outcome: Outcome, revisions: Revisions) -> list[Object]:
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

    def _verdict(self, outcome: Outcome, revisions: Revisions) -> Verdict:
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
            if target.percent > 0 and not revisions.answers(workload.name):
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
        carrying = {name for name, share in shares(outcome.targets).items() if share > 0}
        kept = {rollout.latest_created, rollout.latest_ready, rollout.rolled_out, rollout.previous}
        kept |= {target.revision for target in outcome.targets}
        idle = []
        for workload in outcome.workloads:
            if workload.name in carrying:
                if settled:
                    await self._end_floor(outcome, workload)
            elif workload.proven:
                if settled:
                    await self._let_go(workload)
                if workload.name not in kept:
                    idle.append(workload)
            elif workload.name not in kept and (settled or _never_served(workload, rollout)):
                await self._delete_unrouted(workload)
        if settled:
            await self._delete_superfluous(idle)

    async def _delete_superfluous(self, workloads: list[Workload]) -> None:
        """Delete revisions that nobody can go back to any more, by their age and number."""
        idle = {
            workload.name: workload
            for workload in workloads
            if workload.annotations.get(names.NO_GC) != "true"
        }
        aged = [_idle(workload, self.scope.now) for workload in idle.values()]
        for name in superfluous(aged, self.scope.config, self.scope.now):
            await self._delete_unrouted(idle[name])

    async def _delete_unrouted(self, workload: Workload) -> None:
        if not self.scope.is_routed(names.private_service(workload.name)):
            await self._delete(workload)

    async def _let_go(self, workload: Workload) -> None:
        """No request is meant for a revision: it may have no pods."""
        if not workload.autoscaled:
            await self.applier.rest(workload.deployment)
            return
        if workload.annotations.get(names.REACHABILITY) == "unreachable":
            return
        free = {
            names.REACHABILITY: "unreachable",
            names.ROUTING_STATE_MODIFIED: format_time(self.scope.now),
            **dict.fromkeys(_FLOOR),
        }
        await self.applier.annotate(DEPLOYMENT, workload.deployment, free)

    async def _end_floor(self, outcome: Outcome, workload: Workload) -> None:
        """The requests have moved: after a while the autoscaler knows them by itself."""
        if workload.sized is None and not workload.floor:
            return
        now = self.scope.now
        until = workload.annotations.get(names.FLOOR_UNTIL)
        if until is None:
            seconds = _window(workload)
            note = {names.FLOOR_UNTIL: format_time(now + timedelta(seconds=seconds))}
            await self.applier.annotate(DEPLOYMENT, workload.deployment, note)
            outcome.again_in(seconds + 1)
        elif (left := (datetime.fromisoformat(until) - now).total_seconds()) > 0:
            outcome.again_in(left + 1)
        else:
            await self.applier.annotate(DEPLOYMENT, workload.deployment, dict.fromkeys(_FLOOR))

    async def _delete(self, workload: Workload) -> None:
        await self.applier.delete(DEPLOYMENT, workload.deployment)
        service = names.private_service(workload.name)
        found = self.scope.cache.get(SERVICE, self.plan.namespace, service)
        if found is not None:
            await self.applier.delete(SERVICE, found)


def _idle(workload: Workload, now: datetime) -> Idle:
    def when(text: object) -> datetime:
        return datetime.fromisoformat(str(text)) if text else now

    created = when(workload.deployment["metadata"].get("creationTimestamp"))
    modified = workload.annotations.get(names.ROUTING_STATE_MODIFIED)
    return Idle(workload.name, created, when(modified) if modified else created)


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


def _waiting(outcome: Outcome, revisions: Revisions, needed: dict[str, int]) -> str:
    """What the requests wait for."""
    pending = {backend.service for backend in outcome.decision.pending}
    told = []
    for name, service in revisions.services.items():
        ready, pods = len(revisions.workloads[name].ready_pods), needed.get(name, 0)
        if service in pending:
            told.append(f"{name} ({ready} of {pods} pods ready)" if ready < pods else name)
    return ", ".join(told)


def _window(workload: Workload) -> float:
    """Seconds after which the autoscaler's averages are of the new share alone."""
    try:
        return parse_duration(workload.annotations[f"{names.AUTOSCALING}/window"])
    except (KeyError, ValueError):
        return _STABLE_WINDOW
