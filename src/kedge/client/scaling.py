"""How services scale: what Kedge's autoscaler says of itself, and the status of HPAs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kedge.api.inferenceservice.scaler import AUTOSCALER_CLASS, Scaler
from kedge.api.scheme import DEPLOYMENT, HORIZONTAL_POD_AUTOSCALER, INFERENCE_SERVICE
from kedge.client.control import ISVC_LABEL, ControlClient
from kedge.client.errors import NotServed
from kedge.cluster.base import Object
from kedge.cluster.errors import NotFound
from kedge.lib.durations import format_duration
from kedge.settings.serving import DEFAULT_NAMESPACE

_SCALING = f"/api/v1/namespaces/{DEFAULT_NAMESPACE}/services/kedge-autoscaler:http/proxy/scaling"
_WHAT = {"concurrency": "in flight", "rps": "requests/s"}


@dataclass(frozen=True)
class Scaling:
    """One Deployment's.

    Attributes:
        scaler: who counts its pods.
        load: what that goes by, in words.
        decision: how many pods there are to be, and why.
        zero: when the last pod goes, in words; empty where it never does.
        raw: what the autoscaler, or the HorizontalPodAutoscaler's status, says.
    """

    service: str
    namespace: str
    deployment: str
    scaler: str
    ready: int
    replicas: int
    load: str = ""
    target: str = ""
    wanted: str = ""
    decision: str = ""
    bounds: str = ""
    zero: str = ""
    problems: tuple[str, ...] = ()
    raw: dict[str, Any] = field(default_factory=dict)


async def gather(
    client: ControlClient, name: str = "", namespace: str | None = None, *, everywhere: bool = False
) -> tuple[list[Scaling], list[str]]:
    """What scales how, and what is wrong with all of it.

    Raises:
        NotFound: there is no InferenceService of that name.
        NotServed: the API leads to no autoscaler.
    """
    if name:
        await client.get(INFERENCE_SERVICE, name, namespace)
    labels = f"{ISVC_LABEL}={name}" if name else ISVC_LABEL
    where = "" if everywhere else client.namespace_of(DEPLOYMENT, namespace) or ""
    params = {"namespace": where, "service": name}
    said = await _ask(client, {key: value for key, value in params.items() if value})
    deployments = await client.list(DEPLOYMENT, namespace, labels=labels, everywhere=everywhere)
    hpas = await client.list(
        HORIZONTAL_POD_AUTOSCALER, namespace, labels=labels, everywhere=everywhere
    )
    by_place = {(one["namespace"], one["deployment"]): one for one in said["items"]}
    found = []
    for deployment in deployments.items:
        place = (deployment["metadata"]["namespace"], deployment["metadata"]["name"])
        hpa = _find(hpas.items, place)
        if place in by_place and (hpa is None or by_place[place]["replicas"] == 0):
            found.append(of_autoscaler(by_place[place]))
        else:
            found.append(of_others(deployment, hpa))
    if name:
        pods = await client.pods_of(name, namespace)
        found = [replace(one, problems=(*one.problems, *homeless(one, pods))) for one in found]
    wrong = [str(said[key]) for key in ("missing", "configProblem") if said.get(key)]
    return sorted(found, key=lambda one: (one.namespace, one.deployment)), wrong


async def _ask(client: ControlClient, params: dict[str, str]) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = await client.read(_SCALING, params)
    except NotFound as error:
        raise NotServed(
            f"{client.access.server} leads to no Kedge autoscaler.",
            fix="Use the kubeconfig of an API under which Kedge runs; on Kubernetes your account"
            " needs `get` on `services/proxy` in the namespace kedge.",
        ) from error
    return answer


def _find(hpas: list[Object], place: tuple[str, str]) -> Object | None:
    for hpa in hpas:
        target = hpa["spec"].get("scaleTargetRef") or {}
        if (hpa["metadata"]["namespace"], target.get("name")) == place:
            return hpa
    return None


def homeless(scaling: Scaling, pods: Sequence[Object]) -> list[str]:
    """What keeps a Deployment's pods from being placed, such as too few GPUs."""
    told: Counter[str] = Counter()
    for pod in pods:
        if _deployment_of(pod) != scaling.deployment or (pod["spec"] or {}).get("nodeName"):
            continue
        for condition in (pod.get("status") or {}).get("conditions") or ():
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                told[str(condition.get("message") or condition.get("reason"))] += 1
    return [
        f"{count} {'pod has' if count == 1 else 'pods have'} no place: {message}"
        for message, count in told.items()
    ]


def _deployment_of(pod: Object) -> str:
    """A pod is a ReplicaSet's, and that is named after its Deployment and its template."""
    owners = pod["metadata"].get("ownerReferences") or ()
    sets = [str(one["name"]) for one in owners if one.get("kind") == "ReplicaSet"]
    return sets[0].rpartition("-")[0] if sets else ""


