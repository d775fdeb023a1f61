"""A day of counts by the minute, in one SQLite file that stays small.

Losing the last minute to a crash is fine: nothing is synchronised, and a file that cannot be read
is begun anew.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from kedge.telemetry.counts import Counts, unpack

log = logging.getLogger(__name__)

KEPT_SECONDS = 24 * 3600
MOST_ROWS = 400_000
"""About 40 MB; the oldest go first."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS minutes (
    at INTEGER, namespace TEXT, service TEXT, component TEXT, backend TEXT,
    ok INTEGER, refused INTEGER, failed INTEGER, latency BLOB,
    PRIMARY KEY (at, namespace, backend)
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""


class Source(NamedTuple):
    """Whose requests they are: a Service of one revision, and what it belongs to."""

    namespace: str
    service: str
    component: str
    backend: str


class History:
    """The file; every method blocks, so call them in a thread.

    One at a time works with the database: SQLite does not bear to be closed beneath a thread that
    still writes, as happens when a process ends. What comes after the end is dropped.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._closed = False
        try:
            self._database = self._open(str(path))
        except (sqlite3.Error, OSError) as error:
            log.warning("%s cannot be read (%s): it is begun anew", path, error)
            self._database = self._begin_anew()

    def _begin_anew(self) -> sqlite3.Connection:
        try:
            for name in (self._path, Path(f"{self._path}-wal"), Path(f"{self._path}-shm")):
                name.unlink(missing_ok=True)
            return self._open(str(self._path))
        except (sqlite3.Error, OSError) as error:
            log.warning("%s cannot be written (%s): counts are kept in memory", self._path, error)
            return self._open(":memory:")

    def _open(self, path: str) -> sqlite3.Connection:
        database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = OFF")
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, 1):
            database.close()
            raise sqlite3.DatabaseError(f"it is of version {version}")
        database.executescript(_SCHEMA)
        return database

    def add(self, at: int, counts: Iterable[tuple[Source, Counts]]) -> None:
        """Keep what was counted in the minute that began at `at`."""
        rows = [
            (at, *source, one.ok, one.refused, one.failed, one.pack()) for source, one in counts
        ]
        with self._transaction() as is_open:
            if not is_open:
                return
            self._database.executemany(
                "INSERT OR REPLACE INTO minutes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
            )

    def prune(self, now: float, most_rows: int = MOST_ROWS) -> None:
        """Forget what is older than a day, and more if there is too much."""
        with self._transaction() as is_open:
            if not is_open:
                return
            self._database.execute("DELETE FROM minutes WHERE at < ?", (int(now) - KEPT_SECONDS,))
            (count,) = self._database.execute("SELECT count(*) FROM minutes").fetchone()
            if count > most_rows:
                found = self._database.execute(
                    "SELECT at FROM minutes ORDER BY at LIMIT 1 OFFSET ?", (count - most_rows,)
                ).fetchone()
                self._database.execute("DELETE FROM minutes WHERE at <= ?", found)
                log.warning("%s holds more than %d rows: less than a day", self._path, most_rows)

    def since(self, at: float, namespace: str = "", service: str = "") -> dict[Source, Counts]:
        """What was counted in the minutes that began at `at` or later."""
        found: dict[Source, Counts] = {}
        with self._lock:
            if self._closed:
                return found
            rows = self._database.execute(
                "SELECT namespace, service, component, backend, ok, refused, failed, latency"
                " FROM minutes WHERE at >= ? AND (? = '' OR namespace = ?)"
                " AND (? = '' OR service = ?)",
                (at, namespace, namespace, service, service),
            ).fetchall()
        for *source, ok, refused, failed, latency in rows:
            counts = Counts(ok, refused, failed, unpack(latency))
            found.setdefault(Source(*source), Counts()).add(counts)
        return found

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._database.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[bool]:
        """Yields whether the database is still open."""
        with self._lock:
            if self._closed:
                yield False
                return
            self._database.execute("BEGIN")
            try:
                yield True
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
