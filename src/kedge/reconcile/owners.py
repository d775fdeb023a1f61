"""Owner references: who made an object, and so with whom it goes."""

from __future__ import annotations

from typing import Any

from kedge.cluster.base import Object


def controller_reference(owner: Object) -> dict[str, Any]:
    """The reference that makes `owner` the controller of an object; garbage goes with it."""
    metadata = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controller_of(obj: Object) -> dict[str, Any] | None:
    """The reference to the one owner that controls `obj`, if any."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            found: dict[str, Any] = reference
            return found
    return None
