"""The revisions of one component in Knative mode: which there are, and what each is good for."""

from __future__ import annotations

from dataclasses import replace

from kedge.api.scheme import DEPLOYMENT, SERVICE
from kedge.cluster.base import Object
from kedge.controllers.inferenceservice import names
from kedge.controllers.inferenceservice.capacity import pods_for_everything, pods_needed
from kedge.controllers.inferenceservice.causes import UNSCHEDULABLE
from kedge.controllers.inferenceservice.children import scaling
from kedge.controllers.inferenceservice.children.deployment import (
    make_revision,
    revision_digest,
    template_hash,
)
from kedge.controllers.inferenceservice.children.service import (
    Ports,
    make_revision_service,
    ports_of,
)
from kedge.controllers.inferenceservice.components import Component
from kedge.controllers.inferenceservice.observe import Workload, conditions_of
from kedge.controllers.inferenceservice.pins import Pins, pin_models, pins_of
from kedge.controllers.inferenceservice.rollout import Scope


class Revisions:
    """The revisions of one component."""

    def __init__(self, scope: Scope, component: Component) -> None:
        self.scope = scope
        self.plan = scope.plan
        self.applier = scope.applier
        self.component = component
        self.workloads: dict[str, Workload] = {}
        self.newest = ""
        self._replicas = scaling.initial_replicas(scope.plan, component)
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
        pins = await self._pins(number)
        deployment = make_revision(self.plan, self.component, number, pins)
        live = await self.applier.ensure_deployment(deployment, self._replicas, only_raise=True)
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

    async def _pins(self, number: int) -> Pins:
        """The model that a revision is made of: what is there when it is made.

        As long as none of its pods was ready that may still change: files that were missing, or
        only half written, are taken as they are put right.
        """
        name = names.revision(self.component.name, number)
        live = await self._find(number)
        if live is not None and self.workloads.get(name, self.scope.workload(live)).proven:
            return pins_of(live)
        return await pin_models(self.scope.keeper, self.plan.namespace, self.component.pod)

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
        newer = [
            name
            for name, workload in self.workloads.items()
            if workload.proven and names.revision_number(name) > names.revision_number(before)
        ]
        return max(newer, key=names.revision_number, default=before)

    # -- what they are good for ------------------------------------------------------------

    def answers(self, revision: str) -> bool:
        """Whether a request sent to a revision now is answered, be it after a wait."""
        return self.scope.answers(self.workloads[revision], self.component)

    def fails(self, revision: str) -> bool:
        """Whether a revision is to have pods and what it has cannot start."""
        return self.scope.fails(self.workloads[revision], self.component)

    def whole(self, current: dict[str, int]) -> int:
        """The pods that carry all requests now."""
        ready = {name: len(found.ready_pods) for name, found in self.workloads.items()}
        sized = {
            name: given
            for name, found in self.workloads.items()
            if (given := found.sized) is not None
        }
        return pods_for_everything(current, ready, sized)

    def needed(
        self, current: dict[str, int], desired: dict[str, int], whole: int
    ) -> dict[str, int]:
        """The pods that must be ready in each revision that is to get more requests."""
        most = {
            name: _count(found, f"{names.AUTOSCALING}/max-scale")
            for name, found in self.workloads.items()
        }
        found = pods_needed(current, desired, whole, most)
        for name in found:
            if not current.get(name):
                fewest = _count(self.workloads[name], f"{names.AUTOSCALING}/min-scale")
                found[name] = max(found[name], fewest)
        return found

    def has(self, revision: str, pods: int) -> bool:
        """Whether a revision has that many ready pods, or all that fit."""
        workload = self.workloads[revision]
        ready = len(workload.ready_pods)
        return ready >= pods or (ready > 0 and _is_full(workload))

    # -- what their autoscaler is told -----------------------------------------------------

    async def wake(self, needed: dict[str, int], whole: int) -> None:
        """Give pods to revisions that are to get more requests, and let them keep them."""
        for name, pods in needed.items():
            workload = self.workloads[name]
            if workload.autoscaled:
                await self._hold(workload, pods, whole)
            elif workload.annotations.get(names.INITIAL_REPLICAS) == "0":
                await self.applier.wake(workload.deployment, self._replicas)
            else:
                continue
            if workload.replicas < pods or not workload.autoscaled:
                count = max(pods, 1) if workload.autoscaled else self._replicas
                spec = {**workload.deployment["spec"], "replicas": count}
                awake = {**workload.deployment, "spec": spec}
                self.workloads[name] = replace(workload, deployment=awake)

    async def _hold(self, workload: Workload, pods: int, whole: int) -> None:
        fewest = _count(workload, f"{names.AUTOSCALING}/min-scale")
        wanted: dict[str, str | None] = {
            names.FLOOR: str(pods) if pods > fewest else None,
            names.SIZED: f"{whole}/{pods}" if whole else None,
            names.FLOOR_UNTIL: None,
        }
        if names.REACHABILITY in workload.annotations:
            wanted[names.REACHABILITY] = "reachable"
        await self.applier.annotate(DEPLOYMENT, workload.deployment, wanted)
        if pods:
            await self.applier.raise_to(workload.deployment, pods)

    async def note_proofs(self) -> None:
        """Remember which revisions had a ready pod."""
        for workload in self.workloads.values():
            if not (workload.autoscaled and workload.ready_pods):
                continue
            proof: dict[str, str | None] = {
                names.PROVEN: "true",
                names.PROVEN_TEMPLATE: template_hash(workload.deployment),
            }
            if names.REACHABILITY not in workload.annotations:
                proof[names.REACHABILITY] = "reachable"
            await self.applier.annotate(DEPLOYMENT, workload.deployment, proof)


def _count(workload: Workload, annotation: str) -> int:
    given = workload.annotations.get(annotation, "")
    return int(given) if given.isdigit() else 0


def _is_full(workload: Workload) -> bool:
    """Whether further pods of a revision find no place."""
    if conditions_of(workload.deployment).get("ReplicaFailure", {}).get("status") == "True":
        return True
    return any(
        conditions_of(pod).get("PodScheduled", {}).get("reason") == UNSCHEDULABLE
        for pod in workload.current_pods
    )
