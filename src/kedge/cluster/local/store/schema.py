"""The store's tables, and how a store made by another version of Kedge is met.

`PRAGMA user_version` carries the version of the tables. An older store is copied aside, then
migrated step by step; a newer one is refused.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from kedge.lib.errors import KedgeError

MEMORY = ":memory:"

_TABLES = """
CREATE TABLE objects (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    version INTEGER NOT NULL,
    labels BLOB NOT NULL,
    fields BLOB NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (kind, namespace, name)
);
CREATE INDEX objects_by_uid ON objects (uid);
CREATE TABLE owners (
    owner TEXT NOT NULL,
    object INTEGER NOT NULL REFERENCES objects (id) ON DELETE CASCADE,
    PRIMARY KEY (owner, object)
) WITHOUT ROWID;
CREATE INDEX owners_by_object ON owners (object);
CREATE TABLE state (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO state VALUES ('version', 1);
"""

ABOUT = """json_extract(CAST(fields AS TEXT), '$."involvedObject.uid"')"""
"""What an event is about, as the index has it."""

_EVENTS_BY_OBJECT = f"CREATE INDEX events_by_object ON objects ({ABOUT}) WHERE kind = 'events';"

MIGRATIONS: tuple[str, ...] = (_TABLES, _EVENTS_BY_OBJECT)
"""Entry N takes a store from version N to N + 1; an empty store is at version 0."""


class StoreError(KedgeError):
    """The store cannot be opened."""

    reason = "StoreUnusable"


def connect(path: str) -> sqlite3.Connection:
    """A connection in autocommit mode: transactions are begun and ended by hand."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA busy_timeout = 5000")
    if path != MEMORY:
        connection.execute("PRAGMA journal_mode = WAL")
        # Safe against any kill of any process. After a power loss the last commits may be gone,
        # but the file is whole.
        connection.execute("PRAGMA synchronous = NORMAL")
        # A checkpoint waits for the disk: `Store.run` makes them, away from the event loop, and
        # tells by the length of the log when: it is short again with the first commit after one.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA journal_size_limit = 0")
    return connection


def open_store(path: str) -> sqlite3.Connection:
    """Connect and bring the tables to this version of Kedge.

    Raises:
        StoreError: the file is no store, cannot be written, or was made by a newer Kedge.
    """
    try:
        connection = connect(path)
        _migrate(connection, path)
    except sqlite3.Error as error:
        raise StoreError(
            f"The store {path} cannot be used: {error}.",
            fix="Make sure that the disk has room and the file is yours, or move it away to begin"
            " with an empty store.",
        ) from error
    return connection


def _migrate(connection: sqlite3.Connection, path: str) -> None:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    wanted = len(MIGRATIONS)
    if found > wanted:
        connection.close()
        raise StoreError(
            f"The store {path} has schema version {found}; this Kedge knows versions up to"
            f" {wanted}.",
            fix="Start it with the newer Kedge that made it, or give another --data-dir.",
            reason="StoreTooNew",
        )
    if found == wanted:
        return
    if found:
        _copy(connection, Path(path), found)
    for version in range(found, wanted):
        script = f"BEGIN;\n{MIGRATIONS[version]}\nPRAGMA user_version = {version + 1};\nCOMMIT;"
        try:
            connection.executescript(script)
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _copy(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """A copy beside the store, `kedge.db.v1`, made before it is changed."""
    target = sqlite3.connect(path.with_name(f"{path.name}.v{version}"))
    try:
        connection.backup(target)
    finally:
        target.close()
