"""`metadata.managedFields`: which manager set which field, and what a write does to that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kedge.cluster.base import Object
from kedge.cluster.errors import Conflict
from kedge.cluster.local.apply.compare import Difference, compare
from kedge.cluster.local.apply.fieldset import (
    FieldSet,
    cover,
    difference,
    fields_of,
    paths,
    union,
)
from kedge.cluster.local.apply.merge import merge_applied, prune
from kedge.cluster.local.structure import Shape

# What the server alone writes belongs to nobody.
_OWNERLESS_METADATA = frozenset({
    "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp",
    "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "selfLink", "generateName",
})  # fmt: skip
_OWNERLESS = frozenset({"apiVersion", "kind"})


@dataclass(frozen=True)
class Manager:
    """Who writes, as an entry of `managedFields` names it.

    Attributes:
        operation: `Apply` or `Update`.
        subresource: `status`, `scale` or empty.
        time: RFC 3339.
    """

    name: str
    operation: str
    api_version: str
    time: str
    subresource: str = ""

    def same(self, entry: dict[str, Any]) -> bool:
        return (
            entry.get("manager") == self.name
            and entry.get("operation") == self.operation
            and entry.get("apiVersion") == self.api_version
            and entry.get("subresource", "") == self.subresource
        )

    def entry(self, fields: FieldSet) -> dict[str, Any]:
        made: dict[str, Any] = {
            "manager": self.name,
            "operation": self.operation,
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        }
        if self.subresource:
            made["subresource"] = self.subresource
        return made


def without_ownership(obj: Object) -> Object:
    """A shallow copy without what nobody owns: what an object says, apart from its history."""
    plain = {key: value for key, value in obj.items() if key not in _OWNERLESS}
    metadata = obj.get("metadata")
    if isinstance(metadata, dict):
        kept = {key: value for key, value in metadata.items() if key not in _OWNERLESS_METADATA}
        if kept:
            plain["metadata"] = kept
        else:
            del plain["metadata"]
    return plain


def own_updated(old: Object, new: Object, shape: Shape, manager: Manager) -> list[dict[str, Any]]:
    """`managedFields` after `manager` wrote `new` in place of `old` (`{}` for a new object)."""
    entries = _entries(new)
    change = compare(without_ownership(old), without_ownership(new), shape)
    if not change.changed and not change.removed:
        return entries
    return _with_change(entries, change, manager, union)


def own_applied(
    live: Object, new: Object, applied: Object, shape: Shape, manager: Manager, *, force: bool
) -> list[dict[str, Any]]:
    """`managedFields` after `manager` applied `applied`, which made `new` of `live`.

    Raises:
        Conflict: others own a field that changes, and `force` is not set.
    """
    entries = _entries(live)
    change = compare(without_ownership(live), without_ownership(new), shape)
    if not force:
        _refuse_conflicts(entries, change, manager, live)
    owned = fields_of(without_ownership(applied), shape)
    return _with_change(entries, change, manager, lambda _before, _changed: owned)


def apply_config(live: Object, applied: Object, shape: Shape, manager: Manager) -> Object:
    """What `live` becomes: the applied fields, minus those that `manager` alone used to apply."""
    merged = merge_applied(live, applied, shape)
    entries = _entries(live)
    before: FieldSet = next((entry["fieldsV1"] for entry in entries if manager.same(entry)), {})
    dropped = difference(before, fields_of(without_ownership(applied), shape))
    if not dropped:
        return dict(merged)
    kept = fields_of(without_ownership(applied), shape)
    for entry in entries:
        if not manager.same(entry):
            kept = union(kept, entry["fieldsV1"])
    return prune(merged, dropped, kept, shape) or {}


def are_entries(found: list[Any]) -> bool:
    """Whether a client's `managedFields` can be read; an empty entry says that nobody owns it."""
    return all(
        isinstance(entry, dict) and (not entry or _is_field_set(entry.get("fieldsV1")))
        for entry in found
    )


def _is_field_set(fields: Any) -> bool:
    return isinstance(fields, dict) and all(map(_is_field_set, fields.values()))


def _entries(obj: Object) -> list[dict[str, Any]]:
    found = obj.get("metadata", {}).get("managedFields") or []
    return [
        entry
        for entry in found
        if isinstance(entry, dict) and isinstance(entry.get("fieldsV1"), dict)
    ]


def _with_change(
    entries: list[dict[str, Any]], change: Difference, manager: Manager, own: Any
) -> list[dict[str, Any]]:
    """The others lose what changed; `manager` gets `own(what it had, what changed)`."""
    left: list[dict[str, Any]] = []
    mine: dict[str, Any] | None = None
    before: FieldSet = {}
    for entry in entries:
        if manager.same(entry):
            before = entry["fieldsV1"]
            mine = entry
            continue
        fields = difference(entry["fieldsV1"], change.removed)
        fields = difference(fields, cover(change.changed, fields))
        if fields:
            left.append(entry if fields == entry["fieldsV1"] else {**entry, "fieldsV1": fields})
    owned = difference(own(before, change.changed), change.removed)
    if owned:
        unchanged = mine is not None and owned == before and not change.changed
        left.append(mine if unchanged and mine is not None else manager.entry(owned))
    return left


def _refuse_conflicts(
    entries: list[dict[str, Any]], change: Difference, manager: Manager, live: Object
) -> None:
    causes = []
    lines = []
    for entry in entries:
        if manager.same(entry):
            continue
        fields = sorted(paths(cover(change.changed, entry["fieldsV1"])))
        who = f'conflict with "{entry.get("manager")}"'
        if entry.get("subresource"):
            who += f' with subresource "{entry["subresource"]}"'
        if entry.get("apiVersion") != manager.api_version or entry.get("operation") == "Update":
            who += f" using {entry.get('apiVersion')}"
        causes += [
            {"reason": "FieldManagerConflict", "message": who, "field": field} for field in fields
        ]
        if fields:
            lines.append(f"{who}: {', '.join(fields)}" if len(fields) == 1 else
                         f"{who}:\n- " + "\n- ".join(fields))  # fmt: skip
    if causes:
        count = f"{len(causes)} conflict{'s' if len(causes) > 1 else ''}"
        raise Conflict(
            f"Apply failed with {count}: " + "; ".join(lines),
            details={"name": live["metadata"]["name"], "causes": causes},
        )
