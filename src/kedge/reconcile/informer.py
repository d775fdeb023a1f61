"""A cache of one kind, kept by list and watch, that survives whatever the server does.

It lists once, watches from the list's version, and on every end of the watch resumes from the last
version seen. It lists again only when the server says that version is `Gone`; then it tells its
handlers the difference, so that a handler never misses a change and never hears of one twice.
While the server is away the cache keeps its last contents.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

from kedge.api.scheme import Kind
from kedge.cluster.base import Cluster, EventType, Object, WatchEvent
from kedge.cluster.errors import ApiError, Gone, NotFound, TooManyRequests, Unavailable
from kedge.lib.backoff import Backoff
from kedge.lib.clock import SYSTEM_CLOCK, Clock

log = logging.getLogger(__name__)

Handler = Callable[[EventType, Object, Object | None], None]
_Place = tuple[str, str]
_ABSENT_SECONDS = 10.0


class _Index:
    """Objects by the values that `keys` finds in them."""

    def __init__(self, keys: Callable[[Object], Iterable[str]]) -> None:
        self._keys = keys
        self._places: dict[str, dict[_Place, Object]] = {}
        self._filed: dict[_Place, tuple[str, ...]] = {}

    def put(self, place: _Place, obj: Object) -> None:
        self.remove(place)
        keys = self._filed[place] = tuple(self._keys(obj))
        for key in keys:
            self._places.setdefault(key, {})[place] = obj

    def remove(self, place: _Place) -> None:
        for key in self._filed.pop(place, ()):
            found = self._places.get(key)
            if found is not None:
                found.pop(place, None)
                if not found:
                    del self._places[key]

    def find(self, key: str) -> list[Object]:
        return list(self._places.get(key, {}).values())


class Informer:
    """The objects of one kind, as last seen; what it returns is read-only.

    Attributes:
        synced: set once the first list has been taken in and its handlers called.
    """

    def __init__(
        self,
        cluster: Cluster,
        kind: Kind,
        *,
        namespace: str | None = None,
        labels: str | None = None,
        fields: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.kind = kind
        self.synced = asyncio.Event()
        self._cluster = cluster
        self._namespace = namespace
        self._labels = labels
        self._fields = fields
        self._clock = clock
        self._backoff = Backoff(initial=0.05, limit=1.0)
        self._objects: dict[_Place, Object] = {}
        self._namespaces = _Index(lambda obj: (obj["metadata"].get("namespace", ""),))
        self._indexes: dict[str, _Index] = {}
        self._handlers: list[Handler] = []
        self._version: str | None = None
        self._failures = 0

    def get(self, namespace: str | None, name: str) -> Object | None:
        return self._objects.get((namespace or "", name))

    def by_index(self, name: str, key: str) -> list[Object]:
        return self._indexes[name].find(key)

    def list(
        self, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> list[Object]:
        """Objects of one namespace (of all when None) that carry all the given labels."""
        if namespace is None:
            found = list(self._objects.values())
        else:
            found = self._namespaces.find(namespace)
        return [obj for obj in found if _has_labels(obj, labels)] if labels else found

    def add_index(self, name: str, keys: Callable[[Object], Iterable[str]]) -> None:
        """Make `by_index(name, key)` find the objects for which `keys(obj)` yields `key`."""
        index = self._indexes[name] = _Index(keys)
        for place, obj in self._objects.items():
            index.put(place, obj)

    def on_change(self, handler: Handler) -> None:
        """Call `handler(type, new or deleted object, old object)` after each change, in order.

        It is called at once with ADDED for what is already here. It must not block; an error in it
        is logged and goes no further.
        """
        self._handlers.append(handler)
        for obj in list(self._objects.values()):
            self._call(handler, EventType.ADDED, obj, None)

    def note_write(self, obj: Object) -> None:
        """Take in what a write just returned, so that its writer reads it here at once.

        What is older than the cache, or was deleted again in the meantime, is ignored.
        """
        version = _number(_version(obj))
        known = self._objects.get(_place(obj))
        seen = _number(self._version if known is None else _version(known))
        if version > seen and self._version is not None:
            self._put(obj)

    async def run(self) -> None:
        """Follow the server until cancelled."""
        while True:
            before = self._version
            try:
                if self._version is None:
                    await self._relist()
                await self._follow()
            except Gone:
                self._version = None
                log.info("%s: version %s is gone, listing again", self.kind, before)
            except NotFound as error:
                # Nobody knows this kind: there are none, until somebody makes it known.
                level = logging.DEBUG if self.synced.is_set() else logging.WARNING
                log.log(level, "%s: %s; again in %g s", self.kind, error, _ABSENT_SECONDS)
                self._version = None
                self._forget()
                self.synced.set()
                await self._clock.sleep(_ABSENT_SECONDS)
            except (Unavailable, TooManyRequests, OSError) as error:
                self._failures += 1
                log.log(logging.INFO if self._failures == 1 else logging.DEBUG,
                        "%s: %s", self.kind, error)  # fmt: skip
            except ApiError as error:
                # Such as a right that is missing: it is tried again, and what is known is kept.
                self._failures += 1
                level = logging.ERROR if self._failures == 1 else logging.DEBUG
                log.log(level, "%s: %s", self.kind, error)
            except Exception:
                self._failures += 1
                log.exception("%s: watch failed", self.kind)
            else:
                # A server that ends every watch at once must not be asked in a tight loop.
                self._failures = self._failures + 1 if self._version == before else 0
            if self._failures:
                await self._clock.sleep(self._backoff.delay(self._failures))

    async def _relist(self) -> None:
        try:
            listed = await self._cluster.list(
                self.kind, self._namespace, labels=self._labels, fields=self._fields
            )
        except Gone as error:
            # Its pages expired while they were read: worth a retry, but not in a tight loop.
            raise Unavailable(error.message) from error
        present = {_place(obj) for obj in listed.items}
        read_at = _number(listed.resource_version)
        for place, obj in list(self._objects.items()):
            if place not in present and _number(_version(obj)) <= read_at:
                self._remove(obj)
        for obj in listed.items:
            self._put(obj)
        self._version = listed.resource_version
        self.synced.set()

    def _forget(self) -> None:
        for obj in list(self._objects.values()):
            self._remove(obj)

    async def _follow(self) -> None:
        events = self._cluster.watch(
            self.kind,
            self._namespace,
            labels=self._labels,
            fields=self._fields,
            resource_version=self._version,
        )
        async for event in events:
            self._take(event)
            self._version = event.object["metadata"]["resourceVersion"]
            self._failures = 0

    def _take(self, event: WatchEvent) -> None:
        if event.type is EventType.DELETED:
            self._remove(event.object)
        elif event.type is not EventType.BOOKMARK:
            self._put(event.object)

    def _put(self, obj: Object) -> None:
        place = _place(obj)
        old = self._objects.get(place)
        if old is not None and _uid(old) == _uid(obj) and _is_older(obj, old):
            return
        if old is not None and _uid(old) != _uid(obj):
            self._remove(old)
            old = None
        self._objects[place] = obj
        self._namespaces.put(place, obj)
        for index in self._indexes.values():
            index.put(place, obj)
        self._notify(EventType.ADDED if old is None else EventType.MODIFIED, obj, old)

    def _remove(self, obj: Object) -> None:
        place = _place(obj)
        old = self._objects.pop(place, None)
        if old is None:
            return
        self._namespaces.remove(place)
        for index in self._indexes.values():
            index.remove(place)
        self._notify(EventType.DELETED, obj, old)

    def _notify(self, type: EventType, obj: Object, old: Object | None) -> None:
        for handler in self._handlers:
            self._call(handler, type, obj, old)

    def _call(self, handler: Handler, type: EventType, obj: Object, old: Object | None) -> None:
        try:
            handler(type, obj, old)
        except Exception:
            log.exception("%s: handler failed for %s", self.kind, "/".join(_place(obj)))


def _place(obj: Object) -> _Place:
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _version(obj: Object) -> object:
    return obj["metadata"].get("resourceVersion")


def _number(version: object) -> int:
    """Versions are numbers that grow (kube-apiserver, and our store); else nothing is newer."""
    return int(version) if isinstance(version, str) and version.isdigit() else 0


def _is_older(obj: Object, known: Object) -> bool:
    """Whether `obj` says nothing new: it is what is known, or was overtaken by a noted write."""
    return _version(obj) == _version(known) or _number(_version(obj)) < _number(_version(known))


def _uid(obj: Object) -> object:
    return obj["metadata"].get("uid")


def _has_labels(obj: Object, wanted: Mapping[str, str]) -> bool:
    labels = obj["metadata"].get("labels") or {}
    return all(labels.get(name) == value for name, value in wanted.items())
