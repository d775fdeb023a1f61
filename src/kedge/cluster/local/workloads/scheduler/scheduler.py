"""Binds pods to nodes."""

from __future__ import annotations

from collections import Counter
from typing import Any

from kedge.api.scheme import NODE, POD
from kedge.cluster.base import Cluster, EventType, Object
from kedge.cluster.errors import Conflict, NotFound
from kedge.cluster.local.workloads.pods import (
    condition_of,
    has_ended,
    is_ready,
    is_terminating,
)
from kedge.cluster.local.workloads.scheduler.affinity import (
    has_pod_affinity,
    is_attracted,
    is_repelled,
)
from kedge.cluster.local.workloads.scheduler.fit import Misfit, could_fit, misfits_of
from kedge.cluster.local.workloads.scheduler.resources import Usage, requests_of
from kedge.cluster.local.workloads.status import without_condition
from kedge.lib.clock import SYSTEM_CLOCK, Clock, format_time
from kedge.reconcile import Controller, EventRecorder, Informers, Key, Result

_NAME = "default-scheduler"
_SCHEDULED = "PodScheduled"
_SHY = "pods-with-pod-affinity"
_PATIENCE = 10.0
"""Seconds for which a pod that comes, gets ready or goes gives hope to those that wait for room:
they are not told that there is none before all stands still."""


