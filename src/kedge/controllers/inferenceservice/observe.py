"""What became of workloads: Deployments, their pods, and routes, read as facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kedge.cluster.base import Object
from kedge.controllers.inferenceservice import names
from kedge.controllers.inferenceservice.capacity import Sized
from kedge.controllers.inferenceservice.children.deployment import template_hash


@dataclass(frozen=True)
class Verdict:
    """One observation: `status` is True, False or Unknown."""

    status: str
    reason: str = ""
    message: str = ""

    @property
    def ok(self) -> bool:
        return self.status == "True"


READY = Verdict("True")


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The first False one, else the first Unknown one, else True."""
    listed = list(verdicts)
    for status in ("False", "Unknown"):
        for verdict in listed:
            if verdict.status == status:
                return verdict
    return READY


def conditions_of(obj: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["type"]: entry for entry in (obj.get("status") or {}).get("conditions") or ()}


def pod_is_ready(pod: Object) -> bool:
    """Whether a pod answers requests and is not on its way out."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    return conditions_of(pod).get("Ready", {}).get("status") == "True"


def newest_first(pods: Iterable[Object]) -> list[Object]:
    """Pods that are not being deleted, the newest first, ties by name."""
    alive = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    alive.sort(key=lambda pod: str(pod["metadata"]["name"]))
    alive.sort(key=lambda pod: str(pod["metadata"].get("creationTimestamp") or ""), reverse=True)
    return alive


def signs_of(pod: Object) -> tuple[object, ...] | None:
    """All that is read of a pod; None where it counts for nothing: it is going, or nobody has
    said anything about it yet."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    node, conditions = pod["spec"].get("nodeName"), status.get("conditions") or ()
    if metadata.get("deletionTimestamp") or not (node or conditions):
        return None
    return (
        *(metadata.get(field) for field in ("uid", "labels", "annotations", "ownerReferences")),
        node,
        *(status.get(field) for field in ("phase", "reason", "message")),
        [[one.get(f) for f in ("type", "status", "reason", "message")] for one in conditions],
        status.get("initContainerStatuses"),
        status.get("containerStatuses"),
    )


