"""Rollouts of a service: promoted, taken back, begun anew; and the revisions there are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kedge.api.scheme import DEPLOYMENT
from kedge.client.control import ISVC_LABEL, ControlClient
from kedge.client.why import COMPONENTS
from kedge.cluster.base import Object
from kedge.lib.errors import KedgeError

RESTARTED = "serving.kedge.dev/restarted-at"
"""Annotation on a component: changing it changes the pods and nothing else."""
_CONFIGURATION = "serving.knative.dev/configuration"
_PINS = "serving.kedge.dev/model-pins"


class NothingToDo(KedgeError):
    """The service is where it was asked to be."""

    reason = "NothingToDo"


def restart_patch(service: Object, now: datetime) -> Object:
    """A merge patch that changes the pods of every component and nothing else."""
    stamp = now.isoformat(timespec="milliseconds")
    present = [component for component in COMPONENTS if service["spec"].get(component)]
    return {"spec": {one: {"annotations": {RESTARTED: stamp}} for one in present}}


def promote_patch(service: Object, canary: str = "") -> Object:
    """A merge patch that gives the candidate all requests.

    Args:
        canary: the variant of `spec.canary`, where there are several.

    Raises:
        NothingToDo: there is no candidate.
        KedgeError: there are several, and none is named.
    """
    name, spec = service["metadata"]["name"], service["spec"]
    if spec.get("canary"):
        return _promote_variant(spec, canary)
    held = [one for one in COMPONENTS if (spec.get(one) or {}).get(_PERCENT) is not None]
    if not held:
        raise NothingToDo(
            f"The service {name} holds nothing back: its newest revision is to get all requests.",
            fix=f"See how far that is: kedge get revisions {name}",
        )
    return {"spec": {one: {_PERCENT: None} for one in held}}


_PERCENT = "canaryTrafficPercent"


def _promote_variant(spec: Mapping[str, Any], canary: str) -> Object:
    variants = {entry["predictor"]["name"]: entry["predictor"] for entry in spec["canary"]}
    if not canary and len(variants) == 1:
        canary = next(iter(variants))
    if canary not in variants:
        listed = ", ".join(sorted(variants))
        problem = f"There is no canary `{canary}`." if canary else "There are several canaries."
        raise KedgeError(problem, fix=f"Name one with --canary: {listed}.")
    rest = [entry for entry in spec["canary"] if entry["predictor"]["name"] != canary]
    # What only counts the canary's pods is not what the whole service needs.
    taken = {key: value for key, value in variants[canary].items() if key != "minReplicas"}
    return {"spec": {"predictor": taken, "canary": rest or None}}


def undo_patch(service: Object) -> Object:
    """A merge patch that gives all requests back to what had them before.

    Raises:
        NothingToDo: there is nothing to go back to.
    """
    name, spec = service["metadata"]["name"], service["spec"]
    if spec.get("canary"):
        return {"spec": {"canary": None}}
    parts = (service.get("status") or {}).get("components") or {}
    back = [
        one
        for one in COMPONENTS
        if spec.get(one) is not None and _has_predecessor(spec[one], parts.get(one))
    ]
    if not back:
        raise NothingToDo(
            f"The service {name} has no revision to go back to.",
            fix=f"Apply the manifest you want; its revisions: kedge get revisions {name}",
        )
    return {"spec": {one: {_PERCENT: 0} for one in back}}


def _has_predecessor(spec: Mapping[str, Any], part: Mapping[str, Any] | None) -> bool:
    found = part or {}
    if spec.get(_PERCENT) == 0:
        return False
    newest, rolled = found.get("latestCreatedRevision"), found.get("latestRolledoutRevision")
    return bool(rolled and rolled != newest) or bool(found.get("previousRolledoutRevision"))


@dataclass(frozen=True)
class Revision:
    """One revision of a component.

    Attributes:
        percent: its share of the requests; tag: under which it is reached alone.
        roles: what it is: newest, ready, rolled out, previous.
        ready: its ready pods; replicas: those asked for.
        state: Ready, at zero, starting, or not ready.
        model: the digest of its model files, shortened; empty where it is not pinned.
        created: when it was made.
    """

    name: str
    component: str
    percent: int
    tag: str
    roles: tuple[str, ...]
    ready: int
    replicas: int
    state: str
    model: str
    created: str


async def revisions_of(
    client: ControlClient, service: Object, namespace: str | None = None
) -> list[Revision]:
    """The revisions of a service, the newest of each component first."""
    selector = f"{ISVC_LABEL}={service['metadata']['name']}"
    listed = await client.list(DEPLOYMENT, namespace, labels=selector)
    return read_revisions(service, listed.items)


def read_revisions(service: Object, deployments: Sequence[Object]) -> list[Revision]:
    """The revisions that a service's Deployments are, the newest of each component first."""
    parts = (service.get("status") or {}).get("components") or {}
    names = {f"{service['metadata']['name']}-{one}": one for one in COMPONENTS}
    found = []
    for deployment in deployments:
        labels = deployment["metadata"].get("labels") or {}
        component = labels.get("component") or names.get(labels.get(_CONFIGURATION, ""), "")
        if _CONFIGURATION in labels:
            found.append(_read(deployment, component, parts.get(component) or {}))
    found.sort(key=lambda revision: revision.name, reverse=True)
    return sorted(found, key=lambda revision: COMPONENTS.index(revision.component))


def _read(deployment: Object, component: str, part: Mapping[str, Any]) -> Revision:
    name = str(deployment["metadata"]["name"])
    targets = [entry for entry in part.get("traffic") or () if entry.get("revisionName") == name]
    roles = tuple(
        role
        for role, key in (
            ("newest", "latestCreatedRevision"),
            ("ready", "latestReadyRevision"),
            ("rolled out", "latestRolledoutRevision"),
            ("previous", "previousRolledoutRevision"),
        )
        if part.get(key) == name
    )
    ready = int((deployment.get("status") or {}).get("readyReplicas") or 0)
    replicas = int(deployment["spec"].get("replicas") or 0)
    return Revision(
        name=name,
        component=component,
        percent=sum(int(entry.get("percent") or 0) for entry in targets),
        tag=", ".join(str(entry["tag"]) for entry in targets if entry.get("tag")),
        roles=roles,
        ready=ready,
        replicas=replicas,
        state=_state(deployment, ready, replicas),
        model=_model(deployment),
        created=str(deployment["metadata"].get("creationTimestamp") or ""),
    )


def _state(deployment: Object, ready: int, replicas: int) -> str:
    proven = (deployment["metadata"].get("annotations") or {}).get("serving.kedge.dev/proven")
    if ready:
        return "ready"
    if proven == "true":
        return "starting" if replicas else "at zero"
    return "not ready"


def _model(deployment: Object) -> str:
    annotations = deployment["spec"]["template"]["metadata"].get("annotations") or {}
    try:
        pins = json.loads(annotations.get(_PINS) or "{}")
    except ValueError:
        return ""
    digests = [str(pin.get("digest", "")).partition(":")[2][:12] for pin in pins.values()]
    return ", ".join(digest for digest in digests if digest)
