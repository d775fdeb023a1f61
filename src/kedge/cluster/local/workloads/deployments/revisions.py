"""ReplicaSets of a Deployment: one per template, numbered in the order they were made current."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from kedge.cluster.base import Object
from kedge.cluster.local.workloads.deployments.rolling import oldest_first
from kedge.cluster.local.workloads.deployments.scaling import DESIRED, MAXIMUM, size_annotations
from kedge.reconcile import controller_reference

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
_NOT_COPIED = frozenset({
    "kubectl.kubernetes.io/last-applied-configuration", REVISION, REVISION_HISTORY, DESIRED,
    MAXIMUM, "deprecated.deployment.rollback.to",
})  # fmt: skip
_SAFE = "bcdfghjklmnpqrstvwxz2456789"


def template_hash(template: Object, collisions: int = 0) -> str:
    """Ten characters that stand for a template; never a word, never ambiguous to read."""
    text = json.dumps([_normal(template), collisions], sort_keys=True)
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    letters = ""
    for _ in range(10):
        number, rest = divmod(number, len(_SAFE))
        letters += _SAFE[rest]
    return letters


def same_template(one: Object, other: Object) -> bool:
    """Whether two templates make the same pods, apart from the hash label."""
    plain, others = _without_hash(one), _without_hash(other)
    return plain == others or bool(_without_empty(plain) == _without_empty(others))


def _normal(template: Object) -> Any:
    return _without_empty(_without_hash(template))


def _without_hash(template: Object) -> Object:
    metadata = dict(template.get("metadata") or {})
    labels = dict(metadata.get("labels") or {})
    labels.pop(HASH_LABEL, None)
    return {**template, "metadata": {**metadata, "labels": labels}}


def _without_empty(value: Any) -> Any:
    """The value without what Kubernetes takes as not said: null, {} and []."""
    if isinstance(value, dict):
        kept = ((key, _without_empty(one)) for key, one in value.items())
        return {key: one for key, one in kept if one not in (None, {}, [])}
    if isinstance(value, list):
        return [_without_empty(one) for one in value]
    return value


def split(deployment: Object, replica_sets: list[Object]) -> tuple[Object | None, list[Object]]:
    """The ReplicaSet of the current template, if there is one, and all others."""
    template = deployment["spec"]["template"]
    alike = (
        one
        for one in oldest_first(replica_sets)
        if same_template(one["spec"]["template"], template)
    )
    new = next(alike, None)
    return new, [one for one in replica_sets if one is not new]


def revision_of(obj: Object) -> int:
    text = (obj["metadata"].get("annotations") or {}).get(REVISION, "")
    return int(text) if text.isdigit() else 0


def next_revision(old: list[Object]) -> int:
    return max(map(revision_of, old), default=0) + 1


def make_replica_set(deployment: Object, revision: int, size: int) -> Object:
    """The ReplicaSet of the current template."""
    spec = deployment["spec"]
    template = spec["template"]
    collisions = (deployment.get("status") or {}).get("collisionCount", 0)
    hashed = {HASH_LABEL: template_hash(template, collisions)}
    metadata = template.get("metadata") or {}
    labels = {**(metadata.get("labels") or {}), **hashed}
    selector = spec["selector"]
    made_spec: dict[str, Any] = {
        "replicas": size,
        "selector": {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), **hashed}},
        "template": {**template, "metadata": {**metadata, "labels": labels}},
    }
    if spec.get("minReadySeconds"):
        made_spec["minReadySeconds"] = spec["minReadySeconds"]
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{deployment['metadata']['name']}-{hashed[HASH_LABEL]}",
            "namespace": deployment["metadata"]["namespace"],
            "labels": labels,
            "annotations": {**_copied_annotations(deployment), **size_annotations(deployment),
                            REVISION: str(revision)},
            "ownerReferences": [controller_reference(deployment)],
        },
        "spec": made_spec,
    }  # fmt: skip


def current_annotations(deployment: Object, new: Object, revision: int) -> dict[str, str]:
    """What the current ReplicaSet's annotations must be; an older revision made current again
    remembers the numbers it had."""
    annotations = dict(new["metadata"].get("annotations") or {})
    annotations |= _copied_annotations(deployment)
    before = revision_of(new)
    if before < revision:
        annotations[REVISION] = str(revision)
        if before:
            history = [one for one in annotations.get(REVISION_HISTORY, "").split(",") if one]
            if str(before) not in history:
                annotations[REVISION_HISTORY] = ",".join([*history, str(before)])
    return annotations


def _copied_annotations(deployment: Object) -> dict[str, str]:
    annotations: dict[str, str] = deployment["metadata"].get("annotations") or {}
    return {key: value for key, value in annotations.items() if key not in _NOT_COPIED}


def expired(deployment: Object, old: list[Object]) -> list[Object]:
    """Old, empty ReplicaSets beyond `revisionHistoryLimit`, which may be deleted."""
    limit = deployment["spec"].get("revisionHistoryLimit", 10)
    living = [one for one in old if "deletionTimestamp" not in one["metadata"]]
    surplus = sorted(living, key=revision_of)[: max(0, len(living) - limit)]
    return [one for one in surplus if _is_empty(one)]


def _is_empty(replica_set: Object) -> bool:
    status = replica_set.get("status") or {}
    return (
        not status.get("replicas", 0)
        and not replica_set["spec"].get("replicas", 1)
        and replica_set["metadata"].get("generation", 0) <= status.get("observedGeneration", 0)
    )
