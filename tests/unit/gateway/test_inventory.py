"""Only what a change touches is read again."""

from __future__ import annotations

import pytest
from tests.unit.gateway.objects import make_http_route, make_rule, make_service, make_slice, unbound

from kedge.api.scheme import ENDPOINT_SLICE, HTTP_ROUTE, SERVICE
from kedge.cluster.base import Object
from kedge.gateway.inventory import BY_SERVICE, Inventory, slice_keys
from kedge.gateway.ir import Endpoint
from kedge.reconcile.informer import Informer


class Objects:
    """Three caches that are filled by hand, as a watch would."""

    def __init__(self) -> None:
        self._version = 0
        self._informers = {
            kind.kind: Informer(_Nothing(), kind)  # type: ignore[arg-type] # never asked
            for kind in (HTTP_ROUTE, SERVICE, ENDPOINT_SLICE)
        }
        routes, services, slices = self._informers.values()
        slices.add_index(BY_SERVICE, slice_keys)
        self.inventory = Inventory(routes, services, slices, "kedge/kedge-gateway", unbound)

    async def sync(self) -> Objects:
        for informer in self._informers.values():
            await informer._relist()
        return self

    def put(self, *objects: Object) -> None:
        for obj in objects:
            self._version += 1
            metadata = {**obj["metadata"], "resourceVersion": str(self._version)}
            self._informers[obj["kind"]].note_write({**obj, "metadata": metadata})

    def remove(self, obj: Object) -> None:
        self._informers[obj["kind"]]._remove(obj)


class _Nothing:
    async def list(self, *args: object, **more: object) -> object:
        from kedge.cluster.base import ObjectList

        return ObjectList([], "0")


@pytest.fixture
async def objects() -> Objects:
    return await Objects().sync()


KEY = ("default", "r")


async def test_a_route_brings_its_clusters_and_their_endpoints(objects: Objects) -> None:
    route = make_http_route("r", make_rule("a"), make_rule("b"))
    objects.put(route, make_service("a"), make_slice("a", "127.0.0.2"))
    inventory = objects.inventory
    assert inventory.read_route(KEY)
    assert not inventory.read_route(KEY), "nothing changed"
    assert set(inventory.clusters) == {"default/a/80", "default/b/80"}
    assert inventory.endpoints["default/a/80"].ready == (Endpoint("127.0.0.2", 8080),)
    assert inventory.endpoints["default/b/80"].ready == ()
    assert set(inventory.users("default/a/80")) == {KEY}
    assert inventory.clusters_of(("default", "a")) == ["default/a/80"]
    assert set(inventory.routes_to(("default", "b"))) == {KEY}


async def test_endpoints_change_alone(objects: Objects) -> None:
    route = make_http_route("r", make_rule("a"))
    objects.put(route, make_service("a"), make_slice("a", "127.0.0.2"))
    objects.inventory.read_route(KEY)
    assert objects.inventory.take_moved() == {"default/a/80"}
    objects.inventory.read_endpoints("default/a/80")
    assert objects.inventory.take_moved() == set()
    objects.put(make_slice("a", "127.0.0.3"))
    objects.inventory.read_endpoints("default/a/80")
    assert objects.inventory.take_moved() == {"default/a/80"}
    assert objects.inventory.endpoints["default/a/80"].ready == (Endpoint("127.0.0.3", 8080),)


async def test_a_service_that_appears_changes_the_route(objects: Objects) -> None:
    objects.put(make_http_route("r", make_rule("a")))
    objects.inventory.read_route(KEY)
    objects.put(make_service("a", {"name": "h2c", "port": 80}))
    assert objects.inventory.read_route(KEY)
    assert objects.inventory.clusters["default/a/80"].http2


async def test_a_status_change_is_no_change(objects: Objects) -> None:
    route = make_http_route("r", make_rule("a"))
    objects.put(route)
    objects.inventory.read_route(KEY)
    objects.put({**route, "status": {"parents": []}})
    assert not objects.inventory.read_route(KEY)


async def test_what_no_route_uses_is_forgotten(objects: Objects) -> None:
    first = make_http_route("r", make_rule("a"), make_rule("b"))
    other = make_http_route("other", make_rule("b"))
    objects.put(first, other)
    inventory = objects.inventory
    inventory.read_route(KEY)
    inventory.read_route(("default", "other"))
    objects.put(make_http_route("r", make_rule("b"), generation=2))
    assert inventory.read_route(KEY)
    assert set(inventory.clusters) == {"default/b/80"} == set(inventory.endpoints)
    objects.remove(other)
    assert inventory.read_route(("default", "other"))
    assert set(inventory.clusters) == {"default/b/80"}
    foreign = make_http_route("r", make_rule("b"))
    foreign["spec"]["parentRefs"] = [{"name": "someone-else"}]
    objects.put(foreign)
    assert inventory.read_route(KEY)
    assert not inventory.read_route(KEY)
    assert (inventory.routes, inventory.clusters, inventory.endpoints) == ({}, {}, {})
    assert list(inventory.routes_to(("default", "b"))) == []
