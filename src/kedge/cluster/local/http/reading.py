"""Reading: one object, or a list, in whichever form the client asked for.

A plain list is joined from the stored bytes and sent while it is read; nothing is decoded.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from kedge.cluster.base import Object
from kedge.cluster.errors import ApiError, BadRequest, Gone
from kedge.cluster.local.cluster import parse_version
from kedge.cluster.local.http.answers import JSON_TYPE, answer
from kedge.cluster.local.http.bodies import number
from kedge.cluster.local.http.negotiation import Form
from kedge.cluster.local.http.target import Target
from kedge.cluster.local.registry import Registry
from kedge.cluster.local.scaling import read_scale
from kedge.cluster.local.selection import Selection
from kedge.cluster.local.store import Record, Store
from kedge.cluster.local.tables import printer_of
from kedge.lib.clock import Clock

_encode = msgspec.json.Encoder().encode


class TooNew(ApiError):
    """The client has seen a version that this store has not reached."""

    code = 504
    reason = "Timeout"


class Reader:
    """Answers GET of objects and lists."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry = registry
        self._store: Store = registry.store
        self._clock = clock

    def get(self, target: Target, form: Form, request: Request) -> Response:
        record = self._registry.read(target.kind, target.namespace or "", target.name or "")
        if target.subresource == "scale":
            return answer(read_scale(target.kind, record.object), form=form)
        if form.name == "" and not form.yaml and not target.legacy:
            return Response(record.body, media_type=JSON_TYPE)
        include = request.query_params.get("includeObject", "Metadata")
        return answer(self.shaped(target, record.object, form, include), form=form)

    def shaped(self, target: Target, obj: Object, form: Form, include: str = "Metadata") -> Object:
        """One object in the form asked for."""
        if form.name == "Table":
            printer = printer_of(target.kind)
            row = printer.row(obj, self._clock.now(), include)
            return {
                "kind": "Table",
                "apiVersion": form.api_version,
                "metadata": {"resourceVersion": obj["metadata"].get("resourceVersion", "")},
                "columnDefinitions": printer.definitions(),
                "rows": [row],
            }
        if form.name:
            return {
                "kind": "PartialObjectMetadata",
                "apiVersion": form.api_version,
                "metadata": obj["metadata"],
            }
        return legacy_form(target, obj)

    def list_all(self, target: Target, form: Form, request: Request) -> Response:
        query = request.query_params
        selection = Selection.parse(
            target.kind, target.namespace, query.get("labelSelector"), query.get("fieldSelector")
        )
        limit = number(query, "limit") or 0
        version, after = self._position(target, query.get("continue"))
        wanted = parse_version(query.get("resourceVersion"))
        if wanted is not None and wanted > self._store.version:
            raise TooNew(f"Too large resource version: {wanted}, current: {self._store.version}")
        snapshot = self._store.snapshot(target.kind, selection.namespace, after=after)
        page = _Page(selection, limit)
        records = page.take(snapshot.pages())
        version = version or str(snapshot.version)
        pieces = self._pieces(target, form, query.get("includeObject", "Metadata"), records)
        if form.yaml:
            return StreamingResponse(
                _as_yaml(_with_frame(target, form, pieces, version, page)),
                media_type="application/yaml",
            )
        return StreamingResponse(
            _with_frame(target, form, pieces, version, page), media_type=JSON_TYPE
        )

    def _position(self, target: Target, token: str | None) -> tuple[str, tuple[str, str] | None]:
        """The version of the first page, and the object after which the next begins."""
        if not token:
            return "", None
        try:
            version, namespace, name = msgspec.json.decode(
                base64.urlsafe_b64decode(token), type=tuple[str, str, str]
            )
        except (ValueError, msgspec.DecodeError):
            raise BadRequest(f"continue={token!r} in the query was not given by us") from None
        try:
            self._store.check_resumable(target.kind, int(version))
        except Gone:
            raise Gone(
                "The provided continue parameter is too old to display a consistent list result."
                " You can start a new list without the continue parameter."
            ) from None
        return version, (namespace, name)

    def _pieces(
        self, target: Target, form: Form, include: str, records: AsyncIterator[list[Record]]
    ) -> AsyncIterator[list[bytes]]:
        if form.name == "Table":
            return self._rows(target, include, records)
        if form.name:
            return self._partial(form, records)
        return _bodies(target, records)

    async def _rows(
        self, target: Target, include: str, records: AsyncIterator[list[Record]]
    ) -> AsyncIterator[list[bytes]]:
        printer = printer_of(target.kind)
        now = self._clock.now()
        async for page in records:
            yield [_encode(printer.row(record.object, now, include)) for record in page]

    async def _partial(
        self, form: Form, records: AsyncIterator[list[Record]]
    ) -> AsyncIterator[list[bytes]]:
        async for page in records:
            yield [
                _encode(
                    {
                        "kind": "PartialObjectMetadata",
                        "apiVersion": form.api_version,
                        "metadata": record.object["metadata"],
                    }
                )
                for record in page
            ]


class _Page:
    """The selected records, up to a limit, and where the next page goes on."""

    def __init__(self, selection: Selection, limit: int) -> None:
        self._selection = selection
        self._limit = limit
        self.last: Record | None = None
        self.more = False

    async def take(self, pages: AsyncIterator[list[Record]]) -> AsyncIterator[list[Record]]:
        count = 0
        everything = self._selection.everything
        async for page in pages:
            found = page if everything else [one for one in page if self._selection.has(one)]
            if self._limit and count + len(found) > self._limit:
                found = found[: self._limit - count]
                self.more = True
            if found:
                count += len(found)
                self.last = found[-1]
                yield found
            if self.more:
                return

    def token(self, version: str) -> str:
        """What the client sends to get the next page; empty when there is none."""
        if not self.more or self.last is None:
            return ""
        place = (version, self.last.namespace, self.last.name)
        return base64.urlsafe_b64encode(_encode(place)).decode()


def legacy_form(target: Target, obj: Object) -> Object:
    """An object as the old group knows it, where it was asked for by that."""
    return {**obj, "apiVersion": target.api_version} if target.legacy else obj


async def _bodies(
    target: Target, records: AsyncIterator[list[Record]]
) -> AsyncIterator[list[bytes]]:
    async for page in records:
        if target.legacy:
            yield [_encode(legacy_form(target, record.object)) for record in page]
        else:
            yield [record.body for record in page]


async def _with_frame(
    target: Target, form: Form, pieces: AsyncIterator[list[bytes]], version: str, page: _Page
) -> AsyncIterator[bytes]:
    """The list around the items; its metadata comes last, when the next page is known."""
    head: dict[str, Any] = {"kind": f"{target.kind.kind}List", "apiVersion": target.api_version}
    field = "items"
    if form.name == "Table":
        definitions = printer_of(target.kind).definitions()
        head = {
            "kind": "Table", "apiVersion": form.api_version, "columnDefinitions": definitions,
        }  # fmt: skip
        field = "rows"
    elif form.name:
        head = {"kind": "PartialObjectMetadataList", "apiVersion": form.api_version}
    first = True
    yield _encode(head)[:-1] + f',"{field}":['.encode()
    async for items in pieces:
        yield (b"" if first else b",") + b",".join(items)
        first = False
    metadata = {"resourceVersion": version}
    if token := page.token(version):
        metadata["continue"] = token
    yield b'],"metadata":' + _encode(metadata) + b"}"


async def _as_yaml(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    text = b"".join([piece async for piece in pieces])
    yield msgspec.yaml.encode(msgspec.json.decode(text))
