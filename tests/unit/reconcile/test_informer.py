"""The cache: what its handlers hear when the server ends, forgets, breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from kedge.api.scheme import POD, Kind
from kedge.cluster.base import Cluster, EventType, Object, ObjectList, WatchEvent
from kedge.cluster.errors import Forbidden, Gone, NotFound, Unavailable
from kedge.reconcile import Informer
from kedge.testing.clock import FakeClock


def pod(name: str, version: int, *, uid: str = "", **labels: str) -> Object:
    metadata = {"name": name, "namespace": "ns", "resourceVersion": str(version)}
    return {"metadata": {**metadata, "uid": uid or name, "labels": labels}}


class ScriptedCluster:
    """Answers lists and watches from two scripts, and notes where each watch began."""

    def __init__(self) -> None:
        self.lists: list[ObjectList | Exception] = []
        self.watches: list[list[WatchEvent | Exception]] = []
        self.watched_from: list[str | None] = []

    async def list(self, kind: Kind, namespace: str | None = None, **_: Any) -> ObjectList:
        answer = self.lists.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def watch(
        self, kind: Kind, namespace: str | None = None, *, resource_version: str | None, **_: Any
    ) -> AsyncIterator[WatchEvent]:
        self.watched_from.append(resource_version)
        if not self.watches:
            await asyncio.Event().wait()
        for item in self.watches.pop(0):
            if isinstance(item, Exception):
                raise item
            yield item


Heard = list[tuple[str, str, str | None]]


@asynccontextmanager
async def following(cluster: ScriptedCluster) -> AsyncIterator[tuple[Informer, FakeClock, Heard]]:
    clock = FakeClock()
    informer = Informer(cast(Cluster, cluster), POD, clock=clock)
    heard: Heard = []

    def hear(type: EventType, obj: Object, old: Object | None) -> None:
        version = obj["metadata"]["resourceVersion"]
        before = old["metadata"]["resourceVersion"] if old else None
        heard.append((type.value, f"{obj['metadata']['name']}@{version}", before))

    informer.on_change(hear)
    task = asyncio.create_task(informer.run())
    try:
        await clock.settle()
        yield informer, clock, heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def event(type: EventType, obj: Object) -> WatchEvent:
    return WatchEvent(type, obj)


async def test_lists_then_follows() -> None:
    cluster = ScriptedCluster()
    cluster.lists = [ObjectList([pod("a", 1), pod("b", 2)], "5")]
    cluster.watches = [
        [
            event(EventType.MODIFIED, pod("a", 6)),
            event(EventType.DELETED, pod("b", 7)),
            event(EventType.ADDED, pod("c", 8)),
        ]
    ]
    async with following(cluster) as (informer, _, heard):
        assert informer.synced.is_set()
        assert cluster.watched_from == ["5", "8"]
        assert heard == [
            ("ADDED", "a@1", None),
            ("ADDED", "b@2", None),
            ("MODIFIED", "a@6", "1"),
            ("DELETED", "b@7", "2"),
            ("ADDED", "c@8", None),
        ]
        assert informer.get("ns", "b") is None
        assert [obj["metadata"]["name"] for obj in informer.list("ns")] == ["a", "c"]
        assert informer.list("other") == []


async def test_resumes_from_a_bookmark_and_ignores_what_it_has() -> None:
    cluster = ScriptedCluster()
    cluster.lists = [ObjectList([pod("a", 1)], "5")]
    bookmark = event(EventType.BOOKMARK, {"metadata": {"resourceVersion": "90"}})
    cluster.watches = [[event(EventType.ADDED, pod("a", 1)), bookmark]]
    async with following(cluster) as (_, _, heard):
        assert cluster.watched_from == ["5", "90"]
        assert heard == [("ADDED", "a@1", None)]


async def test_gone_lists_again_and_tells_the_difference() -> None:
    cluster = ScriptedCluster()
    cluster.lists = [
        ObjectList([pod("a", 1), pod("b", 2), pod("c", 3)], "5"),
        ObjectList([pod("b", 2), pod("c", 8), pod("d", 9)], "10"),
    ]
    cluster.watches = [[Gone("too old")]]
    async with following(cluster) as (_, _, heard):
        assert cluster.watched_from == ["5", "10"]
        assert heard[3:] == [
            ("DELETED", "a@1", "1"),
            ("MODIFIED", "c@8", "3"),
            ("ADDED", "d@9", None),
        ]


async def test_an_object_made_anew_is_told_as_deleted_and_added() -> None:
    cluster = ScriptedCluster()
    cluster.lists = [
        ObjectList([pod("a", 1, uid="first")], "5"),
        ObjectList([pod("a", 8, uid="second")], "10"),
    ]
    cluster.watches = [[Gone("too old")]]
    async with following(cluster) as (_, _, heard):
        assert heard == [("ADDED", "a@1", None), ("DELETED", "a@1", "1"), ("ADDED", "a@8", None)]


async def test_a_broken_watch_resumes_after_a_pause_without_listing() -> None:
    cluster = ScriptedCluster()
    cluster.lists = [ObjectList([], "5")]
    cluster.watches = [
        [event(EventType.ADDED, pod("a", 6)), Unavailable("reset")],
        [Unavailable("refused")],
        [ConnectionResetError()],
    ]
    async with following(cluster) as (_, clock, _):
        assert cluster.watched_from == ["5"]
        await clock.advance(0.05)
        assert cluster.watched_from == ["5", "6"]
        await clock.advance(0.1)
        await clock.advance(0.2)
        assert cluster.watched_from == ["5", "6", "6", "6"]


async def test_waits_for_a_server_that_is_not_there_yet() -> None:
    cluster = ScriptedCluster()
    cluster.lists = [Unavailable("refused"), Unavailable("refused"), ObjectList([], "5")]
    async with following(cluster) as (informer, clock, _):
        assert not informer.synced.is_set()
        await clock.advance(1)
        assert informer.synced.is_set()


async def test_watches_that_end_at_once_are_not_repeated_in_a_tight_loop() -> None:
    cluster = ScriptedCluster()
    cluster.lists = [ObjectList([], "5")]
    cluster.watches = [[] for _ in range(100)]
    async with following(cluster) as (_, clock, _):
        await clock.advance(10)
    assert len(cluster.watched_from) < 20


async def test_indexes_follow_the_objects() -> None:
    cluster = ScriptedCluster()
    cluster.lists = [ObjectList([pod("a", 1, app="x"), pod("b", 2, app="y")], "5")]
    cluster.watches = [
        [event(EventType.MODIFIED, pod("b", 6, app="x")), event(EventType.DELETED, pod("a", 7))]
    ]
    clock = FakeClock()
    informer = Informer(cast(Cluster, cluster), POD, clock=clock)
    informer.add_index("app", lambda obj: obj["metadata"]["labels"].values())
    task = asyncio.create_task(informer.run())
    await clock.settle()
    informer.add_index("late", lambda obj: [obj["metadata"]["name"]])
    assert [obj["metadata"]["name"] for obj in informer.by_index("app", "x")] == ["b"]
    assert informer.by_index("app", "y") == []
    assert len(informer.by_index("late", "b")) == 1
    assert len(informer.list(labels={"app": "x"})) == 1
    assert informer.list("ns", {"app": "z"}) == []
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_handler_that_fails_disturbs_nobody_and_a_late_one_hears_all() -> None:
    cluster = ScriptedCluster()
    cluster.lists = [ObjectList([pod("a", 1)], "5")]
    async with following(cluster) as (informer, _, heard):

        def fail(*_: object) -> None:
            raise ValueError

        informer.on_change(fail)
        late: list[str] = []
        informer.on_change(lambda type, obj, _: late.append(obj["metadata"]["name"]))
        assert late == ["a"]
        assert heard == [("ADDED", "a@1", None)]


async def test_own_writes_are_read_at_once_and_told_once() -> None:
    cluster = ScriptedCluster()
    cluster.lists = [ObjectList([pod("a", 1)], "5")]
    cluster.watches = [[Unavailable("reset")]]
    async with following(cluster) as (informer, clock, heard):
        informer.note_write(pod("b", 7))
        informer.note_write(pod("a", 8))
        cluster.watches = [
            [
                event(EventType.MODIFIED, pod("a", 6)),
                event(EventType.ADDED, pod("b", 7)),
                event(EventType.MODIFIED, pod("a", 8)),
            ]
        ]
        await clock.advance(1)
        assert heard == [("ADDED", "a@1", None), ("ADDED", "b@7", None), ("MODIFIED", "a@8", "1")]


async def test_a_noted_write_that_was_deleted_meanwhile_does_not_come_back() -> None:
    cluster = ScriptedCluster()
    cluster.lists = [ObjectList([], "5")]
    cluster.watches = [[event(EventType.ADDED, pod("a", 6)), event(EventType.DELETED, pod("a", 7))]]
    async with following(cluster) as (informer, _, _):
        informer.note_write(pod("a", 6))
        assert informer.list() == []


async def test_listing_again_keeps_what_was_written_after_the_list() -> None:
    cluster = ScriptedCluster()
    cluster.lists = [ObjectList([], "5"), ObjectList([], "8")]
    cluster.watches = [[Unavailable("reset")]]
    async with following(cluster) as (informer, clock, heard):
        informer.note_write(pod("old", 7))
        informer.note_write(pod("new", 9))
        cluster.watches = [[Gone("too old")]]
        await clock.advance(1)
        assert [obj["metadata"]["name"] for obj in informer.list()] == ["new"]
        assert heard[-1] == ("DELETED", "old@7", "7")


async def test_a_kind_that_nobody_knows_has_no_objects_until_it_is_made_known() -> None:
    cluster = ScriptedCluster()
    cluster.lists = [
        NotFound("404 page not found"),
        Forbidden("pods is forbidden"),
        ObjectList([pod("a", 1)], "1"),
    ]
    async with following(cluster) as (informer, clock, heard):
        assert informer.synced.is_set()
        assert not informer.list()
        await clock.advance(10)
        assert not heard
        await clock.advance(2)
        assert [one[:2] for one in heard] == [("ADDED", "a@1")]
