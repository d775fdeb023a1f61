"""A service that another controller made the children of, while it is being taken over."""

from __future__ import annotations

from typing import Any

from tests.unit.controllers.inferenceservice.world import NS, World, isvc, make_world

from kedge.api.scheme import DEPLOYMENT, HTTP_ROUTE, INFERENCE_SERVICE, SERVICE
from kedge.cluster.base import Object
from kedge.controllers.inferenceservice import names
from kedge.reconcile.owners import controller_reference


async def theirs(adoption: str) -> World:
    """In Knative mode, with the Services that KServe and Knative give their clients."""
    world = await make_world()
    kind, obj = isvc(mode="Knative")
    obj["metadata"]["annotations"][names.ADOPTION] = adoption
    await world.add((kind, obj))
    stored = await world.get(INFERENCE_SERVICE, "iris")
    route = {"apiVersion": "serving.knative.dev/v1", "kind": "Route", "name": "iris-predictor",
             "uid": "knatives", "controller": True}  # fmt: skip
    for name, owner in (("iris", controller_reference(stored)), ("iris-predictor", route)):
        await world.add((SERVICE, external(name, owner)))
    status = {"components": {"predictor": {"latestCreatedRevision": "iris-predictor-00003"}}}
    await world.cluster.replace_status(INFERENCE_SERVICE, {**stored, "status": status})
    return world


def external(name: str, owner: dict[str, Any]) -> Object:
    metadata = {"name": name, "namespace": NS, "ownerReferences": [owner]}
    spec = {"type": "ExternalName", "externalName": "gateway.knative"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


async def test_what_waits_is_left_alone_and_says_so() -> None:
    world = await theirs(names.WAITING)
    before = await world.get(INFERENCE_SERVICE, "iris")
    await world.settle("iris")
    assert await world.get(INFERENCE_SERVICE, "iris") == before
    assert await world.children() == {("services", "iris"), ("services", "iris-predictor")}
    ((reason, message),) = await world.events()
    assert reason == "NotTakenOver"
    assert "kedge migrate" in message


async def test_what_waits_may_be_deleted() -> None:
    world = await theirs(names.WAITING)
    patch = {"metadata": {"finalizers": [names.FINALIZER]}}
    await world.cluster.patch(INFERENCE_SERVICE, "iris", patch, namespace=NS)
    await world.cluster.delete(INFERENCE_SERVICE, "iris", NS)
    await world.reconcile("iris")
    assert not await world.has(INFERENCE_SERVICE, "iris")


async def test_beside_all_is_made_but_the_services_that_clients_use() -> None:
    world = await theirs(names.BESIDE)
    await world.settle("iris")
    assert await world.all(DEPLOYMENT) == ["iris-predictor-00004"]
    assert await world.all(HTTP_ROUTE) == ["iris", "iris-path", "iris-predictor"]
    assert (await world.condition("iris"))["status"] == "True"
    for name in ("iris", "iris-predictor"):
        service = await world.get(SERVICE, name)
        assert service["spec"]["type"] == "ExternalName"
        assert names.APPLIED_HASH not in (service["metadata"].get("annotations") or {})


async def test_without_the_word_the_services_are_kedges_and_the_pods_stay() -> None:
    world = await theirs(names.BESIDE)
    await world.settle("iris")
    before = await world.get(DEPLOYMENT, "iris-predictor-00004")
    stored = await world.get(INFERENCE_SERVICE, "iris")
    owner = {"metadata": {"ownerReferences": [controller_reference(stored)]}}
    await world.cluster.patch(SERVICE, "iris-predictor", owner, namespace=NS)
    await world.annotate("iris", **{names.ADOPTION: None})
    await world.settle("iris")
    for name in ("iris", "iris-predictor"):
        assert (await world.get(SERVICE, name))["spec"]["type"] == "ClusterIP"
    assert await world.all(DEPLOYMENT) == ["iris-predictor-00004"]
    after = await world.get(DEPLOYMENT, "iris-predictor-00004")
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
