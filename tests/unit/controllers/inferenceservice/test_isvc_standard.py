"""Standard mode: from an InferenceService to objects and back to its status."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.controllers.inferenceservice.world import crashed, isvc, make_world

from kedge.api.scheme import DEPLOYMENT, HTTP_ROUTE, INFERENCE_SERVICE, POD, SERVICE
from kedge.cluster.base import Object
from kedge.controllers.inferenceservice.observe import Workload
from kedge.settings.serving import ServiceOptions


async def test_a_model_becomes_ready() -> None:
    world = await make_world()
    await world.add(isvc())
    await world.settle("iris")

    assert (await world.condition("iris"))["status"] == "True"
    status = await world.status("iris")
    assert status["url"] == "http://iris-default.localhost:8080"
    assert status["address"] == {"url": "http://127.0.0.1:8080/serving/default/iris"}
    assert status["clusterServingRuntimeName"] == "kedge-sklearnserver"
    assert status["modelStatus"]["transitionStatus"] == "UpToDate"
    assert status["modelStatus"]["copies"] == {"failedCopies": 0, "totalCopies": 1}
    assert status["observedGeneration"] == 1
    assert status["deploymentMode"] == "Standard"
    assert await world.all(DEPLOYMENT) == ["iris-predictor"]
    assert await world.all(SERVICE) == ["iris-predictor"]
    assert await world.all(HTTP_ROUTE) == ["iris", "iris-path", "iris-predictor"]
    assert ("InferenceServiceReady", "InferenceService [iris] is Ready") in await world.events()


async def test_a_service_loses_and_gets_an_address() -> None:
    """What cannot be changed in place is made anew."""
    world = await make_world()
    await world.add(isvc())
    for headless in (True, False, True):
        options = ServiceOptions(service_cluster_ip_none=headless)
        world.config = msgspec.structs.replace(world.config, service=options)
        await world.settle("iris")
        assert world.error is None
        service = await world.get(SERVICE, "iris-predictor")
        assert (service["spec"]["clusterIP"] == "None") is headless
        assert (await world.condition("iris"))["status"] == "True"


async def test_ready_only_when_the_gateway_says_so() -> None:
    world = await make_world(deaf=lambda route: route["metadata"]["name"] == "iris-path")
    await world.add(isvc())
    await world.settle("iris")

    ready = await world.condition("iris")
    assert ready["status"] == "Unknown"
    assert "iris-path" in ready["message"]


async def test_a_crash_takes_ready_away() -> None:
    world = await make_world()
    await world.add(isvc())
    await world.settle("iris")

    world.broken = lambda pod: crashed("ValueError: no such colour", code=3)
    await world.run_workloads()
    await world.run_gateway()
    await world.reconcile("iris")

    ready = await world.condition("iris")
    assert ready["status"] == "False"
    assert "kserve-container" in ready["message"]
    assert "exit code 3" in ready["message"]
    assert "no such colour" in ready["message"]
    assert "Fix: " in ready["message"]
    model = (await world.status("iris"))["modelStatus"]
    assert model["transitionStatus"] == "BlockedByFailedLoad"
    assert model["lastFailureInfo"]["exitCode"] == 3
    assert any("no such colour" in message for _, message in await world.events())

    world.broken = lambda pod: None
    await world.settle("iris")
    assert (await world.condition("iris"))["status"] == "True"


def _deployment(available: str, progressing: str) -> Object:
    conditions = [
        {"type": "Available", "status": available, "reason": "MinimumReplicasUnavailable"},
        {"type": "Progressing", "status": "True", "reason": progressing},
    ]
    return {
        "metadata": {"name": "iris-predictor"},
        "spec": {"replicas": 3},
        "status": {"conditions": conditions},
    }


def _pod(ready: str) -> Object:
    return {"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


@pytest.mark.parametrize(
    ("available", "progressing", "ready", "status"),
    [
        ("False", "NewReplicaSetAvailable", ["True", "False", "False"], "True"),
        ("False", "NewReplicaSetAvailable", ["False", "False", "False"], "False"),
        ("False", "ReplicaSetUpdated", ["True", "False", "False"], "Unknown"),
        ("True", "NewReplicaSetAvailable", ["True", "True", "True"], "True"),
    ],
)
def test_what_grows_stays_ready_while_a_pod_answers(
    available: str, progressing: str, ready: list[str], status: str
) -> None:
    """As a Deployment looks that an autoscaler has just enlarged; its rollout was done before."""
    pods = [_pod(one) for one in ready]
    assert Workload(_deployment(available, progressing), pods).verdict().status == status


def test_a_group_of_nodes_is_ready_only_whole() -> None:
    pods = [_pod("True"), _pod("False")]
    found = Workload(_deployment("False", "NewReplicaSetAvailable"), pods).verdict(whole=True)
    assert (found.status, found.reason) == ("False", "MinimumReplicasUnavailable")


async def test_replicas_are_scaled_and_never_applied() -> None:
    world = await make_world()
    kind, obj = isvc()
    obj["spec"]["predictor"]["minReplicas"] = 2
    await world.add((kind, obj))
    await world.settle("iris")
    assert await world.replicas("iris-predictor") == 2

    # Somebody scales by hand: that stays, however often we reconcile and whatever else changes.
    await world.cluster.scale(DEPLOYMENT, "iris-predictor", "default", 0, field_manager="kubectl")
    await world.settle("iris")
    await world.edit("iris", timeout=7, labels={"a": "b"})
    await world.settle("iris")
    assert await world.replicas("iris-predictor") == 0
    ready = await world.condition("iris")
    assert ready["reason"] == "ScaledToZero"
    assert "kubectl scale deployment iris-predictor -n default --replicas=2" in ready["message"]

    # Until the service itself asks for another number.
    await world.edit("iris", minReplicas=3)
    await world.settle("iris")
    assert await world.replicas("iris-predictor") == 3
    owners = {
        entry["manager"]
        for entry in (await world.get(DEPLOYMENT, "iris-predictor"))["metadata"]["managedFields"]
        if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
    }
    assert owners == {"kedge-autoscaler"}


async def test_stop_and_resume() -> None:
    world = await make_world()
    await world.add(isvc())
    await world.settle("iris")

    await world.annotate("iris", serving__kserve=None, **{"serving.kserve.io/stop": "True"})
    await world.settle("iris")
    status = await world.status("iris")
    assert await world.all(DEPLOYMENT) == await world.all(SERVICE) == []
    assert await world.all(HTTP_ROUTE) == []
    assert (await world.condition("iris"))["reason"] == "Stopped"
    assert (await world.condition("iris", "Stopped"))["status"] == "True"
    assert not {"url", "address", "components"} & set(status)

    await world.annotate("iris", **{"serving.kserve.io/stop": None})
    await world.settle("iris")
    assert (await world.condition("iris"))["status"] == "True"
    assert (await world.condition("iris", "Stopped"))["status"] == "False"


async def test_deletion_waits_for_the_finalizer() -> None:
    world = await make_world()
    await world.add(isvc())
    await world.settle("iris")
    await world.cluster.delete(INFERENCE_SERVICE, "iris", "default")
    assert await world.has(INFERENCE_SERVICE, "iris")
    await world.reconcile("iris")
    assert not await world.has(INFERENCE_SERVICE, "iris")


async def test_a_runtime_that_is_not_there() -> None:
    world = await make_world()
    kind, obj = isvc()
    obj["spec"]["predictor"]["model"]["runtime"] = "kedge-sklernserver"
    await world.add((kind, obj))
    await world.settle("iris")

    ready = await world.condition("iris")
    assert ready["status"] == "False"
    assert ready["reason"] == "RuntimeNotRecognized"
    assert "kedge-sklearnserver" in ready["message"]
    model = (await world.status("iris"))["modelStatus"]
    assert model["transitionStatus"] == "InvalidSpec"
    assert model["lastFailureInfo"]["reason"] == "RuntimeNotRecognized"
    assert world.error is not None
    reasons = [reason for reason, _ in await world.events()]
    assert reasons.count("InternalError") == 1

    await world.edit("iris", model={"runtime": "kedge-sklearnserver"})
    await world.settle("iris")
    assert (await world.condition("iris"))["status"] == "True"


async def test_canary_takes_its_share_when_known() -> None:
    world = await make_world()
    kind, obj = isvc()
    obj["spec"]["predictor"]["minReplicas"] = 4
    await world.add((kind, obj))
    await world.settle("iris")
    assert await world.weights("iris") == {"iris-predictor": 100}

    canary = {
        "predictor": {"name": "blue", "model": {"storageUri": "file:///models/blue"}},
        "trafficPercent": 25,
    }
    await world.cluster.patch(
        INFERENCE_SERVICE, "iris", {"spec": {"canary": [canary]}}, namespace="default"
    )
    world.broken = lambda pod: (
        crashed("x") if pod["metadata"]["name"].startswith("iris-blue") else None
    )
    await world.settle("iris")
    assert await world.weights("iris") == {"iris-predictor-private": 100}
    assert (await world.condition("iris"))["status"] == "True"
    assert (await world.condition("iris", "CanaryPredictorReady"))["status"] == "False"

    world.broken = lambda pod: None
    await world.settle("iris")
    assert await world.weights("iris") == {
        "iris-predictor-private": 75, "iris-blue-predictor": 25,
    }  # fmt: skip
    assert await world.replicas("iris-blue-predictor") == 1
    assert await world.replicas("iris-predictor") == 3
    assert (await world.condition("iris", "CanaryPredictorReady"))["status"] == "True"
    service = await world.get(SERVICE, "iris-predictor")
    assert "selector" not in service["spec"]

    # Promotion: the canary's pods stay, the stable ones go.
    pods = [name for name in await world.all(POD) if name.startswith("iris-blue")]
    await world.cluster.patch(
        INFERENCE_SERVICE,
        "iris",
        {"spec": {"canary": None, "predictor": {
            "name": "blue", "minReplicas": 1,
            "model": {"storageUri": "file:///models/blue"}}}},
        namespace="default",
    )  # fmt: skip
    await world.settle("iris")
    assert await world.all(DEPLOYMENT) == ["iris-blue-predictor"]
    assert [name for name in await world.all(POD) if name.startswith("iris-blue")] == pods
    assert await world.weights("iris") == {"iris-blue-predictor": 100}
    assert (await world.condition("iris"))["status"] == "True"


async def test_a_variant_without_a_share_gets_copies() -> None:
    world = await make_world()
    kind, obj = isvc()
    obj["metadata"].setdefault("annotations", {})["serving.kedge.dev/shadow-percent"] = "30"
    await world.add((kind, obj))
    await world.settle("iris")
    blue = {"name": "blue", "model": {"storageUri": "file:///models/blue"}}
    patch = {"spec": {"canary": [{"predictor": blue, "trafficPercent": 0}]}}
    await world.cluster.patch(INFERENCE_SERVICE, "iris", patch, namespace="default")
    await world.settle("iris")
    route = await world.get(HTTP_ROUTE, "iris")
    mirrors = [
        (mirror["backendRef"]["name"], mirror["percent"])
        for rule in route["spec"]["rules"]
        for item in rule["filters"]
        if (mirror := item.get("requestMirror"))
    ]
    assert set(mirrors) == {("iris-blue-predictor-private", 30)}
    assert len(mirrors) == len(route["spec"]["rules"])
