"""Whether a pod fits a node, and in which words it does not."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from kedge.cluster.base import Object
from kedge.cluster.labels import labels_of, matches_expression, matches_labels
from kedge.cluster.local.workloads.scheduler.resources import (
    PODS,
    Usage,
    allocatable_of,
    format_amount,
    requests_of,
)

_HOLDERS_NAMED = 3


class Misfit(NamedTuple):
    """Why a node does not take a pod.

    Attributes:
        reason: Kubernetes' words, the same for every node it is true of.
        detail: the amounts, and who has them; may be empty.
        fix: what a person can do about it.
    """

    reason: str
    detail: str = ""
    fix: str = ""


def misfits_of(pod: Object, node: Object, usage: Usage) -> list[Misfit]:
    """Every reason, apart from other pods' affinities, that a node does not take a pod."""
    spec = pod.get("spec") or {}
    taint = _untolerated(spec.get("tolerations") or (), node)
    if taint is not None:
        return [taint]
    name = node["metadata"]["name"]
    if not _is_selected(spec, node):
        return [
            Misfit(
                "node(s) didn't match Pod's node affinity/selector",
                f"node {name} has labels {_format_labels(labels_of(node))}",
                "Change nodeSelector or nodeAffinity of the pod, or label the node.",
            )
        ]
    return _shortages(pod, node, usage)


def could_fit(pod: Object, node: Object) -> bool:
    """Whether the node, were it empty, would have what the pod asks for."""
    total = allocatable_of(node)
    return all(
        amount <= total.get(resource, Decimal(110 if resource == PODS else 0))
        for resource, amount in requests_of(pod).items()
    )


def _shortages(pod: Object, node: Object, usage: Usage) -> list[Misfit]:
    name = node["metadata"]["name"]
    total, used = allocatable_of(node), usage.on(name)
    found = []
    for resource, amount in sorted(requests_of(pod).items()):
        have = total.get(resource, Decimal(110 if resource == PODS else 0))
        free = have - used.get(resource, Decimal(0))
        if amount > free:
            found.append(_shortage(resource, amount, free, have, name, usage))
    return found


def _shortage(
    resource: str, amount: Decimal, free: Decimal, have: Decimal, node: str, usage: Usage
) -> Misfit:
    reason = "Too many pods" if resource == PODS else f"Insufficient {resource}"
    wanted, left, whole = (format_amount(resource, one) for one in (amount, free, have))
    detail = f"{resource}: wants {wanted}, node {node} has {left} of {whole} free"
    holders = usage.holders(node, resource)
    if resource != PODS and holders:
        named = ", ".join(
            f"{pod} {format_amount(resource, held)}" for pod, held in holders[:_HOLDERS_NAMED]
        )
        more = len(holders) - _HOLDERS_NAMED
        detail += f", used by {named}" + (f" and {more} more" if more > 0 else "")
    if not have:
        fix = f"Run it where there is {resource}, or take {resource} out of its requests."
    elif amount > have:
        fix = f"Ask for at most {whole} of {resource}."
    else:
        fix = "Delete or scale down one of these, or ask for less."
    return Misfit(reason, detail, fix)


def _untolerated(tolerations: Any, node: Object) -> Misfit | None:
    spec = node.get("spec") or {}
    taints = list(spec.get("taints") or ())
    if spec.get("unschedulable"):
        taints.append({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"})
    for taint in taints:
        if taint.get("effect") == "PreferNoSchedule":
            continue
        if not any(_tolerates(toleration, taint) for toleration in tolerations):
            if taint["key"] == "node.kubernetes.io/unschedulable":
                name = node["metadata"]["name"]
                return Misfit("node(s) were unschedulable", fix=f"kubectl uncordon {name}")
            said = f"{{{taint['key']}: {taint.get('value', '')}}}"
            return Misfit(
                f"node(s) had untolerated taint {said}",
                fix="Give the pod a toleration for it, or take the taint off the node.",
            )
    return None


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if toleration.get("key") not in (None, "", taint["key"]):
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value", "") == taint.get("value", ""))


def _is_selected(spec: Mapping[str, Any], node: Object) -> bool:
    if not matches_labels(spec.get("nodeSelector") or {}, labels_of(node)):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    return any(_term_matches(term, node) for term in required.get("nodeSelectorTerms") or ())


def _term_matches(term: Mapping[str, Any], node: Object) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    named = {"metadata.name": node["metadata"]["name"]}
    return all(matches_expression(one, labels_of(node)) for one in expressions) and all(
        matches_expression(one, named) for one in fields
    )


def _format_labels(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items())) or "none"
