"""Why a service is as it is: the chain from its Ready condition down to a container's last lines.

`gather` reads the objects, `explain` judges them (a pure function), and the result is a tree of
`Finding`s with one fix at most. The controllers have already put the cause into the conditions;
what is added here is the way there, and an answer when no controller has spoken yet.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from kedge.api.scheme import DEPLOYMENT, EVENT, HTTP_ROUTE, INFERENCE_SERVICE, POD, REPLICA_SET
from kedge.client.control import ISVC_LABEL, ControlClient
from kedge.client.findings import Finding, State, containers_of, fix_in, judge, of_pod
from kedge.client.waiting import Object, Outlook, condition, is_current, look, without_fix
from kedge.cluster.errors import ApiError

COMPONENTS = ("predictor", "transformer", "explainer")

_LOG_LINES = 10
_EVENTS = 8


@dataclass
class Evidence:
    """What `explain` judges: the service and everything that is labelled as its own.

    Attributes:
        logs: last lines by (pod, container).
    """

    service: Object
    deployments: list[Object] = field(default_factory=list)
    replica_sets: list[Object] = field(default_factory=list)
    pods: list[Object] = field(default_factory=list)
    routes: list[Object] = field(default_factory=list)
    events: list[Object] = field(default_factory=list)
    logs: dict[tuple[str, str], list[str]] = field(default_factory=dict)


@dataclass
class Explanation:
    """The answer.

    Attributes:
        ready: whether requests are answered; `url` is where.
        summary: the answer in one line.
        tree: the chain; its root is the service.
        events: the last warnings, oldest first; of a service that is Ready they are history.
        fix: what to do; empty when there is nothing to mend.
    """

    ready: bool
    summary: str
    tree: Finding
    url: str = ""
    events: list[str] = field(default_factory=list)
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "ready": self.ready,
            "summary": self.summary,
            "url": self.url,
            "fix": self.fix,
            "tree": self.tree.to_json(),
            "events": self.events,
        }


async def gather(client: ControlClient, name: str, namespace: str | None = None) -> Evidence:
    """Read what there is to know about a service. Raises `NotFound` when it does not exist."""
    service = await client.get(INFERENCE_SERVICE, name, namespace)
    labels = f"{ISVC_LABEL}={name}"
    deployments, replica_sets, pods, routes, events = await asyncio.gather(
        client.list(DEPLOYMENT, namespace, labels=labels),
        client.list(REPLICA_SET, namespace, labels=labels),
        client.list(POD, namespace, labels=labels),
        client.list(HTTP_ROUTE, namespace),
        client.list(EVENT, namespace),
    )
    evidence = Evidence(
        service,
        deployments.items,
        replica_sets.items,
        sorted(pods.items, key=_age_key),
        [route for route in routes.items if _owned_by(route, service)],
    )
    objects = [service, *evidence.deployments, *evidence.replica_sets, *evidence.pods]
    names = {(obj["kind"], obj["metadata"]["name"]) for obj in objects}
    evidence.events = [e for e in events.items if _regards(e) in names]
    for pod in evidence.pods:
        for status in containers_of(pod):
            if judge(status, pod)[0] is not State.OK:
                key = (pod["metadata"]["name"], status["name"])
                evidence.logs[key] = await _last_lines(client, *key, status, namespace)
    return evidence


async def _last_lines(
    client: ControlClient, pod: str, container: str, status: Object, namespace: str | None
) -> list[str]:
    """The end of a container's log; of its last run where the present one has not begun."""
    previous = "waiting" in (status.get("state") or {}) and status.get("restartCount", 0) > 0
    lines: list[str] = []
    try:
        async for line in client.logs(
            pod, namespace, container=container, previous=previous, tail=_LOG_LINES
        ):
            lines.append(line.decode(errors="replace"))
    except ApiError:
        return []  # nothing was ever written, or the pod is gone by now
    return lines[-_LOG_LINES:]


def explain(evidence: Evidence) -> Explanation:
    """The chain, its cause and its fix."""
    service = evidence.service
    progress = look(service)
    root = Finding(f"InferenceService {service['metadata']['name']}", _STATES[progress.outlook])
    root.below = [_component(evidence, component) for component in _present(service)]
    root.below += _ingress(evidence, is_blamed=all(c.state is not State.FAILED for c in root.below))
    if progress.outlook is Outlook.READY:
        root.told, url = "Ready", _url(service)
        summary = f"{service['metadata']['name']} is Ready and answers at {url}"
        return Explanation(True, summary, root, url)
    if not is_current(service):
        root.told = "its present form has not been looked at by the controller yet"
        root.fix = "Wait a second; if it stays so, see the control log that `kedge status` names."
        cause: Finding | None = None
    else:
        root.told = without_fix(progress.text)
        cause = _deepest(root)
    summary = _summary(evidence, root, cause, progress.outlook)
    if root.told in summary and is_current(service):
        root.told = str(condition(service).get("reason") or "")  # all of it stands above
    fix = _fix(evidence, root, cause, progress.outlook)
    return Explanation(False, summary, root, events=_warnings(evidence), fix=fix)


