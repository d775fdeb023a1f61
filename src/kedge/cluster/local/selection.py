"""Which objects of a kind a list or a watch is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kedge.api.scheme import Kind
from kedge.cluster.base import EventType
from kedge.cluster.local.fields import selectable_fields
from kedge.cluster.local.selectors import EVERYTHING, Selector, parse_fields, parse_labels
from kedge.cluster.local.store import Change, Record


@dataclass(frozen=True)
class Selection:
    """Objects of a kind, by namespace (all when None), labels and fields."""

    kind: Kind
    namespace: str | None = None
    labels: Selector = EVERYTHING
    fields: Selector = EVERYTHING

    @classmethod
    def parse(
        cls, kind: Kind, namespace: str | None, labels: str | None, fields: str | None
    ) -> Selection:
        """From selectors in string form; raises `BadRequest`."""
        by_field = parse_fields(kind, fields, selectable_fields(kind))
        if namespace is None:
            namespace = by_field.value_of("metadata.namespace")
        return cls(kind, namespace, parse_labels(labels), by_field)

    @property
    def name(self) -> str | None:
        """The only object this can be about, if it names one."""
        return self.fields.value_of("metadata.name")

    @property
    def everything(self) -> bool:
        return not self.labels and not self.fields

    def has(self, record: Record) -> bool:
        if self.labels and not self.labels.matches(record.labels):
            return False
        if not self.fields:
            return True
        return self._fields_match(record.namespace, record.name, record.fields)

    def event(self, change: Change) -> EventType | None:
        """What the change is to who sees only this selection; None when it is nothing."""
        if self.namespace is not None and change.namespace != self.namespace:
            return None
        if self.everything:
            return change.type
        is_in = self._matches(change, change.labels, change.fields)
        if change.old_labels is None or change.old_fields is None:
            return change.type if is_in else None
        was_in = self._matches(change, change.old_labels, change.old_fields)
        if change.type is EventType.DELETED:
            return EventType.DELETED if was_in else None
        if is_in:
            return EventType.MODIFIED if was_in else EventType.ADDED
        return EventType.DELETED if was_in else None

    def _matches(self, change: Change, labels: dict[str, str], fields: dict[str, str]) -> bool:
        if self.labels and not self.labels.matches(labels):
            return False
        return not self.fields or self._fields_match(change.namespace, change.name, fields)

    def _fields_match(self, namespace: str, name: str, fields: dict[str, Any]) -> bool:
        known = {**fields, "metadata.namespace": namespace, "metadata.name": name}
        return self.fields.matches(known)
