"""The scale sub-resource: `autoscaling/v1` Scale of a kind that has replicas."""

from __future__ import annotations

from typing import Any

from kedge.api.scheme import Kind
from kedge.cluster.base import Object
from kedge.cluster.errors import BadRequest, Invalid


def read_scale(kind: Kind, obj: Object) -> Object:
    """The Scale of an object."""
    metadata = obj["metadata"]
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    scale_status: dict[str, Any] = {"replicas": status.get("replicas", 0)}
    selector = format_selector(spec.get("selector"))
    if selector:
        scale_status["selector"] = selector
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {
            key: metadata[key]
            for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
            if key in metadata
        },
        "spec": {"replicas": spec.get("replicas", 0)},
        "status": scale_status,
    }


def scaled(kind: Kind, obj: Object, scale: Any) -> Object:
    """The object with the replicas that a Scale asks for.

    Raises:
        BadRequest: `scale` is no Scale.
        Invalid: the number is negative or none.
    """
    parts = (scale.get("metadata"), scale.get("spec")) if isinstance(scale, dict) else (0,)
    if not all(part is None or isinstance(part, dict) for part in parts):
        raise BadRequest("the body is no Scale")
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        name = obj["metadata"]["name"]
        raise Invalid(
            f'Scale.autoscaling "{name}" is invalid: spec.replicas: Invalid value: {replicas}:'
            " must be greater than or equal to 0"
        )
    metadata = dict(obj["metadata"])
    given = scale.get("metadata") or {}
    metadata["resourceVersion"] = given.get("resourceVersion", "")
    if given.get("uid"):
        metadata["uid"] = given["uid"]
    return {**obj, "metadata": metadata, "spec": {**obj["spec"], "replicas": replicas}}


def format_selector(selector: Any) -> str:
    """A `metav1.LabelSelector` in string form."""
    if not isinstance(selector, dict):
        return ""
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for one in selector.get("matchExpressions") or ():
        key, values = one.get("key"), ",".join(one.get("values") or ())
        parts.append(
            {
                "In": f"{key} in ({values})",
                "NotIn": f"{key} notin ({values})",
                "Exists": f"{key}",
                "DoesNotExist": f"!{key}",
            }.get(one.get("operator", ""), "")
        )
    return ",".join(part for part in parts if part)