def _summary(evidence: Evidence, root: Finding, cause: Finding | None, outlook: Outlook) -> str:
    """The controllers' word where it is final, else the link that was found."""
    name = evidence.service["metadata"]["name"]
    if cause is None or cause is root or outlook is Outlook.FAILED:
        return f"{name} is not Ready: {root.told}"
    told = f": {cause.told}" if cause.told else ""
    lines = f" ({without_fix(cause.lines[-1])})" if cause.lines else ""
    return f"{name} is not Ready because of {cause.what}{told}{lines}"


def _url(service: Object) -> str:
    """The form that works from anywhere on this machine, where there is one."""
    status = service.get("status") or {}
    inside = str((status.get("address") or {}).get("url") or "")
    return inside if "/serving/" in inside else str(status.get("url") or inside)


_STATES = {
    Outlook.READY: State.OK,
    Outlook.COMING: State.WAITING,
    Outlook.FAILED: State.FAILED,
    Outlook.STOPPED: State.WAITING,
}


def _present(service: Object) -> list[str]:
    return [component for component in COMPONENTS if (service.get("spec") or {}).get(component)]


def _component(evidence: Evidence, component: str) -> Finding:
    title = component.capitalize()
    finding = _of_condition(evidence.service, f"{title}Ready", title)
    if condition(evidence.service, f"{title}Ready").get("message") == _message(evidence.service):
        finding.told = str(condition(evidence.service).get("reason") or "")
    deployments = [d for d in evidence.deployments if _component_of(d) == component]
    finding.below = [
        _deployment(evidence, deployment)
        for deployment in sorted(deployments, key=_age_key)
        if _wanted(deployment) or _pods_below(evidence, deployment)
    ]
    if not deployments and finding.state is State.WAITING and not finding.told:
        finding.told = "no Deployment was made for it yet"
    return finding


def _of_condition(obj: Object, type: str, title: str) -> Finding:
    found = condition(obj, type)
    told = ": ".join(part for part in (found.get("reason"), found.get("message")) if part)
    status = found.get("status")
    state = State.OK if status == "True" else State.FAILED if status == "False" else State.WAITING
    return Finding(f"{title} ({type})", state, "" if state is State.OK else without_fix(told))


def _message(service: Object) -> str | None:
    """What Ready says; the conditions it was taken from say the same."""
    return condition(service).get("message") or None


def _ingress(evidence: Evidence, *, is_blamed: bool) -> list[Finding]:
    """The route; its parts only where no component is to blame for it."""
    if not condition(evidence.service, "IngressReady"):
        return []
    finding = _of_condition(evidence.service, "IngressReady", "Route")
    if finding.state is not State.OK and is_blamed:
        finding.below = [_route(route) for route in evidence.routes]
    return [finding]


def _route(route: Object) -> Finding:
    conditions = [
        entry
        for parent in (route.get("status") or {}).get("parents") or []
        for entry in parent.get("conditions") or []
    ]
    bad = [entry for entry in conditions if entry.get("status") != "True"]
    told = "; ".join(f"{c['type']}: {c.get('message') or c.get('reason')}" for c in bad)
    what = f"HTTPRoute {route['metadata']['name']}"
    if not conditions:
        return Finding(what, State.WAITING, "the gateway has not taken it up yet")
    return Finding(what, State.WAITING if bad else State.OK, told)


def _deployment(evidence: Evidence, deployment: Object) -> Finding:
    status = deployment.get("status") or {}
    wanted, ready = _wanted(deployment), int(status.get("readyReplicas") or 0)
    failure = condition(deployment, "ReplicaFailure")
    stuck = condition(deployment, "Progressing")
    told = f"{ready} of {wanted} ready"
    state = State.OK if ready >= wanted else State.WAITING
    if failure.get("status") == "True":
        state, told = State.FAILED, f"{told}; {failure.get('reason')}: {failure.get('message')}"
    elif stuck.get("status") == "False":
        state, told = State.FAILED, f"{told}; {stuck.get('reason')}: {stuck.get('message')}"
    finding = Finding(f"Deployment {deployment['metadata']['name']}", state, told)
    for replica_set in sorted(evidence.replica_sets, key=_age_key):
        if _owned_by(replica_set, deployment):
            finding.below += _replica_set(evidence, replica_set)
    return finding


