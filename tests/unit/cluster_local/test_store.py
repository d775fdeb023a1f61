"""The store: versions, changes, snapshots, what another Kedge left."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from kedge.api.scheme import CONFIG_MAP, EVENT, POD
from kedge.cluster.base import EventType, Object
from kedge.cluster.errors import Gone, Unavailable
from kedge.cluster.local.store import Record, Store
from kedge.cluster.local.store.database import _LONG_LOG
from kedge.cluster.local.store.history import History
from kedge.cluster.local.store.schema import MIGRATIONS, StoreError


def make(name: str, **metadata: object) -> Object:
    return {"metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", **metadata}}


def put(store: Store, obj: Object) -> Record:
    metadata = obj["metadata"]
    return store.put(CONFIG_MAP, obj, store.get(CONFIG_MAP, "default", metadata["name"]))


def test_one_version_grows_over_all_kinds(store: Store) -> None:
    first = put(store, make("a"))
    second = store.put(POD, make("a"), None)
    gone = store.remove(CONFIG_MAP, first)
    assert first.version < second.version < int(gone["metadata"]["resourceVersion"])
    assert store.version == int(gone["metadata"]["resourceVersion"])


def test_the_version_survives_the_process(tmp_path: Path) -> None:
    store = Store(tmp_path / "kedge.db")
    store.remove(CONFIG_MAP, put(store, make("a")))
    version = store.version
    store.close()
    reopened = Store(tmp_path / "kedge.db")
    assert reopened.version == version
    reopened.close()


def test_bytes_come_back_as_they_went_in(store: Store) -> None:
    obj = {**make("a"), "unknown": {"deep": [1, 2.5, None, "ü"]}}
    put(store, obj)
    record = store.get(CONFIG_MAP, "default", "a")
    assert record is not None
    assert record.object == obj


def test_changes_tell_what_selectors_saw_before_and_after(store: Store) -> None:
    changes = store.follow(CONFIG_MAP)
    put(store, make("a", labels={"x": "1"}))
    put(store, make("a", labels={"x": "2"}))
    store.remove(CONFIG_MAP, store.get(CONFIG_MAP, "default", "a"))  # type: ignore[arg-type]  # is there
    added, modified, deleted = changes.poll()
    assert (added.type, added.labels, added.old_labels) == (EventType.ADDED, {"x": "1"}, None)
    assert (modified.type, modified.labels, modified.old_labels) == (
        EventType.MODIFIED, {"x": "2"}, {"x": "1"},
    )  # fmt: skip
    assert (deleted.type, deleted.labels) == (EventType.DELETED, {"x": "2"})


def test_a_follower_resumes_from_a_version(store: Store) -> None:
    version = put(store, make("a")).version
    put(store, make("b"))
    store.put(POD, make("c"), None)
    assert [change.name for change in store.follow(CONFIG_MAP, version).poll()] == ["b"]
    assert [change.name for change in store.follow(None).poll()] == []


def test_an_old_version_is_gone() -> None:
    store = Store(":memory:", history=History(1, count=2))
    version = put(store, make("a")).version
    for name in "bcd":
        put(store, make(name))
    with pytest.raises(Gone, match="too old"):
        store.follow(CONFIG_MAP, version)
    assert [change.name for change in store.follow(CONFIG_MAP, version + 1).poll()] == ["c", "d"]
    store.close()


def test_a_version_from_before_the_start_is_gone(tmp_path: Path) -> None:
    store = Store(tmp_path / "kedge.db")
    version = put(store, make("a")).version
    put(store, make("b"))
    store.close()
    reopened = Store(tmp_path / "kedge.db")
    with pytest.raises(Gone):
        reopened.follow(CONFIG_MAP, version)
    assert reopened.follow(CONFIG_MAP, reopened.version).poll() == []
    reopened.close()


def test_a_version_never_reached_is_gone(store: Store) -> None:
    with pytest.raises(Gone, match="Too large"):
        store.follow(CONFIG_MAP, store.version + 1)


def test_history_is_bounded_in_bytes() -> None:
    store = Store(":memory:", history=History(1, size=1000))
    version = store.version
    for number in range(20):
        put(store, {**make(f"a{number}"), "data": "x" * 200})
    with pytest.raises(Gone):
        store.follow(CONFIG_MAP, version)
    store.close()


def test_a_follower_too_far_behind_is_told() -> None:
    store = Store(":memory:", history=History(1, backlog=2))
    changes = store.follow(CONFIG_MAP)
    for name in "abc":
        put(store, make(name))
    with pytest.raises(Gone, match="too far behind"):
        changes.poll()
    store.close()


async def test_a_snapshot_shows_one_version_while_writes_go_on(tmp_path: Path) -> None:
    store = Store(tmp_path / "kedge.db")
    for number in range(250):
        put(store, make(f"a{number:03}"))
    snapshot = store.snapshot(CONFIG_MAP)
    seen: list[tuple[str, dict[str, str]]] = []
    async for page in snapshot.pages():
        put(store, make("a249", labels={"late": "yes"}))
        put(store, make(f"b{len(seen)}"))
        seen += [(record.name, record.labels) for record in page]
    assert [name for name, _ in seen] == [f"a{number:03}" for number in range(250)]
    assert seen[-1] == ("a249", {})
    store.close()


def test_a_snapshot_goes_on_behind_a_name(store: Store) -> None:
    for name in "abc":
        put(store, make(name))
    records = store.snapshot(CONFIG_MAP, "default", after=("default", "a")).records()
    assert [record.name for record in records] == ["b", "c"]


def test_dependents_follow_owner_references(store: Store) -> None:
    owned = make("a", ownerReferences=[{"uid": "one"}, {"uid": "two"}])
    put(store, owned)
    assert [one["metadata"]["name"] for one in store.dependents("one")] == ["a"]
    put(store, make("a", ownerReferences=[{"uid": "two"}]))
    assert store.dependents("one") == []
    assert store.owner_uids() == ["two"]
    store.remove(CONFIG_MAP, store.get(CONFIG_MAP, "default", "a"))  # type: ignore[arg-type]  # is there
    assert store.owner_uids() == []


def test_a_full_disk_is_named_and_changes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "kedge.db")
    put(store, make("a"))
    version = store.version
    store._writer.execute("PRAGMA max_page_count = 1")
    with pytest.raises(Unavailable, match=r"full.*Fix:"):
        put(store, {**make("big"), "data": "x" * 1_000_000})
    store._writer.execute("PRAGMA max_page_count = 1000000")
    assert store.version == version
    assert store.get(CONFIG_MAP, "default", "big") is None
    put(store, make("b"))
    store.close()


def test_a_newer_store_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "kedge.db"
    Store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="schema version 99") as caught:
        Store(path)
    assert caught.value.reason == "StoreTooNew"


def test_an_older_store_is_copied_and_migrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kedge.db"
    store = Store(path)
    put(store, make("a"))
    store.close()
    added = "ALTER TABLE objects ADD COLUMN later TEXT;"
    monkeypatch.setattr("kedge.cluster.local.store.schema.MIGRATIONS", (*MIGRATIONS, added))
    migrated = Store(path)
    assert migrated.get(CONFIG_MAP, "default", "a") is not None
    assert migrated._writer.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
    migrated.close()
    with sqlite3.connect(tmp_path / f"kedge.db.v{len(MIGRATIONS)}") as copy:
        assert copy.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert copy.execute("SELECT name FROM objects").fetchall() == [("a",)]
    copy.close()


def test_a_migration_that_fails_leaves_the_store_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kedge.db"
    Store(path).close()
    broken = "ALTER TABLE objects ADD COLUMN later TEXT; SELECT nonsense;"
    monkeypatch.setattr("kedge.cluster.local.store.schema.MIGRATIONS", (*MIGRATIONS, broken))
    with pytest.raises(StoreError, match="nonsense"):
        Store(path)
    monkeypatch.undo()
    Store(path).close()


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kedge.db"
    path.write_text("this is a text, and not at all a database" * 100)
    with pytest.raises(StoreError, match="cannot be used"):
        Store(path)


def test_events_are_found_by_what_they_are_about(tmp_path: Path) -> None:
    store = Store(tmp_path / "kedge.db")
    for number in range(3):
        event = make(f"e{number}") | {"involvedObject": {"uid": f"u{number}"}}
        store.put(EVENT, event, None)
    found = store.snapshot(EVENT, "default", about="u1").records()
    assert [record.name for record in found] == ["e1"]
    store.close()


def test_the_log_is_moved_into_the_database_once_it_is_long(tmp_path: Path) -> None:
    store = Store(tmp_path / "kedge.db")
    path, log = tmp_path / "kedge.db", tmp_path / "kedge.db-wal"
    put(store, make("short"))
    short, whole = log.stat().st_size, path.stat().st_size
    store._sync()
    assert (log.stat().st_size, path.stat().st_size) == (short, whole)
    number = 0
    while log.stat().st_size < _LONG_LOG:
        put(store, {**make(f"a{number}"), "data": {"x": "y" * 100_000}})
        number += 1
    store._sync()
    assert path.stat().st_size > _LONG_LOG / 2
    put(store, make("after"))
    assert log.stat().st_size <= 2 * short
    assert len(store.snapshot(CONFIG_MAP).records()) == number + 2
    store.close()
