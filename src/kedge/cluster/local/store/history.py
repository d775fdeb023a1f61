"""The last changes of each kind, kept in memory, and those who follow them.

A watcher resumes from any version that is still in the history; one that is too old, or too slow
to follow, gets `Gone` and lists again. The history starts anew with the process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from kedge.api.scheme import Kind
from kedge.cluster.base import EventType, Object
from kedge.cluster.errors import Gone
from kedge.cluster.slim import slim_down


@dataclass(frozen=True, slots=True)
class Change:
    """One write.

    Attributes:
        version: the version that the write made.
        body: the object's bytes after the write; of a deleted object, its last ones.
        labels, fields: what selectors see after the write.
        old_labels, old_fields: and before it; None when the object is new.
    """

    type: EventType
    kind: Kind
    namespace: str
    name: str
    version: int
    body: bytes
    labels: dict[str, str]
    fields: dict[str, str]
    old_labels: dict[str, str] | None = None
    old_fields: dict[str, str] | None = None

    @property
    def object(self) -> Object:
        """To be read only: all who follow have the same."""
        return _decoded(self.version, self.body)

    @property
    def slim(self) -> Object:
        """The same, for caches: without who manages which field."""
        return _slim(self.version, self.body)


@lru_cache(maxsize=256)
def _decoded(version: int, body: bytes) -> Object:
    """Several follow each kind: a change that is new is decoded once for them all."""
    decoded: dict[str, Any] = msgspec.json.decode(body)
    return decoded


@lru_cache(maxsize=256)
def _slim(version: int, body: bytes) -> Object:
    decoded: dict[str, Any] = msgspec.json.decode(body)
    slim_down(decoded)
    return decoded


class Subscription:
    """Changes of one kind, or of all, in order, for one follower."""

    def __init__(self, history: History, kind: Kind | None, limit: int) -> None:
        self._history = history
        self._kind = kind
        self._limit = limit
        self._changes: deque[Change] = deque()
        self._arrived = asyncio.Event()
        self._overflowed = False

    def push(self, change: Change) -> None:
        if len(self._changes) >= self._limit:
            self._overflowed = True
            self._changes.clear()
        if not self._overflowed:
            self._changes.append(change)
        self._arrived.set()

    def poll(self) -> list[Change]:
        """What has arrived since the last call.

        Raises:
            Gone: so much has arrived that some of it had to be dropped.
        """
        self._arrived.clear()
        if self._overflowed:
            raise Gone("The watch fell too far behind and lost changes.")
        taken = list(self._changes)
        self._changes.clear()
        return taken

    async def wait(self) -> list[Change]:
        """At least one change."""
        while not (taken := self.poll()):
            await self._arrived.wait()
        return taken

    def close(self) -> None:
        self._history.leave(self._kind, self)


class _Recent:
    """The last changes of one kind, within a number and a size."""

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self.changes: deque[Change] = deque()
        self.size = 0

    def add(self, change: Change, count: int, size: int) -> None:
        self.changes.append(change)
        self.size += len(change.body)
        while len(self.changes) > count or self.size > size:
            dropped = self.changes.popleft()
            self.size -= len(dropped.body)
            self.floor = dropped.version


class History:
    """Every change since this process began, within limits.

    Args:
        version: the store's version at the start; nothing older can be resumed from.
        count, size: how many changes and bytes are kept for each kind.
        backlog: how many changes a follower may be behind.
    """

    def __init__(
        self, version: int, *, count: int = 4096, size: int = 8 << 20, backlog: int = 20_000
    ) -> None:
        self._start = version
        self._count = count
        self._size = size
        self._backlog = backlog
        self._recent: dict[Kind, _Recent] = {}
        self._followers: dict[Kind | None, list[Subscription]] = {}

    def record(self, change: Change) -> None:
        recent = self._recent.get(change.kind)
        if recent is None:
            recent = self._recent[change.kind] = _Recent(self._start)
        recent.add(change, self._count, self._size)
        for follower in self._followers.get(change.kind, ()):
            follower.push(change)
        for follower in self._followers.get(None, ()):
            follower.push(change)

    def check(self, kind: Kind, since: int) -> None:
        """Raise `Gone` when some change of `kind` after version `since` is no longer here."""
        floor = self._recent[kind].floor if kind in self._recent else self._start
        if since < floor:
            raise Gone(f"too old resource version: {since} ({floor})")

    def follow(self, kind: Kind | None, since: int | None) -> Subscription:
        """The changes of `kind` after version `since`, or from now on when None."""
        subscription = Subscription(self, kind, self._backlog)
        if since is not None and kind is not None:
            self.check(kind, since)
            for change in self._recent[kind].changes if kind in self._recent else ():
                if change.version > since:
                    subscription.push(change)
        self._followers.setdefault(kind, []).append(subscription)
        return subscription

    def leave(self, kind: Kind | None, subscription: Subscription) -> None:
        followers = self._followers.get(kind, [])
        if subscription in followers:
            followers.remove(subscription)
