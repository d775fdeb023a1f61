"""Services at zero pods: what the autoscaler and the gateway are told, and what the status says."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.controllers.inferenceservice.world import NS, World, crashed, isvc, make_world

from kedge.api.scheme import DEPLOYMENT, HORIZONTAL_POD_AUTOSCALER, INFERENCE_SERVICE, SERVICE
from kedge.cluster.base import Object
from kedge.controllers.inferenceservice import names

REVISION = "iris-predictor-00001"
DEPLOYMENTS = {"Knative": REVISION, "Standard": "iris-predictor"}
modes = pytest.mark.parametrize("mode", ["Knative", "Standard"])


async def resting(mode: str = "Knative", **predictor: Any) -> World:
    """A service that proved itself and has no pods any more."""
    world = await make_world()
    kind, obj = isvc(mode=mode)
    obj["spec"]["predictor"].update({"minReplicas": 0, **predictor})
    await world.add((kind, obj))
    await world.settle("iris")
    return world


async def metadata(world: World, kind: Any, name: str) -> Object:
    found: Object = (await world.get(kind, name))["metadata"]
    return found


async def test_the_deployment_tells_the_autoscaler() -> None:
    world = await resting(
        maxReplicas=5, scaleTarget=3, scaleMetric="rps", containerConcurrency=2,
        annotations={
            "autoscaling.knative.dev/window": "20s",
            "autoscaling.knative.dev/min-scale": "7",
            "autoscaling.knative.dev/initial-scale": "0",
        },
    )  # fmt: skip
    told = await metadata(world, DEPLOYMENT, REVISION)
    assert told["labels"]["serving.kedge.dev/autoscaled"] == "true"
    annotations = told["annotations"]
    for key, value in {
        "autoscaling.knative.dev/class": "kpa.autoscaling.knative.dev",
        "autoscaling.knative.dev/min-scale": "0",
        "autoscaling.knative.dev/max-scale": "5",
        "autoscaling.knative.dev/target": "3",
        "autoscaling.knative.dev/metric": "rps",
        "autoscaling.knative.dev/window": "20s",
        "serving.kedge.dev/container-concurrency": "2",
        "serving.kedge.dev/service": f"{REVISION}-private",
        "serving.kedge.dev/proven": "true",
        "serving.kedge.dev/reachability": "reachable",
    }.items():
        assert annotations[key] == value, key
    assert "autoscaling.knative.dev/initial-scale" not in annotations
    template = (await world.get(DEPLOYMENT, REVISION))["spec"]["template"]["metadata"]
    assert not [key for key in template["annotations"] if key.startswith("autoscaling")]
    assert "serving.kedge.dev/autoscaled" not in template["labels"]

    service = await metadata(world, SERVICE, f"{REVISION}-private")
    assert service["labels"]["serving.kedge.dev/activation"] == "true"
    assert service["annotations"]["serving.kedge.dev/container-concurrency"] == "2"


@modes
async def test_it_proves_itself_with_one_pod_and_stays_ready_at_zero(mode: str) -> None:
    world = await make_world()
    kind, obj = isvc(mode=mode)
    obj["spec"]["predictor"]["minReplicas"] = 0
    await world.add((kind, obj))
    await world.reconcile("iris")
    assert await world.replicas(DEPLOYMENTS[mode]) == 1
    assert (await world.condition("iris"))["status"] != "True"
    await world.settle("iris")

    assert await world.replicas(DEPLOYMENTS[mode]) == 0
    for type_ in ("Ready", "PredictorReady", "IngressReady"):
        assert (await world.condition("iris", type_))["status"] == "True", type_
    model = (await world.status("iris"))["modelStatus"]
    assert model["transitionStatus"] == "UpToDate"
    assert model["states"] == {"activeModelState": "Loaded", "targetModelState": "Loaded"}
    assert model["copies"]["totalCopies"] == 0
    assert "serving.kedge.dev/Warnings" not in {
        entry["type"] for entry in (await world.status("iris"))["conditions"]
    }
    service = await metadata(world, SERVICE, f"{DEPLOYMENTS[mode]}-private")
    assert service["labels"]["serving.kedge.dev/activation"] == "true"
    assert "selector" not in (await world.get(SERVICE, "iris-predictor"))["spec"]


@modes
async def test_reconciling_at_zero_leaves_it_at_zero(mode: str) -> None:
    world = await resting(mode)
    before = await world._fingerprint()
    for _ in range(2):
        await world.reconcile("iris")
    assert await world._fingerprint() == before
    await world.edit("iris", timeout=9)
    await world.annotate("iris", color="blue")
    for _ in range(2):
        await world.reconcile("iris")
    if mode == "Knative":
        revision = (await world.status("iris"))["components"]["predictor"]["latestCreatedRevision"]
        assert await world.replicas(REVISION) == 0
        assert revision != REVISION, "an annotation reaches the pods"


@modes
async def test_waking_is_no_trouble(mode: str) -> None:
    world = await resting(mode)
    world.asked = {DEPLOYMENTS[mode]: 2}
    world.broken = lambda pod: {"phase": "Pending"}
    await world.settle("iris")
    assert (await world.condition("iris"))["status"] == "True"
    world.broken = lambda pod: None
    await world.settle("iris")
    assert (await world.condition("iris"))["status"] == "True"
    assert (await world.status("iris"))["modelStatus"]["copies"]["totalCopies"] == 2


@modes
async def test_what_cannot_start_is_told_to_the_gateway_and_in_the_status(mode: str) -> None:
    world = await resting(mode)
    service = f"{DEPLOYMENTS[mode]}-private"
    world.asked = {DEPLOYMENTS[mode]: 1}
    world.broken = lambda pod: crashed("OSError: the model's file is gone")
    await world.settle("iris")
    told = (await metadata(world, SERVICE, service))["annotations"][
        "serving.kedge.dev/cannot-start"
    ]
    assert "the model's file is gone" in told
    assert "Fix: " in told
    ready = await world.condition("iris")
    assert ready["status"] == "False"
    assert "the model's file is gone" in ready["message"]

    world.broken = lambda pod: None
    await world.settle("iris")
    annotations = (await metadata(world, SERVICE, service))["annotations"]
    assert names.CANNOT_START not in annotations
    assert (await world.condition("iris"))["status"] == "True"


@modes
async def test_what_no_node_takes_is_told_and_waited_for(mode: str) -> None:
    world = await resting(mode)
    service = f"{DEPLOYMENTS[mode]}-private"
    world.asked = {DEPLOYMENTS[mode]: 1}
    full = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."}  # fmt: skip
    world.broken = lambda pod: {"phase": "Pending", "conditions": [full]}
    await world.settle("iris")
    told = (await metadata(world, SERVICE, service))["annotations"]
    assert "Insufficient nvidia.com/gpu" in told[names.NO_ROOM]
    assert names.CANNOT_START not in told

    world.broken = lambda pod: None
    await world.settle("iris")
    assert names.NO_ROOM not in (await metadata(world, SERVICE, service))["annotations"]
    assert (await world.condition("iris"))["status"] == "True"


async def test_a_changed_template_at_zero_is_tried_before_it_counts() -> None:
    world = await resting("Standard")
    world.broken = lambda pod: crashed("no such model")
    await world.edit("iris", model={"storageUri": "file:///models/other"})
    await world.settle("iris")
    assert await world.replicas("iris-predictor") == 1
    assert (await world.condition("iris"))["status"] == "False"
    world.broken = lambda pod: None
    await world.settle("iris")
    assert await world.replicas("iris-predictor") == 0
    assert (await world.condition("iris"))["status"] == "True"


async def test_beside_a_horizontal_autoscaler_only_the_last_pod_is_kedges() -> None:
    world = await make_world()
    kind, obj = isvc()
    obj["metadata"]["annotations"][names.AUTOSCALER_CLASS] = "hpa"
    obj["spec"]["predictor"] |= {"minReplicas": 0, "maxReplicas": 4}
    await world.add((kind, obj))
    await world.settle("iris")
    told = await metadata(world, DEPLOYMENT, "iris-predictor")
    assert told["labels"]["serving.kedge.dev/autoscaled"] == "true"
    assert told["annotations"]["serving.kedge.dev/scale-range"] == "activation"
    hpa = await world.get(HORIZONTAL_POD_AUTOSCALER, "iris-predictor")
    assert (hpa["spec"]["minReplicas"], hpa["spec"]["maxReplicas"]) == (1, 4)
    assert (await world.condition("iris"))["status"] == "True"


async def test_nobody_wakes_what_nobody_scales() -> None:
    world = await make_world()
    kind, obj = isvc()
    obj["metadata"]["annotations"][names.AUTOSCALER_CLASS] = "none"
    obj["spec"]["predictor"]["minReplicas"] = 0
    await world.add((kind, obj))
    await world.settle("iris")
    assert await world.replicas("iris-predictor") == 0
    labels = (await metadata(world, DEPLOYMENT, "iris-predictor"))["labels"]
    assert "serving.kedge.dev/autoscaled" not in labels
    assert (await world.condition("iris"))["reason"] == "ScaledToZero"
    model = (await world.status("iris"))["modelStatus"]
    assert model["transitionStatus"] == "InProgress"
    assert model["states"] == {"activeModelState": "Pending", "targetModelState": "Pending"}
    assert model["copies"]["totalCopies"] == 0
    # Somebody scales it up, and down again: what was loaded once stays the active model.
    for count, target in ((1, "Loaded"), (0, "Pending")):
        patch = {"spec": {"replicas": count}}
        await world.cluster.patch(DEPLOYMENT, "iris-predictor", patch, namespace=NS)
        await world.settle("iris")
        states = (await world.status("iris"))["modelStatus"]["states"]
        assert states == {"activeModelState": "Loaded", "targetModelState": target}


async def test_what_something_else_takes_to_zero_has_nothing_loaded_there() -> None:
    world = await make_world()
    kind, obj = isvc()
    obj["metadata"]["annotations"][names.AUTOSCALER_CLASS] = "keda"
    obj["spec"]["predictor"] |= {"minReplicas": 0}
    await world.add((kind, obj))
    await world.settle("iris")
    model = (await world.status("iris"))["modelStatus"]
    assert model["states"] == {"activeModelState": "Loaded", "targetModelState": "Loaded"}
    patch = {"spec": {"replicas": 0}}
    await world.cluster.patch(DEPLOYMENT, "iris-predictor", patch, namespace=NS)
    await world.settle("iris")
    model = (await world.status("iris"))["modelStatus"]
    assert model["states"] == {"activeModelState": "Loaded", "targetModelState": "Pending"}
    assert model["transitionStatus"] == "InProgress"


@pytest.mark.parametrize(
    ("annotations", "spec", "scaled"),
    [
        ({}, {}, False),
        ({}, {"minReplicas": 0}, True),
        ({}, {"scaleMetric": "rps"}, True),
        ({}, {"minReplicas": 0, "scaleMetric": "cpu"}, True),
        ({names.AUTOSCALER_CLASS: "external"}, {"minReplicas": 0}, False),
        ({names.AUTOSCALER_CLASS: "keda"}, {"minReplicas": 0}, False),
    ],
)
async def test_who_scales_in_standard_mode(
    annotations: dict[str, str], spec: dict[str, Any], scaled: bool
) -> None:
    world = await make_world()
    kind, obj = isvc()
    obj["metadata"]["annotations"] |= annotations
    obj["spec"]["predictor"] |= spec
    await world.add((kind, obj))
    await world.reconcile("iris")
    labels = (await metadata(world, DEPLOYMENT, "iris-predictor"))["labels"]
    assert (labels.get("serving.kedge.dev/autoscaled") == "true") is scaled
    service = "iris-predictor-private" if spec else "iris-predictor"
    held = (await metadata(world, SERVICE, service))["labels"]
    assert (held.get("serving.kedge.dev/activation") == "true") is bool(spec)


async def test_a_new_revision_of_a_service_at_zero_is_proven_first() -> None:
    world = await resting()
    two = "iris-predictor-00002"
    world.broken = lambda pod: crashed("no") if pod["metadata"]["name"].startswith(two) else None
    await world.edit("iris", model={"storageUri": "file:///models/two"})
    await world.settle("iris")
    assert await world.weights("iris") == {f"{REVISION}-private": 100}
    world.broken = lambda pod: None
    await world.settle("iris")
    assert await world.weights("iris") == {f"{two}-private": 100}
    assert await world.replicas(two) == await world.replicas(REVISION) == 0
    told = (await metadata(world, DEPLOYMENT, REVISION))["annotations"]
    assert told["serving.kedge.dev/reachability"] == "unreachable"


@modes
async def test_what_failed_to_wake_and_was_given_up_is_not_ready_until_it_works(mode: str) -> None:
    world = await resting(mode)
    world.asked = {DEPLOYMENTS[mode]: 1}
    world.broken = lambda pod: crashed("OSError: the model's file is gone")
    await world.settle("iris")
    world.asked = {}
    await world.settle("iris")
    assert await world.replicas(DEPLOYMENTS[mode]) == 0
    ready = await world.condition("iris")
    assert ready["status"] == "False"
    assert "the model's file is gone" in ready["message"]
    assert "next request" in ready["message"]
    # The gateway is to let that request in.
    annotations = (await metadata(world, SERVICE, f"{DEPLOYMENTS[mode]}-private"))["annotations"]
    assert names.CANNOT_START not in annotations
    world.asked = {DEPLOYMENTS[mode]: 1}
    world.broken = lambda pod: None
    await world.settle("iris")
    assert (await world.condition("iris"))["status"] == "True"
    world.asked = {}
    await world.settle("iris")
    assert (await world.condition("iris"))["status"] == "True"


async def test_a_horizontal_autoscaler_in_knative_mode() -> None:
    world = await make_world()
    kind, obj = isvc(mode="Knative")
    obj["metadata"]["annotations"] |= {
        "autoscaling.knative.dev/class": "hpa.autoscaling.knative.dev",
        "autoscaling.knative.dev/target": "70",
    }
    obj["spec"]["predictor"] |= {"minReplicas": 2, "maxReplicas": 5}
    await world.add((kind, obj))
    await world.settle("iris")
    labels = (await metadata(world, DEPLOYMENT, REVISION))["labels"]
    assert names.AUTOSCALED not in labels
    spec = (await world.get(HORIZONTAL_POD_AUTOSCALER, REVISION))["spec"]
    assert spec["scaleTargetRef"]["name"] == REVISION
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 5)
    assert spec["metrics"][0]["resource"]["target"]["averageUtilization"] == 70
    assert await world.replicas(REVISION) == 2
    await world.edit("iris", model={"storageUri": "file:///models/two"})
    await world.settle("iris")
    assert await world.replicas(REVISION) == 0
    assert await world.replicas("iris-predictor-00002") == 2


async def test_a_canary_of_a_service_at_zero() -> None:
    world = await resting("Standard")
    canary = {
        "predictor": {"name": "blue", "model": {"storageUri": "file:///models/blue"}},
        "trafficPercent": 25,
    }
    patch = {"spec": {"canary": [canary]}}
    await world.cluster.patch(INFERENCE_SERVICE, "iris", patch, namespace=NS)
    await world.settle("iris")
    assert await world.replicas("iris-blue-predictor") == 0
    assert await world.weights("iris") == {
        "iris-predictor-private": 75, "iris-blue-predictor-private": 25,
    }  # fmt: skip
    status = await world.status("iris")
    assert status["canaryStatuses"] == [{"name": "blue", "ready": True, "trafficPercent": 25}]
    assert (await world.condition("iris"))["status"] == "True"
    service = await metadata(world, SERVICE, "iris-blue-predictor-private")
    assert service["labels"]["serving.kedge.dev/activation"] == "true"
