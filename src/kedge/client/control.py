"""Resources: create, read, watch, apply, patch and delete them, read logs, wait until Ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypedDict

import orjson

from kedge.api.scheme import INFERENCE_SERVICE, POD, Kind
from kedge.client.connection import TABLE, Connection
from kedge.client.errors import ServiceFailed, TimedOut, Unreachable, api_error
from kedge.client.kinds import resolve
from kedge.client.kubeconfig import Access, discover
from kedge.client.waiting import Outlook, Progress, look
from kedge.cluster.base import EventType, Object, ObjectList, PatchType, WatchEvent
from kedge.cluster.errors import Gone, NotFound
from kedge.lib.backoff import Backoff
from kedge.lib.clock import SYSTEM_CLOCK, Clock

FIELD_MANAGER = "kedge-client"
"""Field manager of what people apply with this client."""

ISVC_LABEL = "serving.kserve.io/inferenceservice"

_RETRY = Backoff(initial=0.1, limit=2.0)
_PATIENCE = 5
"""Failures in a row after which an API that does not answer is an error."""
_SETTLE = 2.0
"""Seconds that a failure must last: a status may still speak of the pods of the spec before."""


class ControlClient:
    """A client of one API; use as `async with`.

    Args:
        access: where and as whom; found as the command line finds it when None.
        warn: told each warning that the API sends along.
    """

    def __init__(
        self,
        access: Access | None = None,
        *,
        warn: Callable[[str], None] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.access = access or discover()
        self._connection = Connection(self.access, warn=warn)
        self._clock = clock

    async def __aenter__(self) -> ControlClient:
        await self._connection.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._connection.__aexit__(*exc)

    def namespace_of(self, kind: Kind, namespace: str | None) -> str | None:
        """Where an object of that kind is when nothing is said: the kubeconfig's namespace."""
        return (namespace or self.access.namespace) if kind.namespaced else None

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        found: Object = await self._connection.json(
            "GET", kind.path(self.namespace_of(kind, namespace), name)
        )
        return found

    async def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        everywhere: bool = False,
    ) -> ObjectList:
        where = None if everywhere else self.namespace_of(kind, namespace)
        answer = await self._connection.json(
            "GET", kind.path(where), params=_selectors(labels, fields)
        )
        items = answer.get("items") or []
        for item in items:  # an API leaves these out of the items of a list
            item.setdefault("apiVersion", kind.api_version)
            item.setdefault("kind", kind.kind)
        return ObjectList(items, answer["metadata"]["resourceVersion"])

    async def table(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        name: str = "",
        labels: str = "",
        everywhere: bool = False,
    ) -> Object:
        """A `meta.k8s.io/v1 Table` with the kind's own columns; rows carry their metadata."""
        where = None if everywhere else self.namespace_of(kind, namespace)
        found: Object = await self._connection.json(
            "GET", kind.path(where, name or None), params=_selectors(labels, ""), accept=TABLE
        )
        return found

    async def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        resource_version: str = "",
        everywhere: bool = False,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Changes after `resource_version`, all objects first when it is empty.

        Ends when the server ends it; raises `Gone` when the version is too old.
        """
        where = None if everywhere else self.namespace_of(kind, namespace)
        params = {"watch": "true", "allowWatchBookmarks": "true", **_selectors(labels, fields)}
        if resource_version:
            params["resourceVersion"] = resource_version
        async with aclosing(
            self._connection.lines(kind.path(where), params=params, accept="application/json")
        ) as lines:
            async for line in lines:
                if not line.strip():
                    continue
                event = orjson.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise api_error(int(status.get("code") or 500), status)
                yield WatchEvent(EventType(event["type"]), event["object"])

    async def create(self, kind: Kind, obj: Object, *, dry_run: bool = False) -> Object:
        path = kind.path(self.namespace_of(kind, _namespace(obj)))
        params = {"fieldManager": FIELD_MANAGER, **({"dryRun": "All"} if dry_run else {})}
        made: Object = await self._connection.json("POST", path, body=obj, params=params)
        return made

    async def apply(
        self, obj: Object, *, where: str = "the object", force: bool = True, dry_run: bool = False
    ) -> tuple[Kind, Object]:
        """Server-side apply: own the given fields, leave all others alone, create if absent."""
        kind = await resolve(self._connection, obj, where)
        name = str((obj.get("metadata") or {}).get("name") or "")
        if not name:  # nothing to apply to: the API makes the name from `generateName`
            return kind, await self.create(kind, obj, dry_run=dry_run)
        params = {"fieldManager": FIELD_MANAGER, "force": "true" if force else "false"}
        if dry_run:
            params["dryRun"] = "All"
        stored = await self._connection.json(
            "PATCH",
            kind.path(self.namespace_of(kind, _namespace(obj)), name),
            body=obj,
            params=params,
            content_type=PatchType.APPLY,
        )
        return kind, stored

    async def read(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """What the API answers to a GET of any path, as JSON."""
        return await self._connection.json("GET", path, params=params)

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Any,
        *,
        namespace: str | None = None,
        type: PatchType = PatchType.MERGE,
    ) -> Object:
        stored: Object = await self._connection.json(
            "PATCH",
            kind.path(self.namespace_of(kind, namespace), name),
            body=patch,
            params={"fieldManager": FIELD_MANAGER},
            content_type=type,
        )
        return stored

    async def delete(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        """Ask for deletion; what the API answers: the object as it ends, or a `Status`."""
        answer: Object = await self._connection.json(
            "DELETE",
            kind.path(self.namespace_of(kind, namespace), name),
            params={"propagationPolicy": "Background"},
        )
        return answer

    async def resolve(self, obj: Object, where: str = "the object") -> Kind:
        """The kind of a manifest."""
        return await resolve(self._connection, obj, where)

    async def logs(
        self,
        pod: str,
        namespace: str | None = None,
        *,
        container: str = "",
        follow: bool = False,
        previous: bool = False,
        tail: int | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """The lines of a pod's log."""
        params: dict[str, str] = {"container": container} if container else {}
        params |= {"follow": "true"} if follow else {}
        params |= {"previous": "true"} if previous else {}
        params |= {"tailLines": str(tail)} if tail is not None else {}
        path = f"{POD.path(self.namespace_of(POD, namespace), pod)}/log"
        async with aclosing(self._connection.lines(path, params=params)) as lines:
            async for line in lines:
                yield line

    async def pods_of(self, service: str, namespace: str | None = None) -> Sequence[Object]:
        """The pods of an InferenceService, oldest first."""
        found = await self.list(POD, namespace, labels=f"{ISVC_LABEL}={service}")
        return sorted(
            found.items,
            key=lambda p: (p["metadata"].get("creationTimestamp") or "", p["metadata"]["name"]),
        )

    async def follow(
        self, kind: Kind, name: str, namespace: str | None = None
    ) -> AsyncGenerator[Object | None, None]:
        """One object, now and at each change; None while it is not there.

        Never ends of itself, and goes on when the API restarts.
        """
        there = False
        selector = f"metadata.name={name}"
        async with aclosing(self.changes(kind, namespace, fields=selector)) as changes:
            async for event in changes:
                if event.type is EventType.BOOKMARK:  # the list is through
                    if not there:
                        yield None
                    continue
                there = event.type is not EventType.DELETED
                yield event.object if there else None

    async def changes(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        everywhere: bool = False,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Every object as ADDED, a BOOKMARK, then what changes.

        Never ends of itself: after a break (the API restarted, the version grew too old) it lists
        again and gives only what is new, with a BOOKMARK behind it.
        """
        where: _Where = {"labels": labels, "fields": fields, "everywhere": everywhere}
        seen: dict[str, Object] = {}
        failures = 0
        while True:
            try:
                listed = await self.list(kind, namespace, **where)
                for event in _differences(seen, listed.items):
                    yield event
                version = listed.resource_version
                yield WatchEvent(EventType.BOOKMARK, {"metadata": {"resourceVersion": version}})
                failures = 0
                async with aclosing(
                    self.watch(kind, namespace, resource_version=version, **where)
                ) as events:
                    async for event in events:
                        if event.type is not EventType.BOOKMARK:
                            _note(seen, event)
                            yield event
                await self._clock.sleep(_RETRY.initial)
            except (Gone, Unreachable) as error:
                failures += 1
                if isinstance(error, Unreachable) and failures > _PATIENCE:
                    raise
                await self._clock.sleep(_RETRY.delay(failures))

    async def wait_ready(
        self,
        name: str,
        namespace: str | None = None,
        *,
        timeout: float = 120.0,
        progress: Callable[[Progress, Object], None] | None = None,
    ) -> Object:
        """The InferenceService once it is Ready.

        Raises:
            NotFound: there is none of that name, or it was deleted meanwhile.
            ServiceFailed: it will not become Ready as it is.
            TimedOut: it is not Ready after `timeout` seconds.
        """
        last = Progress(Outlook.COMING, "not seen yet")
        deadline = asyncio.get_running_loop().time() + timeout
        try:
            async with (
                asyncio.timeout_at(deadline) as limit,
                aclosing(self.follow(INFERENCE_SERVICE, name, namespace)) as seen,
            ):
                async for obj in seen:
                    if obj is None:
                        raise _not_there(name)
                    before, last = last, look(obj)
                    if progress is not None:
                        progress(last, obj)
                    if last.outlook is Outlook.READY:
                        return obj
                    if last.outlook is Outlook.STOPPED:
                        raise ServiceFailed(
                            f"{name} is {last.text}.", fix="Remove that annotation to resume it."
                        )
                    if last.outlook is not Outlook.FAILED:
                        limit.reschedule(deadline)
                    elif before.outlook is not Outlook.FAILED:
                        now = asyncio.get_running_loop().time()
                        limit.reschedule(min(deadline, now + _SETTLE))
        except TimeoutError as error:
            if last.outlook is Outlook.FAILED:
                raise ServiceFailed(f"{name} failed: {last.text}") from error
            raise _too_late(name, timeout, last) from error
        raise AssertionError("unreachable: following an object never ends of itself")


class _Where(TypedDict):
    labels: str
    fields: str
    everywhere: bool


def _differences(seen: dict[str, Object], listed: Sequence[Object]) -> list[WatchEvent]:
    """What changed between what was seen and what is listed now; `seen` is brought up to date."""
    now = {item["metadata"]["uid"]: item for item in listed}
    events = [WatchEvent(EventType.DELETED, gone) for uid, gone in seen.items() if uid not in now]
    for uid, item in now.items():
        before = seen.get(uid)
        if before is None:
            events.append(WatchEvent(EventType.ADDED, item))
        elif before["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
            events.append(WatchEvent(EventType.MODIFIED, item))
    for event in events:
        _note(seen, event)
    return events


def _note(seen: dict[str, Object], event: WatchEvent) -> None:
    uid = event.object["metadata"]["uid"]
    if event.type is EventType.DELETED:
        seen.pop(uid, None)
    else:
        seen[uid] = event.object


def _selectors(labels: str, fields: str) -> Mapping[str, str]:
    chosen = {"labelSelector": labels, "fieldSelector": fields}
    return {key: value for key, value in chosen.items() if value}


def _namespace(obj: Object) -> str | None:
    return (obj.get("metadata") or {}).get("namespace")


def _not_there(name: str) -> NotFound:
    error = NotFound(f'inferenceservices.serving.kserve.io "{name}" not found')
    error.fix = "`kedge get` lists the ones that are there."
    return error


def _too_late(name: str, timeout: float, last: Progress) -> TimedOut:
    return TimedOut(
        f"{name} is not Ready after {timeout:.0f} s ({last.text}).",
        fix=f"`kedge why {name}` shows what it waits for; --timeout waits longer.",
    )