class Scheduler:
    """Gives every pod a node that has room for it, oldest request first.

    A pod that fits nowhere stays Pending and says why; it is tried again when a pod ends or a node
    changes.
    """

    def __init__(
        self, cluster: Cluster, informers: Informers, *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._pods = informers.of(POD)
        self._nodes = informers.of(NODE)
        self._events = EventRecorder(cluster, _NAME, clock)
        self._usage = Usage()
        self._waiting: dict[Key, str] = {}
        self._moved_at = float("-inf")
        # One at a time: two pods must not be given the same room.
        self._controller = Controller("scheduler", self.reconcile, workers=1, clock=clock)
        self._pods.add_index(_SHY, lambda pod: [""] if has_pod_affinity(pod) else [])
        self._pods.on_change(self._pod_changed)
        self._nodes.on_change(self._node_changed)

    async def run(self) -> None:
        await self._nodes.synced.wait()
        await self._pods.synced.wait()
        await self._controller.run()

    async def reconcile(self, key: Key) -> Result | None:
        pod = self._pods.get(key.namespace, key.name)
        if pod is None or not _wants_node(pod):
            self._pass_on(key)
            return None
        hope = self._moved_at + _PATIENCE - self._clock.monotonic()
        if hope > 0 and not any(could_fit(pod, node) for node in self._nodes.list()):
            hope = 0.0
        wish = _wish(pod, by_labels=self._minds_others(pod))
        if hope > 0 and self._first(wish) not in (None, key):
            # Whoever asked for the same before goes first, and calls the next.
            self._waiting[key] = wish
            return Result(requeue_after=hope)
        node, refusals = self._choose(pod)
        if node is not None:
            self._pass_on(key)
            await self._bind(pod, node)
            return None
        self._waiting[key] = wish
        if hope > 0:
            return Result(requeue_after=hope)
        await self._refuse(pod, refusals)
        return None

    def _first(self, wish: str) -> Key | None:
        """Who has waited longest of those that ask for the same."""
        return next((key for key, asked in self._waiting.items() if asked == wish), None)

    def _pass_on(self, key: Key) -> None:
        """A pod waits no more: the next of those that ask for the same may have more luck."""
        wish = self._waiting.pop(key, None)
        following = None if wish is None else self._first(wish)
        if following is not None:
            self._controller.enqueue(following)

    def _choose(self, pod: Object) -> tuple[str | None, dict[str, list[Misfit]]]:
        """The least used node that fits, or what each node has against the pod."""
        refusals: dict[str, list[Misfit]] = {}
        fitting = []
        located = self._located() if self._minds_others(pod) else []
        for node in self._nodes.list():
            name = node["metadata"]["name"]
            misfits = misfits_of(pod, node, self._usage)
            if not misfits and is_repelled(pod, node, located):
                misfits = [Misfit("node(s) didn't match pod anti-affinity rules")]
            elif not misfits and not is_attracted(pod, node, located):
                misfits = [Misfit("node(s) didn't match pod affinity rules")]
            if misfits:
                refusals[name] = misfits
            else:
                fitting.append(name)
        fitting.sort(key=lambda name: (self._usage.on(name).get("pods", 0), name))
        return (fitting[0] if fitting else None), refusals

    def _minds_others(self, pod: Object) -> bool:
        return has_pod_affinity(pod) or bool(self._pods.by_index(_SHY, ""))

    def _located(self) -> list[tuple[Object, Object]]:
        found = []
        for pod in self._pods.list():
            node = self._nodes.get(None, (pod.get("spec") or {}).get("nodeName") or "")
            if node is not None and not has_ended(pod):
                found.append((pod, node))
        return found

    async def _bind(self, pod: Object, node: str) -> None:
        metadata = pod["metadata"]
        patch = {"metadata": {"uid": metadata["uid"]}, "spec": {"nodeName": node}}
        try:
            if condition_of(pod, _SCHEDULED) is not None:
                # What was said before is true no more; else the node says it with all the rest.
                await self._set_condition(pod, self._scheduled())
            bound = await self._cluster.patch(
                POD, metadata["name"], patch, namespace=metadata["namespace"]
            )
        except (NotFound, Conflict):
            return
        self._pods.note_write(bound)
        self._moved_at = self._clock.monotonic()
        said = f"Successfully assigned {metadata['namespace']}/{metadata['name']} to {node}"
        await self._events.record(pod, "Normal", "Scheduled", said)

    def _scheduled(self) -> dict[str, Any]:
        return {
            "type": _SCHEDULED,
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": format_time(self._clock.now()),
        }

    async def _refuse(self, pod: Object, refusals: dict[str, list[Misfit]]) -> None:
        message = explain(refusals)
        before = condition_of(pod, _SCHEDULED)
        if before is not None and before.get("message") == message:
            return
        now = format_time(self._clock.now())
        condition = {
            "type": _SCHEDULED,
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastProbeTime": None,
            "lastTransitionTime": before["lastTransitionTime"] if before else now,
        }
        try:
            await self._set_condition(pod, condition)
        except (NotFound, Conflict):
            return
        await self._events.record(pod, "Warning", "FailedScheduling", message)

    async def _set_condition(self, pod: Object, condition: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        conditions = (pod.get("status") or {}).get("conditions") or ()
        conditions = [*without_condition(conditions, _SCHEDULED), condition]
        patch = {"metadata": {"uid": metadata["uid"]}, "status": {"conditions": conditions}}
        written = await self._cluster.patch(
            POD, metadata["name"], patch, namespace=metadata["namespace"], subresource="status"
        )
        self._pods.note_write(written)

    def _pod_changed(self, type: EventType, pod: Object, old: Object | None) -> None:
        key = Key(pod["metadata"]["namespace"], pod["metadata"]["name"])
        if type is EventType.DELETED:
            self._pass_on(key)
            freed = self._usage.remove(pod)
        elif old is not None and _says_same(pod, old):
            if is_ready(pod) and not is_ready(old):
                # One that only had to prove itself goes soon.
                self._moved_at = self._clock.monotonic()
            return
        else:
            freed = self._usage.put(pod)
            if _wants_node(pod):
                self._controller.enqueue(key)
        if freed:
            self._moved_at = self._clock.monotonic()
            self._retry()

    def _node_changed(self, type: EventType, node: Object, old: Object | None) -> None:
        if old is None or _offer(node) != _offer(old):
            self._retry()

    def _retry(self) -> None:
        """The oldest of those that ask for the same stands for them all."""
        oldest: dict[str, Key] = {}
        for key, wish in self._waiting.items():
            oldest.setdefault(wish, key)
        for key in oldest.values():
            self._controller.enqueue(key)


def explain(refusals: dict[str, list[Misfit]]) -> str:
    """Kubernetes' line, then amounts and what to do."""
    if not refusals:
        return "no nodes available to schedule pods"
    counts = Counter(misfit.reason for misfits in refusals.values() for misfit in misfits)
    total = len(refusals)
    reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(counts.items()))
    every = [misfit for misfits in refusals.values() for misfit in misfits]
    details = [misfit.detail for misfit in every if misfit.detail]
    fixes = list(dict.fromkeys(misfit.fix for misfit in every if misfit.fix))
    text = f"0/{total} nodes are available: {reasons}."
    if details:
        text += f" {'; '.join(details)}."
    return f"{text} Fix: {' '.join(fixes)}" if fixes else text


def _wish(pod: Object, *, by_labels: bool) -> str:
    """All of a pod that decides where it fits: where one does not, its equals do not either."""
    spec = pod.get("spec") or {}
    if by_labels:
        return str(pod["metadata"].get("uid"))
    amounts = sorted((name, str(amount)) for name, amount in requests_of(pod).items())
    rest = [spec.get("nodeSelector"), spec.get("affinity"), spec.get("tolerations")]
    return repr((amounts, rest))


def _wants_node(pod: Object) -> bool:
    spec = pod.get("spec") or {}
    return (
        not spec.get("nodeName")
        and not spec.get("schedulingGates")
        and spec.get("schedulerName", _NAME) == _NAME
        and not is_terminating(pod)
        and not has_ended(pod)
    )


def _says_same(pod: Object, old: Object) -> bool:
    """Whether all that the scheduler reads of a pod is as it was."""
    return (
        pod["spec"] == old["spec"]
        and pod["metadata"].get("labels") == old["metadata"].get("labels")
        and has_ended(pod) == has_ended(old)
        and is_terminating(pod) == is_terminating(old)
    )


def _offer(node: Object) -> tuple[object, ...]:
    """All of a node that decides what fits."""
    spec, status = node.get("spec") or {}, node.get("status") or {}
    return (
        node["metadata"].get("labels"),
        spec.get("taints"),
        spec.get("unschedulable"),
        status.get("allocatable"),
        status.get("capacity"),
    )
