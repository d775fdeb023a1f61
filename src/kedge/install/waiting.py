"""Waits until what was applied is so."""

from __future__ import annotations

from kedge.api.scheme import DEPLOYMENT, POD
from kedge.cluster.base import Object
from kedge.install import names
from kedge.install.kinds import CUSTOM_RESOURCE_DEFINITION
from kedge.install.objects.meta import selector
from kedge.install.target import InstallError, Target, Tell
from kedge.lib.clock import Clock

_PERIOD = 0.5
_DEPLOYMENTS = ((names.CONTROLLER, "controller"), (names.GATEWAY, "gateway"))


class Deadline:
    """So long may all waits of one run last together."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._end = clock.monotonic() + seconds

    async def pause(self, what: str, fix: str) -> None:
        """A moment's sleep; after the end, an error that says what is still missing."""
        if self._clock.monotonic() >= self._end:
            raise InstallError(what, fix=fix, reason="TimedOut")
        await self._clock.sleep(_PERIOD)


async def wait_established(cluster: Target, name: str, deadline: Deadline) -> None:
    """Until the API server serves a definition's kind."""
    while True:
        conditions = _conditions(await cluster.get(CUSTOM_RESOURCE_DEFINITION, name))
        refused = conditions.get("NamesAccepted", {})
        if conditions.get("Established", {}).get("status") == "True":
            return
        if refused.get("status") == "False":
            raise InstallError(
                f"CustomResourceDefinition {name}: {refused.get('message')}",
                fix="Remove the definition whose names are the same.",
            )
        await deadline.pause(
            f"CustomResourceDefinition {name} is not established.",
            "Look at the API server's log.",
        )


async def wait_rolled_out(cluster: Target, namespace: str, deadline: Deadline, tell: Tell) -> None:
    """Until the pods of both Deployments are the new ones, and ready."""
    for name, component in _DEPLOYMENTS:
        said = ""
        while True:
            deployment = await cluster.get(DEPLOYMENT, name, namespace)
            missing = describe_rollout(deployment)
            if not missing:
                tell(f"{name} runs.")
                break
            trouble = await _trouble(cluster, namespace, component) or _refusal(deployment)
            line = f"{name}: {missing}{f'; {trouble}' if trouble else ''}"
            if line != said:
                tell(line)
                said = line
            await deadline.pause(
                f"{line}.",
                f"kubectl describe pods -n {namespace} -l app.kubernetes.io/component={component},"
                " and run kedge install again.",
            )


def describe_rollout(deployment: Object) -> str:
    """What a Deployment is still short of; empty when it is rolled out."""
    status, wanted = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return "not seen by the cluster's controllers yet"
    updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    if updated < wanted or available < wanted:
        return f"{min(updated, available)} of {wanted} pods are ready"
    if status.get("replicas", 0) > updated:
        return "old pods are ending"
    return ""


async def _trouble(cluster: Target, namespace: str, component: str) -> str:
    """Why the first pod that does not run does not."""
    labels = ",".join(f"{key}={value}" for key, value in selector(component).items())
    for pod in (await cluster.list(POD, namespace, labels=labels)).items:
        status = pod.get("status") or {}
        scheduled = _conditions(pod).get("PodScheduled", {})
        if scheduled.get("status") == "False":
            return f"pod {pod['metadata']['name']}: {scheduled.get('message')}"
        all_ = [
            *(status.get("initContainerStatuses") or ()),
            *(status.get("containerStatuses") or ()),
        ]
        for container in all_:
            waiting = (container.get("state") or {}).get("waiting") or {}
            last = (container.get("lastState") or {}).get("terminated") or {}
            if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
                # Of a log, its last line: a traceback is long, and ends with what it is about.
                told = (last.get("message") or waiting.get("message") or "").strip()
                told = told.rpartition("\n")[2]
                return (
                    f"pod {pod['metadata']['name']}, container {container['name']}:"
                    f" {waiting['reason']} {told}".strip()
                )
    return ""


def _refusal(deployment: Object) -> str:
    """Why no pod could be made: a quota, or an admission policy."""
    failure = _conditions(deployment).get("ReplicaFailure", {})
    return str(failure.get("message", "")) if failure.get("status") == "True" else ""


def _conditions(obj: Object) -> dict[str, Object]:
    found = (obj.get("status") or {}).get("conditions") or ()
    return {condition["type"]: condition for condition in found}
