"""Names and labels that all installed objects have alike."""

from __future__ import annotations

from typing import Any

from kedge.api.scheme import Kind
from kedge.cluster.base import Object
from kedge.install import names
from kedge.install.values import Values


def make(
    kind: Kind,
    name: str,
    values: Values,
    component: str,
    *,
    annotations: Any = None,
    **content: Any,
) -> Object:
    """An object of the installation: `content` is what comes after its metadata."""
    metadata: Object = {"name": name}
    if kind.namespaced:
        metadata["namespace"] = values.namespace
    metadata["labels"] = labels(values, component)
    if annotations is not None:
        metadata["annotations"] = annotations
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **content}


def labels(values: Values, component: str) -> dict[str, str]:
    """Which installation an object belongs to, and to which part of it."""
    return {
        names.PART_OF: "kedge",
        names.MANAGED_BY: "kedge",
        names.COMPONENT: component,
        names.INSTALLATION: values.namespace,
    }


def selector(component: str) -> dict[str, str]:
    """Labels by which the pods of a part are selected; they never change."""
    return {names.PART_OF: "kedge", names.COMPONENT: component}
