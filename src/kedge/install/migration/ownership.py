"""Objects of another controller as Kedge's own: who controls them, and whose their fields are.

A server-side apply leaves alone what another manager said. What KServe said in an object that Kedge
takes over must not stay: its fields become Kedge's, so that Kedge's next apply removes those that
it does not say itself. Fields of anybody else stay theirs.
"""

from __future__ import annotations

import copy
from typing import Any

from kedge.cluster.base import FIELD_MANAGER, Object

_MANAGERS = frozenset({"manager", "controller", "kserve-controller-manager"})
"""How KServe's and Knative's controllers call themselves."""


def takeover(obj: Object, owner: dict[str, Any] | None = None) -> Object:
    """The merge patch that makes an object's fields Kedge's.

    Args:
        owner: the reference of its new controller; None leaves it as it is.
    """
    metadata = obj["metadata"]
    patch: Object = {
        "resourceVersion": metadata["resourceVersion"],
        "managedFields": _ours(metadata.get("managedFields") or []),
    }
    if owner is not None:
        others = [r for r in metadata.get("ownerReferences") or () if not r.get("controller")]
        patch["ownerReferences"] = [*others, owner]
    return {"metadata": patch}


def _ours(entries: list[Object]) -> list[Object]:
    theirs = [entry for entry in entries if _is_kserves(entry)]
    if not theirs:
        return entries
    mine = [entry for entry in entries if _is_applied_by_us(entry)]
    rest = [entry for entry in entries if entry not in theirs and entry not in mine]
    fields: dict[str, Any] = {}
    for entry in (*theirs, *mine):
        fields = _union(fields, entry.get("fieldsV1") or {})
    joined = {**theirs[0], "manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": fields}
    return [*rest, joined]


def _is_kserves(entry: Object) -> bool:
    return entry.get("manager") in _MANAGERS and not entry.get("subresource")


def _is_applied_by_us(entry: Object) -> bool:
    return entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply"


def _union(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    joined = copy.deepcopy(one)
    for key, value in other.items():
        joined[key] = _union(joined.get(key) or {}, value) if value else joined.get(key) or value
    return joined
