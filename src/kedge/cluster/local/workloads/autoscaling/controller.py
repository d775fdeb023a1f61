"""Runs HorizontalPodAutoscalers: every 15 seconds, and whenever one changes."""

from __future__ import annotations

from typing import Any, NamedTuple

from kedge.api.scheme import DEPLOYMENT, HORIZONTAL_POD_AUTOSCALER, POD, REPLICA_SET, Kind
from kedge.cluster.base import Cluster, EventType, Object
from kedge.cluster.labels import labels_of, matches
from kedge.cluster.local.workloads.autoscaling.behavior import Memory, temper
from kedge.cluster.local.workloads.autoscaling.metrics import MetricError, read_metric
from kedge.cluster.local.workloads.autoscaling.usage import PodUsage, UnknownUsage, Usage
from kedge.cluster.local.workloads.status import Condition, StatusWriter, find_condition
from kedge.lib.clock import SYSTEM_CLOCK, Clock, format_time
from kedge.reconcile import Controller, EventRecorder, Informers, Key, Result

_PERIOD = 15.0
_MANAGER = "horizontal-pod-autoscaler"
_TARGETS: dict[str, Kind] = {"Deployment": DEPLOYMENT, "ReplicaSet": REPLICA_SET}


class Decision(NamedTuple):
    """How many pods, and what is said about it.

    Attributes:
        replicas: None when nothing can be concluded.
        conditions: type -> status, reason, message.
    """

    replicas: int | None
    conditions: dict[str, tuple[str, str, str]]
    metrics: list[dict[str, Any]]


