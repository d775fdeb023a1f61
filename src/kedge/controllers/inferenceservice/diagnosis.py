"""Finds out why a component is not ready, asking the cluster only for what its pods do not show."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from kedge.api.scheme import EVENT
from kedge.cluster.base import Cluster, Object
from kedge.cluster.errors import ApiError
from kedge.controllers.inferenceservice.causes import (
    NOT_READY,
    SCALED_TO_ZERO,
    Cause,
    Scene,
    find_cause,
)
from kedge.controllers.inferenceservice.components import Component
from kedge.controllers.inferenceservice.observe import Workload, pod_is_ready
from kedge.controllers.inferenceservice.rollout import Outcome
from kedge.lib.clock import Clock
from kedge.reconcile.controller import Key

_LOG_LINES = 3
_LONGEST_PAUSE = 10.0
_SHORTEST_PAUSE = 1.0


class Diagnosis:
    """Looks at the components of one service.

    Attributes:
        look_again: seconds after which a pod that shows nothing yet is worth another look.
    """

    def __init__(self, cluster: Cluster, clock: Clock, service: Key) -> None:
        self._cluster = cluster
        self._clock = clock
        self._namespace, self._isvc = service
        self.look_again: float | None = None

    async def look_at(self, outcome: Outcome) -> None:
        """Note why a component and its canaries do not serve, where they do not."""
        outcome.cause = await self._find(outcome)
        for canary in outcome.canaries:
            if not canary.ready:
                cause = await self._of_workload(
                    canary.component, canary.workload, canary.workload.current_pods
                )
                canary.cause = cause
                if cause is not None and not canary.workload.ready_pods:
                    outcome.causes[canary.workload.name] = cause

    async def _find(self, outcome: Outcome) -> Cause | None:
        """The cause of what the component is judged by; those of other workloads are noted."""
        told = [workload.name for workload in outcome.concerning]
        if outcome.focus.replicas == 0 and not outcome.activatable:
            return self._at_rest(outcome)
        for workload in self._suspects(outcome):
            pods = [pod for pod in workload.current_pods if not pod_is_ready(pod)]
            cause = await self._of_workload(outcome.component, workload, pods)
            if cause is not None:
                outcome.causes[workload.name] = cause
        return next((outcome.causes[name] for name in told if name in outcome.causes), None)

    def _at_rest(self, outcome: Outcome) -> Cause:
        name = outcome.focus.name
        wanted = max(outcome.component.min_replicas, 1)
        return Cause(
            component=outcome.component.kind.value,
            pod="",
            container="",
            reason=SCALED_TO_ZERO,
            evidence=f"Deployment {name} is scaled to 0, so no pod answers.",
            fix=f"kubectl scale deployment {name} -n {self._namespace} --replicas={wanted}",
        )

    def _suspects(self, outcome: Outcome) -> list[Workload]:
        """Workloads without any pod that serves, the one asked for last first."""
        listed = [outcome.focus, *(w for w in outcome.workloads if w is not outcome.focus)]
        return [
            workload
            for workload in listed
            if workload.replicas > 0
            and (
                not any(pod_is_ready(pod) for pod in workload.current_pods)
                or (workload is outcome.focus and outcome.verdict.status == "False")
            )
        ]

    async def _of_workload(
        self, component: Component, workload: Workload, pods: Sequence[Object]
    ) -> Cause | None:
        model = component.spec.get("model") or {}
        scene = Scene(
            isvc=self._isvc,
            component=component.kind.value,
            model_format=str((model.get("modelFormat") or {}).get("name") or ""),
            now=self._clock.now(),
        )
        cause = find_cause(pods, workload.deployment, scene)
        if cause is not None and cause.reason != NOT_READY:
            return cause
        if not pods:
            return None
        if not pods[0]["spec"].get("nodeName"):
            # All there is to know of it so far is in the pod, and its changes are watched.
            return cause
        scene = replace(
            scene, events=await self._events(pods[0]), log=await self._last_lines(pods[0])
        )
        self._plan_another_look(pods[0])
        return find_cause(pods[:1], workload.deployment, scene)

    async def _events(self, pod: Object) -> list[Object]:
        metadata = pod["metadata"]
        try:
            found = await self._cluster.list(
                EVENT, metadata["namespace"], fields=f"involvedObject.uid={metadata.get('uid')}"
            )
        except ApiError:
            return []
        return sorted(found.items, key=_when)

    async def _last_lines(self, pod: Object) -> str:
        """What a container wrote that runs but is not ready."""
        for status in (pod.get("status") or {}).get("containerStatuses") or ():
            if "running" not in (status.get("state") or {}) or status.get("ready"):
                continue
            lines = b""
            metadata = pod["metadata"]
            with contextlib.suppress(ApiError):
                async for piece in self._cluster.logs(
                    metadata["name"],
                    metadata["namespace"],
                    container=status["name"],
                    tail=_LOG_LINES,
                ):
                    lines += piece
            return lines.decode(errors="replace")
        return ""

    def _plan_another_look(self, pod: Object) -> None:
        """Events about a pod do not change the pod; look again, ever less often."""
        created = pod["metadata"].get("creationTimestamp")
        age = 0.0
        if created:
            age = (self._clock.now() - datetime.fromisoformat(str(created))).total_seconds()
        pause = min(max(age / 2, _SHORTEST_PAUSE), _LONGEST_PAUSE)
        self.look_again = min(pause, self.look_again or pause)


def _when(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")
