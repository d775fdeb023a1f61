"""Who am I and what may I do: there is one user, who may do everything."""

from __future__ import annotations

from typing import Any

from kedge.cluster.base import Object

USER = "kedge:admin"
GROUPS = ["system:masters", "system:authenticated"]

_RULES: dict[str, Any] = {
    "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    "incomplete": False,
}
_STATUS: dict[str, dict[str, Any]] = {
    "SelfSubjectAccessReview": {"allowed": True, "reason": "Kedge's one user may do everything"},
    "SubjectAccessReview": {"allowed": True, "reason": "Kedge's one user may do everything"},
    "LocalSubjectAccessReview": {"allowed": True, "reason": "Kedge's one user may do everything"},
    "SelfSubjectRulesReview": _RULES,
    "SelfSubjectReview": {"userInfo": {"username": USER, "groups": GROUPS}},
}

REVIEWS: dict[tuple[str, str, str], tuple[str, bool]] = {
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews"): ("SelfSubjectAccessReview", False),
    ("authorization.k8s.io", "v1", "selfsubjectrulesreviews"): ("SelfSubjectRulesReview", False),
    ("authorization.k8s.io", "v1", "subjectaccessreviews"): ("SubjectAccessReview", False),
    ("authorization.k8s.io", "v1", "localsubjectaccessreviews"): (
        "LocalSubjectAccessReview", True,
    ),
    ("authentication.k8s.io", "v1", "selfsubjectreviews"): ("SelfSubjectReview", False),
    ("authentication.k8s.io", "v1beta1", "selfsubjectreviews"): ("SelfSubjectReview", False),
}  # fmt: skip
"""Group, version and plural of what can only be created: its kind, and whether in a namespace."""


def parse_review(path: str) -> tuple[str, str] | None:
    """The apiVersion and kind of the review that a path names."""
    parts = [part for part in path.split("/") if part]
    if len(parts) == 6 and parts[3] == "namespaces":
        parts = [*parts[:3], parts[5]]
    if len(parts) != 4 or parts[0] != "apis":
        return None
    group, version, plural = parts[1:]
    found = REVIEWS.get((group, version, plural))
    return (f"{group}/{version}", found[0]) if found else None


def review(api_version: str, kind: str, asked: Object) -> Object:
    """The answered review."""
    return {
        "kind": kind,
        "apiVersion": api_version,
        "metadata": {"creationTimestamp": None},
        "spec": asked.get("spec") or {},
        "status": _STATUS[kind],
    }