def _replica_set(evidence: Evidence, replica_set: Object) -> list[Finding]:
    pods = [of_pod(pod, evidence.logs) for pod in evidence.pods if _owned_by(pod, replica_set)]
    status, wanted = replica_set.get("status") or {}, _wanted(replica_set)
    if not pods and not wanted:
        return []
    ready = int(status.get("readyReplicas") or 0)
    failure = condition(replica_set, "ReplicaFailure")
    state, told = State.OK if ready >= wanted else State.WAITING, f"{ready} of {wanted} ready"
    if failure.get("status") == "True":
        state, told = State.FAILED, f"{failure.get('reason')}: {failure.get('message')}"
    what = f"ReplicaSet {replica_set['metadata']['name']}"
    return [Finding(what, state, told, below=pods)]


def _deepest(finding: Finding) -> Finding | None:
    """The failed link furthest down the first failed way; else the same for waiting ones."""
    for wanted in (State.FAILED, State.WAITING):
        found = _follow(finding, wanted)
        if found is not None:
            return found
    return None


def _follow(finding: Finding, wanted: State) -> Finding | None:
    best: Finding | None = None
    for below in finding.below:
        found = _follow(below, wanted)
        if found is not None and (best is None or found.what.startswith("container")):
            best = found
            if found.what.startswith("container"):
                break
    return best or (finding if finding.state is wanted else None)


def _fix(evidence: Evidence, root: Finding, cause: Finding | None, outlook: Outlook) -> str:
    """The controllers' own fix where they gave one; then the cause's; then the next best step."""
    name = evidence.service["metadata"]["name"]
    if outlook is Outlook.STOPPED:
        return f"kubectl annotate isvc {name} serving.kserve.io/stop- resumes it."
    conditions = (evidence.service.get("status") or {}).get("conditions") or []
    texts = [condition(evidence.service), *conditions]
    for text in texts:
        if text.get("status") != "True" and (found := fix_in(str(text.get("message") or ""))):
            return found
    if cause is not None and cause.fix:
        return cause.fix
    if root.fix:
        return root.fix
    if cause is not None and cause.lines and (found := fix_in(cause.lines[-1])):
        return found
    if cause is not None and cause.state is State.FAILED:
        return f"See `kedge logs {name}` and mend what it says."
    return "Nothing yet: it is still starting. Ask again in a few seconds."


def _warnings(evidence: Evidence) -> list[str]:
    """The last Warning events, oldest first, repeated ones once."""
    said = _message(evidence.service)
    warnings = [
        event
        for event in evidence.events
        if event.get("type") == "Warning" and event.get("message") != said
    ]
    warnings.sort(key=_event_time)
    told = []
    for event in warnings[-_EVENTS:]:
        kind, name = _regards(event)
        count = int(event.get("count") or (event.get("series") or {}).get("count") or 1)
        times = f" (x{count})" if count > 1 else ""
        message = without_fix(str(event.get("message") or event.get("note") or ""))
        told.append(f"{event.get('reason')} {kind.lower()}/{name}: {message}{times}")
    return told


def _event_time(event: Object) -> str:
    return str(
        event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp") or ""
    )


def _regards(event: Object) -> tuple[str, str]:
    regarded = event.get("involvedObject") or event.get("regarding") or {}
    return str(regarded.get("kind") or ""), str(regarded.get("name") or "")


def _component_of(deployment: Object) -> str:
    metadata = deployment["metadata"]
    labelled = (metadata.get("labels") or {}).get("component")
    if labelled:
        return str(labelled)
    return next((c for c in COMPONENTS if f"-{c}" in metadata["name"]), "predictor")


def _owned_by(obj: Object, owner: Object) -> bool:
    uid = owner["metadata"].get("uid")
    references = obj["metadata"].get("ownerReferences") or []
    return any(reference.get("uid") == uid for reference in references)


def _pods_below(evidence: Evidence, deployment: Object) -> bool:
    sets = [rs for rs in evidence.replica_sets if _owned_by(rs, deployment)]
    return any(_owned_by(pod, rs) for pod in evidence.pods for rs in sets)


def _wanted(obj: Object) -> int:
    replicas = (obj.get("spec") or {}).get("replicas")
    return 1 if replicas is None else int(replicas)


def _age_key(obj: Object) -> tuple[str, str]:
    metadata = obj["metadata"]
    return str(metadata.get("creationTimestamp") or ""), str(metadata["name"])