class HorizontalAutoscaler:
    """Scales Deployments and ReplicaSets by the CPU and memory that their pods use.

    Args:
        usage: what pods use; without, only the bounds are kept and the conditions say why.
    """

    def __init__(
        self,
        cluster: Cluster,
        informers: Informers,
        *,
        usage: PodUsage | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._usage = usage or UnknownUsage()
        self._autoscalers = informers.of(HORIZONTAL_POD_AUTOSCALER)
        self._pods = informers.of(POD)
        self._targets = {name: informers.of(kind) for name, kind in _TARGETS.items()}
        self._status = StatusWriter(cluster, self._autoscalers)
        self._events = EventRecorder(cluster, _MANAGER, clock)
        self._memories: dict[str, Memory] = {}
        self._controller = Controller("autoscalers", self.reconcile, clock=clock)
        self._autoscalers.on_change(self._changed)

    async def run(self) -> None:
        for informer in (self._autoscalers, self._pods, *self._targets.values()):
            await informer.synced.wait()
        await self._controller.run()

    async def reconcile(self, key: Key) -> Result | None:
        autoscaler = self._autoscalers.get(key.namespace, key.name)
        if autoscaler is None:
            return None
        target = self._target(autoscaler)
        if target is None:
            wanted = autoscaler["spec"]["scaleTargetRef"]
            said = f'the target {wanted["kind"]} "{wanted["name"]}" is not there'
            missing = {"AbleToScale": ("False", "FailedGetScale", said)}
            await self._say(autoscaler, None, Decision(None, missing, []))
            return Result(requeue_after=_PERIOD)
        decision = self._decide(autoscaler, target)
        current = int(target["spec"].get("replicas", 1))
        if decision.replicas is not None and decision.replicas != current:
            await self._scale(autoscaler, target, current, decision)
        await self._say(autoscaler, target, decision)
        return Result(requeue_after=_PERIOD)

    def _target(self, autoscaler: Object) -> Object | None:
        reference = autoscaler["spec"]["scaleTargetRef"]
        informer = self._targets.get(reference["kind"])
        if informer is None:
            return None
        return informer.get(autoscaler["metadata"]["namespace"], reference["name"])

    def _decide(self, autoscaler: Object, target: Object) -> Decision:
        spec = autoscaler["spec"]
        current = int(target["spec"].get("replicas", 1))
        least, most = int(spec.get("minReplicas", 1)), int(spec["maxReplicas"])
        able = {"AbleToScale": ("True", "SucceededGetScale",
                "the HPA controller was able to get the target's current scale")}  # fmt: skip
        if current == 0 and least > 0:
            off = ("False", "ScalingDisabled",
                   "scaling is disabled since the replica count of the target is zero")  # fmt: skip
            return Decision(None, {**able, "ScalingActive": off}, [])
        if not least <= current <= most:
            return Decision(min(max(current, least), most), able, [])
        readings, problems = self._read(autoscaler, target, current)
        metrics = [one.status for one in readings]
        # With a metric unknown, the others may ask for more pods but not for fewer.
        if not readings or (problems and max(one.replicas for one in readings) <= current):
            failed = ("False", problems[0].reason, str(problems[0]))
            return Decision(None, {**able, "ScalingActive": failed}, metrics)
        active = ("True", "ValidMetricFound",
                  "the HPA was able to successfully calculate a replica count")  # fmt: skip
        wanted = max(one.replicas for one in readings)
        memory = self._memories.setdefault(autoscaler["metadata"]["uid"], Memory())
        tempered = temper(spec.get("behavior"), current, wanted, memory, self._clock.monotonic())
        replicas = min(max(tempered, least), most)
        conditions = {
            **able,
            "ScalingActive": active,
            "ScalingLimited": _limited(tempered, least, most),
        }
        return Decision(replicas, conditions, metrics)

    def _read(self, autoscaler: Object, target: Object, current: int) -> Any:
        selector = target["spec"].get("selector")
        pods = [
            pod
            for pod in self._pods.list(target["metadata"]["namespace"])
            if matches(selector, labels_of(pod))
        ]
        usages: dict[str, Usage] = {}
        for pod in pods:
            used = self._usage.of(pod["metadata"]["uid"])
            if used is not None:
                usages[pod["metadata"]["uid"]] = used
        readings, problems = [], []
        for metric in autoscaler["spec"].get("metrics") or ():
            try:
                readings.append(read_metric(metric, current, pods, usages))
            except MetricError as error:
                problems.append(error)
        if not readings and not problems:
            problems.append(
                MetricError("the HPA has no metrics.", reason="InvalidMetricSourceType")
            )
        return readings, problems

    async def _scale(
        self, autoscaler: Object, target: Object, current: int, decision: Decision
    ) -> None:
        assert decision.replicas is not None
        kind = _TARGETS[autoscaler["spec"]["scaleTargetRef"]["kind"]]
        metadata = target["metadata"]
        await self._cluster.scale(
            kind, metadata["name"], metadata["namespace"], decision.replicas, field_manager=_MANAGER
        )
        memory = self._memories.setdefault(autoscaler["metadata"]["uid"], Memory())
        memory.changes.append((self._clock.monotonic(), decision.replicas - current))
        above = decision.replicas > current
        why = "resource utilization above target" if above else "All metrics below target"
        if not decision.metrics:
            why = (
                "Current number of replicas below Spec.MinReplicas"
                if above
                else ("Current number of replicas above Spec.MaxReplicas")
            )
        said = f"New size: {decision.replicas}; reason: {why}"
        await self._events.record(autoscaler, "Normal", "SuccessfulRescale", said)

    async def _say(self, autoscaler: Object, target: Object | None, decision: Decision) -> None:
        old = autoscaler.get("status") or {}
        current = int(((target or {}).get("status") or {}).get("replicas", 0))
        asked = int(((target or {}).get("spec") or {}).get("replicas", 0))
        desired = asked if decision.replicas is None else decision.replicas
        now = format_time(self._clock.now())
        status: dict[str, Any] = {
            "currentReplicas": current,
            "desiredReplicas": desired,
            "conditions": _make_conditions(old.get("conditions") or [], decision.conditions, now),
        }
        if decision.metrics:
            status["currentMetrics"] = decision.metrics
        if decision.replicas is not None and decision.replicas != asked:
            status["lastScaleTime"] = now
        elif "lastScaleTime" in old:
            status["lastScaleTime"] = old["lastScaleTime"]
        await self._status.write(autoscaler, status)

    def _changed(self, type: EventType, obj: Object, old: Object | None) -> None:
        if type is EventType.DELETED:
            self._memories.pop(obj["metadata"]["uid"], None)
        if old is None or obj["spec"] != old["spec"]:
            self._controller.enqueue(Key(obj["metadata"]["namespace"], obj["metadata"]["name"]))


def _limited(wanted: int, least: int, most: int) -> tuple[str, str, str]:
    if wanted > most:
        return ("True", "TooManyReplicas",
                "the desired replica count is more than the maximum replica count")  # fmt: skip
    if wanted < least:
        return ("True", "TooFewReplicas",
                "the desired replica count is less than the minimum replica count")  # fmt: skip
    return ("False", "DesiredWithinRange", "the desired count is within the acceptable range")


def _make_conditions(
    before: list[Condition], said: dict[str, tuple[str, str, str]], now: str
) -> list[Condition]:
    made = []
    for type, (status, reason, message) in said.items():
        old = find_condition(before, type)
        since = old["lastTransitionTime"] if old and old["status"] == status else now
        made.append({
            "type": type, "status": status, "lastTransitionTime": since, "reason": reason,
            "message": message,
        })  # fmt: skip
    return made
