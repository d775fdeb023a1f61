"""Watching: changes as they happen, one JSON object a line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from kedge.cluster.base import EventType, Object
from kedge.cluster.errors import ApiError, Gone
from kedge.cluster.local.cluster import parse_version
from kedge.cluster.local.http.bodies import flag, number
from kedge.cluster.local.http.negotiation import Form
from kedge.cluster.local.http.reading import Reader
from kedge.cluster.local.http.target import Target
from kedge.cluster.local.selection import Selection
from kedge.cluster.local.store import Store, Subscription
from kedge.cluster.local.tables import printer_of

BOOKMARK_SECONDS = 60.0
_INITIAL_END = "k8s.io/initial-events-end"
_encode = msgspec.json.Encoder().encode


class Watcher:
    """Answers GET with `watch`."""

    def __init__(self, store: Store, reader: Reader) -> None:
        self._store = store
        self._reader = reader

    def watch(self, target: Target, form: Form, request: Request) -> Response:
        query = request.query_params
        fields = query.get("fieldSelector")
        if target.name is not None:
            only = f"metadata.name={target.name}"
            fields = f"{fields},{only}" if fields else only
        selection = Selection.parse(
            target.kind, target.namespace, query.get("labelSelector"), fields
        )
        stream = _Stream(self._store, self._reader, target, form, selection, query)
        return StreamingResponse(stream.lines(), media_type="application/json;stream=watch")


class _Stream:
    """One watch."""

    def __init__(
        self,
        store: Store,
        reader: Reader,
        target: Target,
        form: Form,
        selection: Selection,
        query: Mapping[str, str],
    ) -> None:
        self._store = store
        self._reader = reader
        self._target = target
        self._form = form
        self._selection = selection
        self._include = query.get("includeObject", "Metadata")
        self._bookmarks = flag(query, "allowWatchBookmarks")
        self._initial = flag(query, "sendInitialEvents")
        self._since = parse_version(query.get("resourceVersion"))
        seconds = number(query, "timeoutSeconds")
        self._seconds = float(seconds) if seconds else None

    async def lines(self) -> AsyncIterator[bytes]:
        deadline = None
        if self._seconds is not None:
            deadline = asyncio.get_running_loop().time() + self._seconds
        try:
            changes = self._follow()
        except Gone as error:
            yield self._line("ERROR", error.to_status())
            return
        try:
            async for line in self._begin():
                yield line
            async for line in self._go_on(changes, deadline):
                yield line
        except ApiError as error:
            yield self._line("ERROR", error.to_status())
        finally:
            changes.close()

    def _follow(self) -> Subscription:
        since = None if self._initial else self._since
        return self._store.follow(self._target.kind, since)

    async def _begin(self) -> AsyncIterator[bytes]:
        """What is there already, for who comes without a version."""
        if self._since is not None and not self._initial:
            yield b""  # The headers go out at once.
            return
        snapshot = self._store.snapshot(self._target.kind, self._selection.namespace)
        yield b""
        async for page in snapshot.pages():
            found = [record.body for record in page if self._selection.has(record)]
            if found:
                yield b"".join(self._event(EventType.ADDED, body) for body in found)
        if self._initial and self._bookmarks:
            yield self._bookmark(snapshot.version, {_INITIAL_END: "true"})

    async def _go_on(self, changes: Subscription, deadline: float | None) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        next_bookmark = clock() + BOOKMARK_SECONDS
        while True:
            wakes = [next_bookmark] if self._bookmarks else []
            wakes += [deadline] if deadline is not None else []
            try:
                async with asyncio.timeout_at(min(wakes, default=None)):
                    taken = await changes.wait()
            except TimeoutError:
                if self._bookmarks:
                    yield self._bookmark(self._store.version)
                    next_bookmark = clock() + BOOKMARK_SECONDS
                if deadline is not None and clock() >= deadline:
                    return
                continue
            seen = [
                (event, change.body)
                for change in taken
                if (event := self._selection.event(change)) is not None
            ]
            if seen:
                yield b"".join(self._event(event, body) for event, body in seen)

    def _event(self, event: EventType, body: bytes) -> bytes:
        if self._form.name == "" and not self._target.legacy:
            return b'{"type":"%b","object":%b}\n' % (event.value.encode(), body)
        obj = msgspec.json.decode(body)
        shaped = self._reader.shaped(self._target, obj, self._form, self._include)
        return self._line(event.value, shaped)

    def _bookmark(self, version: int, annotations: Mapping[str, str] | None = None) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": str(version), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = dict(annotations)
        obj: Object = {
            "kind": self._target.kind.kind,
            "apiVersion": self._target.api_version,
            "metadata": metadata,
        }
        if self._form.name == "Table":
            definitions = printer_of(self._target.kind).definitions()
            obj = {
                "kind": "Table",
                "apiVersion": self._form.api_version,
                "metadata": {"resourceVersion": str(version)},
                "columnDefinitions": definitions,
                "rows": [],
            }
        return self._line(EventType.BOOKMARK.value, obj)

    def _line(self, event: str, obj: Object) -> bytes:
        return _encode({"type": event, "object": obj}) + b"\n"
