"""Label and field selectors."""

from __future__ import annotations

import pytest

from kedge.api.scheme import POD
from kedge.cluster.base import EventType
from kedge.cluster.errors import BadRequest
from kedge.cluster.local.fields import fields_of, selectable_fields
from kedge.cluster.local.selection import Selection
from kedge.cluster.local.selectors import parse_fields, parse_labels
from kedge.cluster.local.store import Change

LABELS = {"app": "web", "tier": "front", "example.com/zone": "a"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app=other", False),
        ("app!=web", False),
        ("app!=other", True),
        ("missing!=x", True),
        ("app", True),
        ("missing", False),
        ("!missing", True),
        ("!app", False),
        ("app in (web, db)", True),
        ("app in (db)", False),
        ("app notin (db,cache)", True),
        ("missing notin (db)", True),
        ("app=web,tier=front", True),
        ("app=web,tier=back", False),
        ("example.com/zone=a,app in (web),!canary", True),
        ("app=", False),
        (" app = web ", True),
    ],
)
def test_labels(text: str, matches: bool) -> None:
    assert parse_labels(text).matches(LABELS) is matches


@pytest.mark.parametrize("text", ["a=b=c", "=x", "a in b", "a in (b", "!", "a;b", "a notin"])
def test_what_is_no_label_selector_is_named(text: str) -> None:
    with pytest.raises(BadRequest, match="Fix:"):
        parse_labels(text)


def test_fields() -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}}
    selector = parse_fields(POD, "spec.nodeName=n,status.phase!=Failed", selectable_fields(POD))
    assert selector.matches(fields_of(POD, pod))
    assert not selector.matches(fields_of(POD, {**pod, "status": {"phase": "Failed"}}))


def test_a_field_that_cannot_be_selected_is_named() -> None:
    with pytest.raises(BadRequest, match=r"spec\.color"):
        parse_fields(POD, "spec.color=red", selectable_fields(POD))


def change(type: EventType, new: str, old: str | None) -> Change:
    return Change(
        type, POD, "default", "p", 5, b"{}", {"app": new}, {},
        None if old is None else {"app": old}, None if old is None else {},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("type", "new", "old", "seen"),
    [
        (EventType.ADDED, "web", None, EventType.ADDED),
        (EventType.ADDED, "db", None, None),
        (EventType.MODIFIED, "web", "web", EventType.MODIFIED),
        (EventType.MODIFIED, "web", "db", EventType.ADDED),
        (EventType.MODIFIED, "db", "web", EventType.DELETED),
        (EventType.MODIFIED, "db", "db", None),
        (EventType.DELETED, "web", "web", EventType.DELETED),
        (EventType.DELETED, "db", "db", None),
    ],
)
def test_a_watch_sees_objects_come_into_and_go_out_of_its_selection(
    type: EventType, new: str, old: str | None, seen: EventType | None
) -> None:
    selection = Selection.parse(POD, None, "app=web", None)
    assert selection.event(change(type, new, old)) is seen


def test_a_watch_of_one_name_or_namespace_sees_no_other() -> None:
    added = change(EventType.ADDED, "web", None)
    assert Selection.parse(POD, "other", None, None).event(added) is None
    assert Selection.parse(POD, None, None, "metadata.name=q").event(added) is None
    one = Selection.parse(POD, None, None, "metadata.name=p,metadata.namespace=default")
    assert one.event(added) is EventType.ADDED
    assert (one.name, one.namespace) == ("p", "default")
