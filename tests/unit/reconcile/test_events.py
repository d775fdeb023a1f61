"""Events are counted, outlive their recorder, and never stop the work they tell about."""

from __future__ import annotations

from typing import Any, cast

from kedge.api.scheme import Kind
from kedge.cluster.base import Cluster, Object
from kedge.cluster.errors import AlreadyExists, NotFound, Unavailable
from kedge.reconcile import EventRecorder, controller_of, controller_reference
from kedge.testing.clock import FakeClock

POD: Object = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "namespace": "ns", "uid": "u", "resourceVersion": "7"},
}


class EventStore:
    """Just enough of a cluster to hold events."""

    def __init__(self) -> None:
        self.events: dict[str, Object] = {}
        self.broken = False

    async def create(self, kind: Kind, obj: Object) -> Object:
        if self.broken:
            raise Unavailable("away")
        if obj["metadata"]["name"] in self.events:
            raise AlreadyExists("there")
        self.events[obj["metadata"]["name"]] = obj
        return obj

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        return self.events[name]

    async def patch(self, kind: Kind, name: str, patch: Any, *, namespace: str) -> Object:
        if name not in self.events:
            raise NotFound("gone")
        self.events[name] = {**self.events[name], **patch}
        return self.events[name]

    def only(self) -> Object:
        (event,) = self.events.values()
        return event


def make_recorder(store: EventStore, clock: FakeClock) -> EventRecorder:
    return EventRecorder(cast(Cluster, store), "tester", clock)


async def test_an_event_names_its_object_and_its_source() -> None:
    store = EventStore()
    await make_recorder(store, FakeClock()).record(POD, "Warning", "Failed", "it broke")
    event = store.only()
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "ns",
        "name": "p",
        "uid": "u",
        "resourceVersion": "7",
    }
    assert event["source"] == {"component": "tester"}
    assert (event["type"], event["reason"], event["message"]) == ("Warning", "Failed", "it broke")
    assert event["metadata"]["namespace"] == "ns"


async def test_repeats_are_counted_across_restarts_and_expiry() -> None:
    store, clock = EventStore(), FakeClock()
    recorder = make_recorder(store, clock)
    await recorder.record(POD, "Normal", "Pulled", "image")
    await clock.advance(60)
    await recorder.record(POD, "Normal", "Pulled", "image")
    await make_recorder(store, clock).record(POD, "Normal", "Pulled", "image")
    event = store.only()
    assert event["count"] == 3
    assert event["firstTimestamp"] == "2026-01-01T00:00:00Z"
    assert event["lastTimestamp"] == "2026-01-01T00:01:00Z"
    store.events.clear()
    await recorder.record(POD, "Normal", "Pulled", "image")
    assert store.only()["count"] == 3


async def test_other_words_are_another_event() -> None:
    store = EventStore()
    recorder = make_recorder(store, FakeClock())
    await recorder.record(POD, "Normal", "Pulled", "one")
    await recorder.record(POD, "Normal", "Pulled", "two")
    assert len(store.events) == 2


async def test_events_of_cluster_scoped_objects_go_to_default() -> None:
    store = EventStore()
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "uid": "u"}}
    await make_recorder(store, FakeClock()).record(node, "Normal", "Ready", "up")
    assert store.only()["metadata"]["namespace"] == "default"


async def test_a_failing_server_does_not_fail_the_caller() -> None:
    store = EventStore()
    store.broken = True
    await make_recorder(store, FakeClock()).record(POD, "Normal", "Pulled", "image")


def test_the_controller_among_owners() -> None:
    reference = controller_reference(POD)
    other = {**reference, "uid": "v", "controller": False}
    assert controller_of({"metadata": {"ownerReferences": [other, reference]}}) == reference
    assert controller_of({"metadata": {"ownerReferences": [other]}}) is None
    assert controller_of({"metadata": {}}) is None