def of_autoscaler(said: dict[str, Any]) -> Scaling:
    """What the autoscaler says of one Deployment."""
    what = _WHAT[said["metric"]]
    stable, panic = (format_duration(said[f"{one}WindowSeconds"]) for one in ("stable", "panic"))
    load = f"{_number(said['stable'])} {what} over {stable}, {_number(said['panic'])} over {panic}"
    if said["metric"] == "concurrency":
        load += f"; {_number(said['requestsPerSecond'])} requests/s"
    load += f"; {_number(said['held'])} held now"
    wanted = said["replicas"] if said["wanted"] is None else said["wanted"]
    return Scaling(
        service=said["service"],
        namespace=said["namespace"],
        deployment=said["deployment"],
        scaler=f"Kedge, by {said['metric']}",
        ready=said["ready"],
        replicas=said["replicas"],
        load=load,
        target=f"{_number(said['target'])} {what} a pod",
        wanted=str(wanted),
        decision=f"{wanted} {'pod' if wanted == 1 else 'pods'}: {said['reason']}",
        bounds=_bounds(said["minScale"], said["maxScale"]),
        zero=_zero(said),
        problems=tuple(said["problems"]),
        raw=said,
    )


def _zero(said: dict[str, Any]) -> str:
    seconds = said["secondsToZero"]
    if seconds is None:
        return "never"
    if said["replicas"] == 0:
        return "now"
    after = " after the last request" if said["inFlight"] or said["held"] else ""
    return f"{'' if after else 'in '}{format_duration(seconds)}{after}"


def _bounds(least: int, most: int) -> str:
    return f"{least} to {most} pods" if most else f"{least} pods or more"


def of_others(deployment: Object, hpa: Object | None) -> Scaling:
    """A Deployment whose pods somebody else counts."""
    metadata, status = deployment["metadata"], deployment.get("status") or {}
    given = (metadata.get("annotations") or {}).get(AUTOSCALER_CLASS, "")
    scaler = given or (Scaler.HPA if hpa else Scaler.NONE)
    replicas = int(deployment["spec"].get("replicas", 1))
    common: dict[str, Any] = {
        "service": (metadata.get("labels") or {}).get(ISVC_LABEL, ""),
        "namespace": metadata["namespace"],
        "deployment": metadata["name"],
        "ready": int(status.get("readyReplicas") or 0),
        "replicas": replicas,
    }
    if hpa is None:
        return Scaling(scaler=_OTHERS.get(scaler, scaler), wanted=str(replicas), **common)
    return _of_hpa(hpa, common)


_OTHERS = {
    Scaler.HPA: "nothing: its HorizontalPodAutoscaler is not there",
    Scaler.KEDA: "KEDA, by its ScaledObject",
    Scaler.EXTERNAL: "something outside of Kedge",
    Scaler.NONE: "nobody",
}


def _of_hpa(hpa: Object, common: dict[str, Any]) -> Scaling:
    spec, status = hpa["spec"], hpa.get("status") or {}
    wanted = int(status.get("desiredReplicas") or 0)
    said = {one["type"]: one for one in status.get("conditions") or ()}
    active, limited = said.get("ScalingActive", {}), said.get("ScalingLimited", {})
    why = str(active.get("message") or "it has not been looked at yet")
    if active.get("status") == "True" and limited.get("status") == "True":
        why = str(limited.get("message"))
    return Scaling(
        scaler=f"the HorizontalPodAutoscaler {hpa['metadata']['name']}",
        load="; ".join(_resource(one) for one in status.get("currentMetrics") or ()),
        target="; ".join(_goal(one) for one in spec.get("metrics") or ()),
        wanted=str(wanted),
        decision=f"{wanted} {'pod' if wanted == 1 else 'pods'}: {why}",
        bounds=_bounds(int(spec.get("minReplicas", 1)), int(spec["maxReplicas"])),
        zero="never",
        raw=dict(status),
        **common,
    )


def _resource(metric: dict[str, Any]) -> str:
    resource = metric.get("resource") or {}
    current = resource.get("current") or {}
    percent = current.get("averageUtilization")
    amount = current.get("averageValue")
    used = f"{amount}" if percent is None else f"{percent} % ({amount})"
    return f"{resource.get('name')} {used} a pod"


def _goal(metric: dict[str, Any]) -> str:
    resource = metric.get("resource") or {}
    target = resource.get("target") or {}
    percent = target.get("averageUtilization")
    wanted = target.get("averageValue") if percent is None else f"{percent} %"
    return f"{resource.get('name')} {wanted} a pod"


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
