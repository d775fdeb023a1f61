"""Runs Deployments: one step per reconcile, each step seen before the next is taken."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kedge.api.scheme import DEPLOYMENT, POD, REPLICA_SET
from kedge.cluster.base import Cluster, EventType, Object
from kedge.cluster.errors import AlreadyExists, ApiError, NotFound
from kedge.cluster.labels import labels_of, matches
from kedge.cluster.local.workloads.claims import OWNER_INDEX, Claims, index_owners
from kedge.cluster.local.workloads.deployments import progress, revisions, rolling, scaling
from kedge.cluster.local.workloads.pods import has_ended
from kedge.cluster.local.workloads.status import REST, StatusWriter, find_condition
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.reconcile import Controller, EventRecorder, Informers, Key, Result, controller_of

_SOURCE = "deployment-controller"


class DeploymentController:
    """Keeps ReplicaSets as their Deployment's template, size and strategy ask."""

    def __init__(
        self, cluster: Cluster, informers: Informers, *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._deployments = informers.of(DEPLOYMENT)
        self._sets = informers.of(REPLICA_SET)
        self._pods = informers.of(POD)
        self._claims = Claims(cluster, self._sets)
        self._status = StatusWriter(cluster, self._deployments)
        self._events = EventRecorder(cluster, _SOURCE, clock)
        self._controller = Controller("deployments", self.reconcile, clock=clock, rest=REST)
        index_owners(self._sets)
        self._deployments.on_change(self._deployment_changed)
        self._sets.on_change(self._set_changed)
        self._pods.on_change(self._pod_changed)

    async def run(self) -> None:
        for informer in (self._deployments, self._sets, self._pods):
            await informer.synced.wait()
        await self._controller.run()

    async def reconcile(self, key: Key) -> Result | None:
        deployment = self._deployments.get(key.namespace, key.name)
        if deployment is None:
            return None
        owned = await self._claims.of(deployment)
        new, old = revisions.split(deployment, owned)
        if "deletionTimestamp" in deployment["metadata"]:
            await self._write_counts(deployment, new, owned)
            return None
        if deployment["spec"].get("paused"):
            return await self._hold(deployment, new, old)
        deployment = await self._note_pause(deployment, paused=False)
        if new is not None:
            new = await self._make_current(deployment, new, old)
        if scaling.was_resized(deployment, owned):
            return await self._resize(deployment, new, old)
        if (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
            return await self._recreate(deployment, new, old)
        return await self._roll(deployment, new, old)

    # The strategies

    async def _roll(
        self, deployment: Object, new: Object | None, old: list[Object]
    ) -> Result | None:
        if new is None:
            return await self._begin(deployment, old)
        size = rolling.new_size(deployment, rolling.size_of(new), [*old, new])
        if size != rolling.size_of(new):
            new = await self._scale(deployment, new, size)
            return await self._conclude(deployment, new, old)
        sizes = rolling.shrink_old(deployment, new, old)
        if sizes:
            old = await self._scale_all(deployment, old, sizes)
            return await self._conclude(deployment, new, old)
        return await self._conclude(deployment, new, old)

    async def _recreate(
        self, deployment: Object, new: Object | None, old: list[Object]
    ) -> Result | None:
        active = {one["metadata"]["name"]: 0 for one in old if rolling.size_of(one) > 0}
        if active:
            old = await self._scale_all(deployment, old, active)
            return await self._conclude(deployment, new, old)
        if any(self._has_pods(one) for one in old):
            return await self._conclude(deployment, new, old)
        if new is None:
            return await self._begin(deployment, old)
        if rolling.size_of(new) != rolling.wanted(deployment):
            new = await self._scale(deployment, new, rolling.wanted(deployment))
        return await self._conclude(deployment, new, old)

    async def _resize(
        self, deployment: Object, new: Object | None, old: list[Object]
    ) -> Result | None:
        """Give every ReplicaSet its size, and its note of the Deployment's size, anew.

        Their change brings us back, to tell the counts.
        """
        sizes = scaling.resize(deployment, new, old)
        every = [*old, *([new] if new else [])]
        await self._scale_all(deployment, every, sizes, annotate=True)
        return None

    async def _hold(
        self, deployment: Object, new: Object | None, old: list[Object]
    ) -> Result | None:
        """A paused Deployment follows its size, but not its template."""
        deployment = await self._note_pause(deployment, paused=True)
        if scaling.was_resized(deployment, [*old, *([new] if new else [])]):
            return await self._resize(deployment, new, old)
        await self._clean_up(deployment, old)
        await self._write_counts(deployment, new, [*old, *([new] if new else [])])
        return None

    def _has_pods(self, replica_set: Object) -> bool:
        pods = self._pods.by_index(OWNER_INDEX, replica_set["metadata"]["uid"])
        return not all(map(has_ended, pods))

    # ReplicaSets

    async def _begin(self, deployment: Object, old: list[Object]) -> Result | None:
        """Create the ReplicaSet of a new template, and say so in the same write as its counts."""
        new = await self._create_set(deployment, old)
        return await self._conclude(
            deployment, new, old, said=f'Created new replica set "{new["metadata"]["name"]}"'
        )

    async def _create_set(self, deployment: Object, old: list[Object]) -> Object:
        revision = revisions.next_revision(old)
        size = rolling.new_size(deployment, 0, old)
        made = revisions.make_replica_set(deployment, revision, size)
        try:
            created = await self._cluster.create(REPLICA_SET, made)
        except AlreadyExists:
            created = await self._adopt_existing(deployment, made)
        except ApiError as error:
            said = f'Failed to create new replica set "{made["metadata"]["name"]}": {error}'
            await self._say_progress(deployment, "False", "ReplicaSetCreateError", said)
            await self._events.record(deployment, "Warning", "ReplicaSetCreateError", said)
            raise
        self._sets.note_write(created)
        await self._note_revision(deployment, revision)
        if size:
            await self._say_scaled(deployment, created, 0, size)
        return created

    async def _adopt_existing(self, deployment: Object, made: Object) -> Object:
        """Ours from before our cache saw it; or another template's of the same hash: try again."""
        metadata = made["metadata"]
        found = await self._cluster.get(REPLICA_SET, metadata["name"], metadata["namespace"])
        owner = controller_of(found)
        ours = owner is not None and owner["uid"] == deployment["metadata"]["uid"]
        if ours and revisions.same_template(found["spec"]["template"], made["spec"]["template"]):
            return found
        status = dict(deployment.get("status") or {})
        status["collisionCount"] = status.get("collisionCount", 0) + 1
        await self._status.write(deployment, status)
        raise AlreadyExists(
            f"ReplicaSet {metadata['name']} exists and is not of this template;"
            " another name will be tried"
        )

    async def _make_current(self, deployment: Object, new: Object, old: list[Object]) -> Object:
        """Number the ReplicaSet of the current template as the latest, if it is an old one."""
        revision = max(revisions.next_revision(old), revisions.revision_of(new))
        annotations = revisions.current_annotations(deployment, new, revision)
        patch: dict[str, Any] = {}
        if annotations != (new["metadata"].get("annotations") or {}):
            patch["metadata"] = {"annotations": annotations}
        min_ready = deployment["spec"].get("minReadySeconds", 0)
        if new["spec"].get("minReadySeconds", 0) != min_ready:
            patch["spec"] = {"minReadySeconds": min_ready}
        if patch:
            new = await self._patch_set(new, patch)
        await self._note_revision(deployment, revision)
        if find_condition((deployment.get("status") or {}).get("conditions") or (),
                          progress.PROGRESSING) is None:  # fmt: skip
            said = f'Found new replica set "{new["metadata"]["name"]}"'
            await self._say_progress(deployment, "True", "FoundNewReplicaSet", said)
        return new

    async def _scale_all(
        self,
        deployment: Object,
        replica_sets: list[Object],
        sizes: dict[str, int],
        *,
        annotate: bool = False,
    ) -> list[Object]:
        scaled = []
        for one in replica_sets:
            name = one["metadata"]["name"]
            if name in sizes or annotate:
                one = await self._scale(deployment, one, sizes.get(name, rolling.size_of(one)))
            scaled.append(one)
        return scaled

    async def _scale(self, deployment: Object, replica_set: Object, size: int) -> Object:
        before = rolling.size_of(replica_set)
        notes = scaling.size_annotations(deployment)
        annotations = replica_set["metadata"].get("annotations") or {}
        if size == before and all(annotations.get(key) == one for key, one in notes.items()):
            return replica_set
        patch: dict[str, Any] = {"metadata": {"annotations": notes}}
        if size != before:
            patch["spec"] = {"replicas": size}
        written = await self._patch_set(replica_set, patch)
        if size != before:
            await self._say_scaled(deployment, replica_set, before, size)
        return written

    async def _patch_set(self, replica_set: Object, patch: dict[str, Any]) -> Object:
        metadata = replica_set["metadata"]
        written = await self._cluster.patch(
            REPLICA_SET, metadata["name"], patch, namespace=metadata["namespace"]
        )
        self._sets.note_write(written)
        return written

    async def _clean_up(self, deployment: Object, old: list[Object]) -> None:
        for one in revisions.expired(deployment, old):
            metadata = one["metadata"]
            try:
                await self._cluster.delete(
                    REPLICA_SET, metadata["name"], metadata["namespace"], uid=metadata["uid"]
                )
            except NotFound:
                continue

    # The Deployment itself

    async def _conclude(
        self, deployment: Object, new: Object | None, old: list[Object], *, said: str = ""
    ) -> Result | None:
        """Write counts and progress; come back when the progress deadline may have passed.

        Args:
            said: what is to be told of the creation of `new`.
        """
        stored = deployment = self._latest(deployment)
        every = [*old, *([new] if new else [])]
        now = self._clock.now()
        if said:
            deployment = _progressed(deployment, "True", "NewReplicaSetCreated", said, now)
        counts = progress.count(deployment, new, every, now)
        status = progress.judge(deployment, counts, new, every, now)
        if progress.is_complete(deployment, status):
            await self._clean_up(deployment, old)
        await self._status.write(stored, status)
        left = progress.seconds_until_stuck(deployment, status["conditions"], now)
        return Result(requeue_after=left + 1) if left is not None and left >= 0 else None

    async def _write_counts(
        self, deployment: Object, new: Object | None, every: list[Object]
    ) -> None:
        deployment = self._latest(deployment)
        status = progress.count(deployment, new, every, self._clock.now())
        await self._status.write(deployment, status)

    async def _note_pause(self, deployment: Object, *, paused: bool) -> Object:
        """Say that the rollout was paused or goes on, so that the deadline starts anew."""
        if progress.deadline_of(deployment) is None:
            return deployment
        conditions = (deployment.get("status") or {}).get("conditions") or ()
        before = find_condition(conditions, progress.PROGRESSING)
        if before is not None and before["reason"] == progress.TIMED_OUT:
            return deployment
        was_paused = before is not None and before["reason"] == progress.PAUSED
        if paused and not was_paused:
            await self._say_progress(deployment, "Unknown", progress.PAUSED, "Deployment is paused")
        elif not paused and was_paused:
            await self._say_progress(
                deployment, "Unknown", progress.RESUMED, "Deployment is resumed"
            )
        return self._latest(deployment)

    async def _say_progress(
        self, deployment: Object, status: str, reason: str, message: str
    ) -> None:
        deployment = self._latest(deployment)
        told = _progressed(deployment, status, reason, message, self._clock.now())
        if told is not deployment:
            await self._status.write(deployment, told["status"])

    async def _say_scaled(
        self, deployment: Object, replica_set: Object, before: int, after: int
    ) -> None:
        verb = "up" if after > before else "down"
        name = replica_set["metadata"]["name"]
        await self._events.record(
            deployment, "Normal", "ScalingReplicaSet",
            f"Scaled {verb} replica set {name} from {before} to {after}",
        )  # fmt: skip

    async def _note_revision(self, deployment: Object, revision: int) -> None:
        if revisions.revision_of(self._latest(deployment)) == revision:
            return
        metadata = deployment["metadata"]
        written = await self._cluster.patch(
            DEPLOYMENT,
            metadata["name"],
            {"metadata": {"annotations": {revisions.REVISION: str(revision)}}},
            namespace=metadata["namespace"],
        )
        self._deployments.note_write(written)

    def _latest(self, deployment: Object) -> Object:
        """The cached status of the Deployment, with the spec that this reconcile acts on."""
        metadata = deployment["metadata"]
        cached = self._deployments.get(metadata["namespace"], metadata["name"])
        if cached is None or cached["metadata"]["uid"] != metadata["uid"]:
            return deployment
        generation = metadata.get("generation")
        acted_on = {**cached["metadata"], "generation": generation}
        return {**cached, "metadata": acted_on, "spec": deployment["spec"]}

    # Changes

    def _deployment_changed(self, type: EventType, obj: Object, old: Object | None) -> None:
        self._enqueue(obj, obj["metadata"]["name"])

    def _set_changed(self, type: EventType, obj: Object, old: Object | None) -> None:
        owners = [controller_of(one) for one in (obj, old) if one is not None]
        names = {one["name"] for one in owners if one and one["kind"] == "Deployment"}
        if not any(owners):
            names |= {
                one["metadata"]["name"]
                for one in self._deployments.list(obj["metadata"]["namespace"])
                if matches(one["spec"].get("selector"), labels_of(obj))
            }
        for name in names:
            self._enqueue(obj, name)

    def _pod_changed(self, type: EventType, pod: Object, old: Object | None) -> None:
        """Only a Deployment that waits for the last old pod to go needs to hear of pods."""
        owner = controller_of(pod)
        if type is not EventType.DELETED and not has_ended(pod):
            return
        if owner is None or owner["kind"] != "ReplicaSet":
            return
        replica_set = self._sets.get(pod["metadata"]["namespace"], owner["name"])
        reference = controller_of(replica_set) if replica_set is not None else None
        if reference is not None and reference["kind"] == "Deployment":
            self._enqueue(pod, reference["name"])

    def _enqueue(self, obj: Object, name: str) -> None:
        self._controller.enqueue(Key(obj["metadata"]["namespace"], name))


def _progressed(
    deployment: Object, status: str, reason: str, message: str, now: datetime
) -> Object:
    """The Deployment with its progress told, where progress is looked after at all."""
    if progress.deadline_of(deployment) is None:
        return deployment
    condition = progress.make_condition(progress.PROGRESSING, status, reason, message, now)
    old = deployment.get("status") or {}
    conditions = progress.with_condition(old.get("conditions") or [], condition)
    return {**deployment, "status": {**old, "conditions": conditions}}