@dataclass(frozen=True)
class Workload:
    """A Deployment and its pods."""

    deployment: Object
    pods: Sequence[Object]

    @property
    def name(self) -> str:
        return str(self.deployment["metadata"]["name"])

    @property
    def ready_pods(self) -> list[Object]:
        return [pod for pod in self.pods if pod_is_ready(pod)]

    @property
    def current_pods(self) -> list[Object]:
        """Pods of the template that is asked for now, newest first."""
        wanted = template_hash(self.deployment)
        return [pod for pod in newest_first(self.pods) if template_hash(pod) == wanted]

    @property
    def replicas(self) -> int:
        given = self.deployment["spec"].get("replicas")
        return 1 if given is None else int(given)

    @property
    def annotations(self) -> Mapping[str, str]:
        return self.deployment["metadata"].get("annotations") or {}

    @property
    def autoscaled(self) -> bool:
        """Whether Kedge's autoscaler writes the count."""
        labels = self.deployment["metadata"].get("labels") or {}
        return labels.get(names.AUTOSCALED) == "true"

    @property
    def proven(self) -> bool:
        """Whether a pod of the template that is asked for now was ever ready."""
        if self.annotations.get(names.PROVEN) == "true":
            given = self.annotations.get(names.PROVEN_TEMPLATE)
            if given == template_hash(self.deployment):
                return True
        return any(pod_is_ready(pod) for pod in self.current_pods)

    @property
    def floor(self) -> int:
        """The fewest pods for now, besides the fewest that are always asked for."""
        given = self.annotations.get(names.FLOOR, "")
        return int(given) if given.isdigit() else 0

    @property
    def last_failure(self) -> str:
        """Why its pods could not start last; empty once one was ready."""
        return str(self.annotations.get(names.LAST_FAILURE, ""))

    @property
    def sized(self) -> Sized | None:
        """What it was given when requests moved to it last, while that is remembered."""
        whole, _, pods = self.annotations.get(names.SIZED, "").partition("/")
        return Sized(int(whole), int(pods)) if whole.isdigit() and pods.isdigit() else None

    @property
    def is_up_to_date(self) -> bool:
        """Whether all pods are of the template that is asked for now, and as many as asked for."""
        status = self.deployment.get("status") or {}
        generation = int(self.deployment["metadata"].get("generation") or 0)
        return (
            int(status.get("observedGeneration") or 0) >= generation
            and int(status.get("updatedReplicas") or 0) >= self.replicas
            and int(status.get("replicas") or 0) <= max(self.replicas, 0)
        )

    def verdict(self, *, whole: bool = False) -> Verdict:
        """Readiness from the Deployment's conditions; the later ones win.

        What Kedge scales and what was ready once is ready, whatever its count is on the way to: a
        request is held until there is a pod. Why there may be none is a cause, not a verdict.
        What another scales is ready while its template has come about and a pod answers, though
        Kubernetes calls it unavailable while it grows.

        Args:
            whole: a pod alone answers nothing: all are needed.
        """
        if self.autoscaled and self.proven:
            if self.replicas == 0 and self.last_failure:
                message = f"{self.last_failure} The next request has it tried again."
                return Verdict("False", "CannotStart", message)
            return READY
        if self.autoscaled and self.replicas == 0:
            message = f"No pod of {self.name} was ever ready, and it has none any more."
            return Verdict("False", "NeverReady", message)
        conditions = conditions_of(self.deployment)
        verdict = Verdict("Unknown", "Deploying", f"Deployment {self.name} is starting.")
        available = conditions.get("Available", {})
        progressing = conditions.get("Progressing", {})
        if available.get("status") == "True":
            verdict = _verdict(available)
        if progressing.get("status") == "False" and progressing.get("message"):
            verdict = _verdict(progressing)
        elif progressing.get("status") == "True" and not verdict.ok:
            verdict = Verdict("Unknown", "Deploying", str(progressing.get("message") or ""))
            if progressing.get("reason") == "NewReplicaSetAvailable":
                verdict = _verdict(progressing)
        done = progressing.get("reason") == "NewReplicaSetAvailable"
        answers = done and bool(self.ready_pods) and not whole
        if available.get("status") == "False" and not _starting(progressing) and not answers:
            verdict = _verdict(available)
        if conditions.get("ReplicaFailure", {}).get("status") == "True":
            failure = conditions["ReplicaFailure"]
            return Verdict("False", str(failure.get("reason")), str(failure.get("message") or ""))
        if verdict.ok and not self.ready_pods and self.replicas > 0:
            return Verdict("False", "PodsNotReady", f"No pod of {self.name} is ready.")
        return verdict


def _verdict(condition: Mapping[str, Any]) -> Verdict:
    return Verdict(
        str(condition.get("status")),
        str(condition.get("reason") or ""),
        str(condition.get("message") or ""),
    )


def _starting(progressing: Mapping[str, Any]) -> bool:
    """Whether the pods of a new template are still on their way."""
    return progressing.get("status") == "True" and progressing.get("reason") in (
        "NewReplicaSetCreated",
        "ReplicaSetUpdated",
        "FoundNewReplicaSet",
    )


def route_verdict(route: Object) -> Verdict:
    """Whether requests for a route's hosts are answered now, as its gateway says.

    A statement about an older generation of the route counts for nothing.
    """
    name, generation = route["metadata"]["name"], int(route["metadata"].get("generation") or 0)
    for parent in (route.get("status") or {}).get("parents") or ():
        if parent.get("controllerName") != names.GATEWAY_CONTROLLER:
            continue
        conditions = {
            entry["type"]: entry
            for entry in parent.get("conditions") or ()
            if int(entry.get("observedGeneration") or 0) >= generation
        }
        return _judge_parent(name, conditions)
    return Verdict(
        "Unknown",
        "ParentStatusNotAvailable",
        f"The gateway has not answered for route {name} yet.",
    )


def _judge_parent(name: str, conditions: Mapping[str, Mapping[str, Any]]) -> Verdict:
    for type_ in ("Accepted", "ResolvedRefs", names.ANSWERING):
        condition = conditions.get(type_)
        if condition is None:
            return Verdict("Unknown", "NotAcknowledged", f"The gateway is taking in route {name}.")
        if condition.get("status") != "True":
            message = str(condition.get("message") or f"{type_} is {condition.get('status')}.")
            if type_ != names.ANSWERING and "Fix: " not in message:
                message += (
                    f" Fix: See kubectl describe httproute {name}, and correct what it names."
                )
            return Verdict(
                "False", str(condition.get("reason") or type_), f"Route {name}: {message}"
            )
    return READY
