"""Objects in SQLite.

Writes happen on the event loop's thread, one at a time, each its own transaction: a commit that
does not wait for the disk costs less than handing it to a thread. What waits for the disk runs in
a thread: the write-ahead log is brought to it every two seconds, and moved into the database once
it is long, for the first commit after that has to wait, too. Lists read on a connection of their
own, inside one transaction, so that they may pause between rows and still see one version.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from kedge.api.scheme import Kind
from kedge.cluster.base import EventType, Object
from kedge.cluster.errors import Gone, Unavailable
from kedge.cluster.local.fields import fields_of
from kedge.cluster.local.store.history import Change, History, Subscription
from kedge.cluster.local.store.schema import ABOUT, MEMORY, connect, open_store
from kedge.lib.clock import SYSTEM_CLOCK, Clock

log = logging.getLogger(__name__)

_SYNC_SECONDS = 2.0
_LONG_LOG = 8 << 20
"""Bytes of the write-ahead log that are worth a commit that waits for the disk."""
_PAGE = 100
"""Rows read between two turns of the event loop."""
_COLUMNS = "namespace, name, uid, version, labels, fields, body"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.decode
_decode_strings = msgspec.json.Decoder(dict[str, str]).decode

FieldsOf = Callable[[Kind, Object], dict[str, str]]


class Record(NamedTuple):
    """One stored object: its bytes, and what can be asked of it without decoding them."""

    namespace: str
    name: str
    uid: str
    version: int
    raw_labels: bytes
    raw_fields: bytes
    body: bytes

    @property
    def labels(self) -> dict[str, str]:
        return _decode_strings(self.raw_labels)

    @property
    def fields(self) -> dict[str, str]:
        return _decode_strings(self.raw_fields)

    @property
    def object(self) -> Object:
        decoded: dict[str, Any] = _decode(self.body)
        return decoded


class Snapshot:
    """The objects of one kind at one version, in order of namespace and name."""

    def __init__(
        self, version: int, rows: Iterator[list[Record]], close: Callable[[], None]
    ) -> None:
        self.version = version
        self._rows = rows
        self._close = close

    async def pages(self) -> AsyncIterator[list[Record]]:
        """All records, some at a time, giving way to others in between."""
        try:
            for page in self._rows:
                yield page
                await asyncio.sleep(0)
        finally:
            self._close()

    def records(self) -> list[Record]:
        """All records at once."""
        try:
            return [record for page in self._rows for record in page]
        finally:
            self._close()


class Store:
    """The objects of a local cluster.

    Args:
        path: the database file, made if absent; `:memory:` for one that ends with the process.
        fields_of: what field selectors can ask of an object, besides its name and namespace.
        clock: paces the checkpoints.

    Raises:
        StoreError: the file cannot be used, or was made by a newer Kedge.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fields_of: FieldsOf = fields_of,
        history: History | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._path = str(path)
        self._writer = open_store(self._path)
        self._readers: list[sqlite3.Connection] = []
        self._fields_of = fields_of
        self._clock = clock
        row = self._writer.execute("SELECT value FROM state WHERE key = 'version'").fetchone()
        self._version: int = row[0]
        self._history = history if history is not None else History(self._version)

    @property
    def version(self) -> int:
        """The version of the last write."""
        return self._version

    def close(self) -> None:
        for connection in (*self._readers, self._writer):
            connection.close()
        self._readers.clear()

    async def run(self) -> None:
        """Bring to the disk what was written, until cancelled."""
        if self._path == MEMORY:
            return
        synced = 0
        while True:
            await self._clock.sleep(_SYNC_SECONDS)
            if self._version != synced:
                synced = self._version
                await asyncio.to_thread(self._sync)

    def _sync(self) -> None:
        try:
            with open(f"{self._path}-wal", "rb") as wal:
                os.fdatasync(wal.fileno())
                if os.fstat(wal.fileno()).st_size >= _LONG_LOG:
                    self._checkpoint()
        except (sqlite3.Error, OSError) as error:
            log.warning("bringing %s to the disk: %s", self._path, error)

    def _checkpoint(self) -> None:
        with contextlib.closing(connect(self._path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    # Reading

    def get(self, kind: Kind, namespace: str, name: str) -> Record | None:
        row = self._writer.execute(
            f"SELECT {_COLUMNS} FROM objects WHERE kind = ? AND namespace = ? AND name = ?",
            (str(kind), namespace, name),
        ).fetchone()
        return Record._make(row) if row is not None else None

    def has_uid(self, uid: str) -> bool:
        row = self._writer.execute("SELECT 1 FROM objects WHERE uid = ?", (uid,)).fetchone()
        return row is not None

    def dependents(self, uid: str) -> list[Object]:
        """The objects whose owner references name `uid`."""
        rows = self._writer.execute(
            "SELECT body FROM owners JOIN objects ON objects.id = owners.object WHERE owner = ?",
            (uid,),
        ).fetchall()
        return [_decode(body) for (body,) in rows]

    def owner_uids(self) -> list[str]:
        """Every uid that some owner reference names."""
        return [uid for (uid,) in self._writer.execute("SELECT DISTINCT owner FROM owners")]

    def in_namespace(self, namespace: str, limit: int = 200) -> list[Object]:
        """Some of the objects of a namespace, of whatever kind."""
        rows = self._writer.execute(
            "SELECT body FROM objects WHERE namespace = ? LIMIT ?", (namespace, limit)
        ).fetchall()
        return [_decode(body) for (body,) in rows]

    def snapshot(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        after: tuple[str, str] | None = None,
        about: str | None = None,
    ) -> Snapshot:
        """The objects of a kind, of one namespace or of all, from behind `after` on.

        Args:
            about: of events, the uid of the object that they are about.
        """
        query = f"SELECT {_COLUMNS} FROM objects WHERE kind = ?"
        arguments: list[str] = [str(kind)]
        if namespace is not None:
            query += " AND namespace = ?"
            arguments.append(namespace)
        if after is not None:
            query += " AND (namespace, name) > (?, ?)"
            arguments += after
        if about is not None:
            # The kind in words, so that the index of events alone can be used.
            query += f" AND kind = 'events' AND {ABOUT} = ?"
            arguments.append(about)
        query += " ORDER BY namespace, name"
        if self._path == MEMORY:
            found = [Record._make(row) for row in self._writer.execute(query, arguments)]
            pages = (found[start : start + _PAGE] for start in range(0, len(found), _PAGE))
            return Snapshot(self._version, pages, lambda: None)
        reader = self._readers.pop() if self._readers else connect(self._path)
        reader.execute("BEGIN")
        cursor = reader.execute(query, arguments)
        # The first step pins the version that this transaction sees.
        first = cursor.fetchmany(_PAGE)
        return Snapshot(
            self._version, _in_pages(cursor, first), lambda: self._release(reader, cursor)
        )

    def _release(self, reader: sqlite3.Connection, cursor: sqlite3.Cursor) -> None:
        cursor.close()
        reader.execute("COMMIT")
        self._readers.append(reader)

    def follow(self, kind: Kind | None, since: int | None = None) -> Subscription:
        """Changes of `kind` (of every kind when None) after version `since` (from now on).

        Raises:
            Gone: changes after `since` are no longer known, or `since` was never reached (a client
                may have seen what a loss of power took back).
        """
        if since is not None and since > self._version:
            raise Gone(f"Too large resource version: {since}, current: {self._version}")
        return self._history.follow(kind, since)

    def check_resumable(self, kind: Kind, since: int) -> None:
        """Raise `Gone` unless `follow(kind, since)` would miss nothing."""
        self._history.check(kind, since)

    # Writing

    def put(self, kind: Kind, obj: Object, old: Record | None) -> Record:
        """Store `obj` in place of `old`, with a new resourceVersion set in its metadata.

        The caller has made sure that `old` is what is stored, which holds as long as it does not
        give way between reading and writing.
        """
        version = self._version + 1
        metadata = obj["metadata"]
        metadata["resourceVersion"] = str(version)
        labels: dict[str, str] = metadata.get("labels") or {}
        fields = self._fields_of(kind, obj)
        record = Record(
            metadata.get("namespace", ""), metadata["name"], metadata["uid"], version,
            _encode(labels), _encode(fields), _encode(obj),
        )  # fmt: skip
        with self._transaction(version):
            self._write(kind, record)
            if old is None or _stored_owners(old) != _owners_of(obj):
                self._write_owners(kind, record, _owners_of(obj))
        self._history.record(
            Change(
                EventType.ADDED if old is None else EventType.MODIFIED,
                kind, record.namespace, record.name, version, record.body, labels, fields,
                old.labels if old is not None else None, old.fields if old is not None else None,
            )
        )  # fmt: skip
        return record

    def remove(self, kind: Kind, old: Record) -> Object:
        """Delete `old`; its last state, at the version of the deletion."""
        version = self._version + 1
        obj = old.object
        obj["metadata"]["resourceVersion"] = str(version)
        with self._transaction(version):
            self._writer.execute(
                "DELETE FROM objects WHERE kind = ? AND namespace = ? AND name = ?",
                (str(kind), old.namespace, old.name),
            )
        self._history.record(
            Change(
                EventType.DELETED, kind, old.namespace, old.name, version, _encode(obj),
                old.labels, old.fields, old.labels, old.fields,
            )
        )  # fmt: skip
        return obj

    @contextlib.contextmanager
    def _transaction(self, version: int) -> Iterator[None]:
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            yield
            self._writer.execute("UPDATE state SET value = ? WHERE key = 'version'", (version,))
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            raise Unavailable(
                f"The store {self._path} cannot write: {error}."
                " Fix: Make room on its disk; nothing that was acknowledged is lost."
            ) from error
        finally:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        self._version = version

    def _write(self, kind: Kind, record: Record) -> None:
        self._writer.execute(
            f"INSERT INTO objects (kind, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (kind, namespace, name) DO UPDATE SET uid = excluded.uid,"
            " version = excluded.version, labels = excluded.labels, fields = excluded.fields,"
            " body = excluded.body",
            (str(kind), *record),
        )

    def _write_owners(self, kind: Kind, record: Record, owners: set[str]) -> None:
        (row,) = self._writer.execute(
            "SELECT id FROM objects WHERE kind = ? AND namespace = ? AND name = ?",
            (str(kind), record.namespace, record.name),
        ).fetchone()
        self._writer.execute("DELETE FROM owners WHERE object = ?", (row,))
        self._writer.executemany(
            "INSERT INTO owners VALUES (?, ?)", [(owner, row) for owner in owners]
        )


def _in_pages(cursor: sqlite3.Cursor, first: list[Any]) -> Iterator[list[Record]]:
    rows = first
    while rows:
        yield [Record._make(row) for row in rows]
        rows = cursor.fetchmany(_PAGE)


class _Owner(msgspec.Struct):
    uid: str = ""


class _Owned(msgspec.Struct, rename="camel"):
    owner_references: list[_Owner] | None = None


class _Stored(msgspec.Struct):
    metadata: _Owned


_decode_owners = msgspec.json.Decoder(_Stored).decode


def _stored_owners(record: Record) -> set[str]:
    """The same as `_owners_of`, without decoding the rest."""
    return {owner.uid for owner in _decode_owners(record.body).metadata.owner_references or ()}


def _owners_of(obj: Object) -> set[str]:
    return {owner.get("uid", "") for owner in obj["metadata"].get("ownerReferences") or ()}
