"""Required affinity between a pod and the pods that run already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kedge.cluster.base import Object
from kedge.cluster.labels import labels_of, matches

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"

Located = Iterable[tuple[Object, Object]]
"""Running pods, each with its node."""


def has_pod_affinity(pod: Object) -> bool:
    return bool(_terms(pod, "podAffinity") or _terms(pod, "podAntiAffinity"))


def is_repelled(pod: Object, node: Object, located: Located) -> bool:
    """Whether the pod's anti-affinity, or that of a pod there, forbids the node."""
    located = list(located)
    return any(
        _in_domain(term, node, other_node) and _selects(term, pod, other)
        for term in _terms(pod, "podAntiAffinity")
        for other, other_node in located
    ) or any(
        _in_domain(term, node, other_node) and _selects(term, other, pod)
        for other, other_node in located
        for term in _terms(other, "podAntiAffinity")
    )


def is_attracted(pod: Object, node: Object, located: Located) -> bool:
    """Whether every pod that this one must be near is near."""
    located = list(located)
    return all(
        any(
            _in_domain(term, node, there) and _selects(term, pod, other) for other, there in located
        )
        # The first of a group that wants to be together may start anywhere.
        or (_selects(term, pod, pod) and not any(_selects(term, pod, one) for one, _ in located))
        for term in _terms(pod, "podAffinity")
    )


def _terms(pod: Object, which: str) -> list[Mapping[str, Any]]:
    affinity = ((pod.get("spec") or {}).get("affinity") or {}).get(which) or {}
    return list(affinity.get(_REQUIRED) or ())


def _in_domain(term: Mapping[str, Any], node: Object, other: Object) -> bool:
    key = term["topologyKey"]
    value = labels_of(node).get(key)
    return value is not None and value == labels_of(other).get(key)


def _selects(term: Mapping[str, Any], pod: Object, other: Object) -> bool:
    namespaces = term.get("namespaces") or [pod["metadata"]["namespace"]]
    everywhere = term.get("namespaceSelector") == {}
    return (everywhere or other["metadata"]["namespace"] in namespaces) and matches(
        term.get("labelSelector"), labels_of(other)
    )
