"""Objects of KFServing's group, `serving.kubeflow.org/v1beta1`, as today's."""

from __future__ import annotations

import copy
from typing import Any

from kedge.api.scheme import LEGACY_SERVING_GROUP, SERVING_GROUP

_SERVER_SET = (
    "creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid",
)  # fmt: skip
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_OLD_DOMAIN, _NEW_DOMAIN = "kubeflow.org/", "kserve.io/"


def is_legacy(obj: dict[str, Any]) -> bool:
    """Whether the object belongs to the old group."""
    return str(obj.get("apiVersion", "")).partition("/")[0] == LEGACY_SERVING_GROUP


def convert(obj: dict[str, Any]) -> dict[str, Any]:
    """Today's form of an object of the old group; any other object as it is.

    The group and the prefixes of annotations and labels change; what a server had set, finalizers
    and the status are dropped. The spec is the same.
    """
    if not is_legacy(obj):
        return obj
    new = copy.deepcopy(obj)
    new["apiVersion"] = f"{SERVING_GROUP}/{str(obj['apiVersion']).partition('/')[2]}"
    new.pop("status", None)
    metadata = new.get("metadata") or {}
    for field in (*_SERVER_SET, "finalizers", "ownerReferences"):
        metadata.pop(field, None)
    for field in ("annotations", "labels"):
        if metadata.get(field):
            metadata[field] = _renamed(metadata[field])
    for component in _components(new.get("spec") or {}):
        for field in ("annotations", "labels"):
            if component.get(field):
                component[field] = _renamed(component[field])
    return new


def _renamed(texts: dict[str, str]) -> dict[str, str]:
    return {
        key.replace(_OLD_DOMAIN, _NEW_DOMAIN): text
        for key, text in texts.items()
        if key != _LAST_APPLIED
    }


def _components(spec: dict[str, Any]) -> list[dict[str, Any]]:
    found = (spec.get(name) for name in ("predictor", "transformer", "explainer"))
    return [component for component in found if isinstance(component, dict)]
