"""ReplicaSets: as many pods as asked for, of one template."""

from __future__ import annotations

from typing import Any

from kedge.api.scheme import POD, REPLICA_SET
from kedge.cluster.base import Cluster, EventType, Object
from kedge.cluster.errors import ApiError, Conflict, NotFound
from kedge.cluster.labels import labels_of, matches, matches_labels
from kedge.cluster.local.workloads.claims import Claims, index_owners
from kedge.cluster.local.workloads.pods import (
    is_active,
    is_ready,
    make_pod,
    rank_for_deletion,
    seconds_until_available,
)
from kedge.cluster.local.workloads.status import (
    REST,
    StatusWriter,
    find_condition,
    without_condition,
)
from kedge.lib.clock import SYSTEM_CLOCK, Clock, format_time
from kedge.reconcile import (
    Controller,
    EventRecorder,
    Informers,
    Key,
    Result,
    controller_of,
    controller_reference,
)

_SOURCE = "replicaset-controller"


class ReplicaSetController:
    """Creates and deletes pods, and counts them in the status."""

    def __init__(
        self, cluster: Cluster, informers: Informers, *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._sets = informers.of(REPLICA_SET)
        self._pods = informers.of(POD)
        self._claims = Claims(cluster, self._pods)
        self._status = StatusWriter(cluster, self._sets)
        self._events = EventRecorder(cluster, _SOURCE, clock)
        self._giving_up: set[str] = set()
        self._controller = Controller("replicasets", self.reconcile, clock=clock, rest=REST)
        index_owners(self._pods)
        self._sets.on_change(self._set_changed)
        self._pods.on_change(self._pod_changed)

    async def run(self) -> None:
        await self._sets.synced.wait()
        await self._pods.synced.wait()
        await self._controller.run()

    async def reconcile(self, key: Key) -> Result | None:
        replica_set = self._sets.get(key.namespace, key.name)
        if replica_set is None:
            return None
        pods = [pod for pod in await self._claims.of(replica_set) if is_active(pod)]
        pods = [pod for pod in pods if pod["metadata"]["uid"] not in self._giving_up]
        failure: tuple[str, ApiError] | None = None
        if "deletionTimestamp" not in replica_set["metadata"]:
            pods, failure = await self._balance(replica_set, pods)
        await self._status.write(replica_set, self._make_status(replica_set, pods, failure))
        if failure:
            raise failure[1]
        return self._next_available(replica_set, pods)

    async def _balance(
        self, replica_set: Object, pods: list[Object]
    ) -> tuple[list[Object], tuple[str, ApiError] | None]:
        """Create or delete until the number is right; the pods then, and what failed."""
        missing = replica_set["spec"].get("replicas", 1) - len(pods)
        try:
            if missing > 0:
                reason = "FailedCreate"
                reference = controller_reference(replica_set)
                for _ in range(missing):
                    pods = [*pods, await self._create_pod(replica_set, reference)]
            elif missing < 0:
                reason = "FailedDelete"
                for pod in rank_for_deletion(pods)[:-missing]:
                    await self._delete_pod(replica_set, pod)
                    pods = [one for one in pods if one is not pod]
        except ApiError as error:
            verb = "creating" if missing > 0 else "deleting"
            await self._events.record(replica_set, "Warning", reason, f"Error {verb}: {error}")
            return pods, (reason, error)
        return pods, None

    async def _create_pod(self, replica_set: Object, reference: dict[str, Any]) -> Object:
        pod = make_pod(replica_set, replica_set["spec"]["template"], reference)
        created = await self._cluster.create(POD, pod)
        self._pods.note_write(created)
        name = created["metadata"]["name"]
        await self._events.record(replica_set, "Normal", "SuccessfulCreate", f"Created pod: {name}")
        return created

    async def _delete_pod(self, replica_set: Object, pod: Object) -> None:
        metadata = pod["metadata"]
        self._giving_up.add(metadata["uid"])
        try:
            await self._cluster.delete(
                POD, metadata["name"], metadata["namespace"], uid=metadata["uid"]
            )
        except (NotFound, Conflict):
            return
        except ApiError:
            self._giving_up.discard(metadata["uid"])
            raise
        await self._events.record(
            replica_set, "Normal", "SuccessfulDelete", f"Deleted pod: {metadata['name']}"
        )

    def _make_status(
        self, replica_set: Object, pods: list[Object], failure: tuple[str, ApiError] | None
    ) -> dict[str, Any]:
        spec, old = replica_set["spec"], replica_set.get("status") or {}
        labels = (spec["template"].get("metadata") or {}).get("labels") or {}
        min_ready = spec.get("minReadySeconds", 0)
        now = self._clock.now()
        counts = {
            "fullyLabeledReplicas": sum(matches_labels(labels, labels_of(pod)) for pod in pods),
            "readyReplicas": sum(map(is_ready, pods)),
            "availableReplicas": sum(
                seconds_until_available(pod, min_ready, now) == 0 for pod in pods
            ),
        }
        status = {
            "replicas": len(pods),
            **{name: count for name, count in counts.items() if count},
            "observedGeneration": replica_set["metadata"].get("generation", 0),
        }
        conditions = self._make_conditions(old.get("conditions") or [], failure)
        return {**status, "conditions": conditions} if conditions else status

    def _make_conditions(
        self, conditions: list[dict[str, Any]], failure: tuple[str, ApiError] | None
    ) -> list[dict[str, Any]]:
        others = without_condition(conditions, "ReplicaFailure")
        if failure is None:
            return others
        before = find_condition(conditions, "ReplicaFailure")
        since = before["lastTransitionTime"] if before else format_time(self._clock.now())
        reason, error = failure
        condition = {
            "type": "ReplicaFailure",
            "status": "True",
            "lastTransitionTime": since,
            "reason": reason,
            "message": str(error),
        }
        return [*others, condition]

    def _next_available(self, replica_set: Object, pods: list[Object]) -> Result | None:
        """Come back when the next ready pod has been ready for long enough."""
        min_ready = replica_set["spec"].get("minReadySeconds", 0)
        now = self._clock.now()
        waits = [seconds_until_available(pod, min_ready, now) for pod in pods]
        pending = [wait for wait in waits if wait]
        return Result(requeue_after=min(pending)) if pending else None

    def _set_changed(self, type: EventType, obj: Object, old: Object | None) -> None:
        self._controller.enqueue(Key(obj["metadata"]["namespace"], obj["metadata"]["name"]))

    def _pod_changed(self, type: EventType, pod: Object, old: Object | None) -> None:
        metadata = pod["metadata"]
        if type is EventType.DELETED or "deletionTimestamp" in metadata:
            self._giving_up.discard(metadata["uid"])
        owners = [controller_of(one) for one in (pod, old) if one is not None]
        names = {one["name"] for one in owners if one and one["kind"] == "ReplicaSet"}
        if not any(owners):
            names |= self._selecting(pod)
        for name in names:
            self._controller.enqueue(Key(metadata["namespace"], name))

    def _selecting(self, pod: Object) -> set[str]:
        """ReplicaSets that would adopt a pod without a controller."""
        return {
            one["metadata"]["name"]
            for one in self._sets.list(pod["metadata"]["namespace"])
            if matches(one["spec"].get("selector"), labels_of(pod))
        }
