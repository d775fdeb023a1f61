"""Revisions and the model files they are made of."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.controllers.inferenceservice.world import World, crashed, isvc, make_world

from kedge.api.scheme import DEPLOYMENT
from kedge.controllers.inferenceservice.pins import model_volumes, pins_of

ONE, TWO = (f"iris-predictor-{n:05d}" for n in (1, 2))


class Keeper:
    """Folders and what they hold."""

    def __init__(self, **held: str) -> None:
        self.held = held

    async def pin(self, namespace: str, volume: dict[str, Any], sub_path: str) -> str | None:
        place = volume.get("hostPath", {}).get("path") or volume["persistentVolumeClaim"]
        return self.held.get(str(place).rpartition("/")[2])


async def served(keeper: Keeper) -> World:
    world = await make_world()
    world.reconciler.keeper = keeper
    await world.add(isvc(mode="Knative"))
    await world.settle("iris")
    return world


async def pinned(world: World, name: str) -> dict[str, Any]:
    return pins_of(await world.get(DEPLOYMENT, name))


async def test_a_revision_keeps_what_it_was_made_of() -> None:
    keeper = Keeper(iris="sha256:a")
    world = await served(keeper)
    first = {"kserve-provision-location": {"digest": "sha256:a"}}
    assert await pinned(world, ONE) == first
    template = (await world.get(DEPLOYMENT, ONE))["spec"]["template"]
    assert template["spec"]["volumes"][0]["hostPath"]["path"] == "/models/iris"

    # Other files make no revision by themselves, nor do they change one.
    keeper.held["iris"] = "sha256:b"
    await world.settle("iris")
    await world.edit("iris", minReplicas=2)
    await world.settle("iris")
    assert await world.all(DEPLOYMENT) == [ONE]
    assert await pinned(world, ONE) == first

    # A restart does: the same URI, the files of now.
    await world.edit("iris", annotations={"serving.kedge.dev/restarted-at": "now"})
    await world.settle("iris")
    assert await world.all(DEPLOYMENT) == [ONE, TWO]
    assert await pinned(world, ONE) == first
    assert await pinned(world, TWO) == {"kserve-provision-location": {"digest": "sha256:b"}}


async def test_until_it_was_ready_it_takes_what_is_put_there() -> None:
    keeper = Keeper()
    world = await make_world(broken=lambda pod: crashed("No sklearn model in /mnt/models"))
    world.reconciler.keeper = keeper
    await world.add(isvc(mode="Knative"))
    await world.settle("iris")
    assert await pinned(world, ONE) == {}
    keeper.held["iris"] = "sha256:half"
    await world.settle("iris")
    keeper.held["iris"] = "sha256:whole"
    world.broken = lambda pod: None
    await world.settle("iris")
    assert await pinned(world, ONE) == {"kserve-provision-location": {"digest": "sha256:whole"}}
    assert (await world.condition("iris"))["status"] == "True"


def mount(name: str, path: str = "/mnt/models", **more: Any) -> dict[str, Any]:
    return {"name": name, "mountPath": path, "readOnly": True, **more}


@pytest.mark.parametrize(
    ("why", "mounts", "found"),
    [
        ("the model's folder", [mount("v")], [("v", "")]),
        ("a part of a claim", [mount("v", subPath="a/b")], [("v", "a/b")]),
        ("below it", [mount("v", "/mnt/models/a")], [("v", "")]),
        ("something else", [mount("v", "/data")], []),
        ("it is written", [mount("v", readOnly=False)], []),
        ("two parts", [mount("v", subPath="a"), mount("v", "/x", subPath="b")], []),
        ("nobody mounts it", [], []),
    ],
)
def test_model_volumes(
    why: str, mounts: list[dict[str, Any]], found: list[tuple[str, str]]
) -> None:
    volumes: list[dict[str, Any]] = [{"name": "v", "hostPath": {"path": "/m"}}]
    pod = {"volumes": volumes, "containers": [{"name": "c", "volumeMounts": mounts}]}
    assert [(one.name, one.sub_path) for one in model_volumes(pod)] == found
    volumes[0] = {"name": "v", "emptyDir": {}}
    assert model_volumes(pod) == []


async def test_pins_that_cannot_be_read_count_for_nothing() -> None:
    world = await served(Keeper(iris="sha256:a"))
    live = await world.get(DEPLOYMENT, ONE)
    annotations = live["spec"]["template"]["metadata"]["annotations"]
    for text in ("{", json.dumps([1])):
        annotations["serving.kedge.dev/model-pins"] = text
        assert pins_of(live) == {}
