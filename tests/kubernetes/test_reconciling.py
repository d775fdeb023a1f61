"""InferenceServices on a real API server: what becomes of them, and what stays as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.golden.rendering import load
from tests.kubernetes.differences import difference
from tests.kubernetes.standins import (
    all_goes_well,
    condition,
    eventually,
    find,
    pod_ready,
    set_status,
)
from tests.kubernetes.world import World

from kedge.api.scheme import (
    DEPLOYMENT,
    HORIZONTAL_POD_AUTOSCALER,
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    POD,
    SERVICE,
    kind_of,
)
from kedge.cluster.base import Object
from kedge.cluster.kubernetes import KubernetesCluster
from kedge.modes.render import render

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.usefixtures("controller"),
    pytest.mark.timeout(180),
]
GOLDEN = Path(__file__).parents[1] / "golden"


def iris(name: str = "iris", **annotations: str) -> Object:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "predictor": {
                "model": {"modelFormat": {"name": "sklearn"}, "storageUri": "gs://bucket/iris"}
            }
        },
    }


async def ready(cluster: KubernetesCluster, name: str, namespace: str) -> Object:
    async def look() -> Object | None:
        found = await cluster.get(INFERENCE_SERVICE, name, namespace)
        return found if condition(found, "Ready").get("status") == "True" else None

    try:
        return await eventually(look, f"{name} being ready") or {}
    except AssertionError as error:
        found = await cluster.get(INFERENCE_SERVICE, name, namespace)
        raise AssertionError(f"{error}: {found.get('status')}") from None


async def rests(cluster: KubernetesCluster, name: str, namespace: str) -> None:
    """Until the service says that it has no pods and how it gets some."""

    async def look() -> bool:
        said = condition(await cluster.get(INFERENCE_SERVICE, name, namespace), "Ready")
        return said.get("reason") == "ScaledToZero" and "--replicas=1" in said["message"]

    await eventually(look, f"{name} being at rest")


@pytest.mark.parametrize(
    "case",
    ["standard-sklearn", "storage-uris", "transformer-explainer", "canary", "hpa", "pvc",
     "multi-node", "cluster-local", "collocation", "custom-grpc"],
)  # fmt: skip
async def test_children_are_those_of_render(
    world: World, cluster: KubernetesCluster, namespace: str, case: str
) -> None:
    given = load(GOLDEN / f"{case}.in.yaml")
    for obj in given:
        obj["metadata"].pop("generation", None)
        if obj["metadata"].get("namespace"):
            obj["metadata"]["namespace"] = namespace
    given.sort(key=lambda one: kind_of(one) == INFERENCE_SERVICE)  # last, as an author would
    world.apply(*given, namespace=namespace)
    wanted = list(render(given, namespace=namespace).objects)
    assert wanted
    async with all_goes_well(cluster, namespace):
        for isvc in (one for one in given if kind_of(one) == INFERENCE_SERVICE):
            if case == "custom-grpc":
                # It asks for no pods, and that nobody scales it: it rests until somebody does.
                await rests(cluster, isvc["metadata"]["name"], namespace)
            else:
                await ready(cluster, isvc["metadata"]["name"], namespace)

        async def differences() -> list[str]:
            return [text for one in wanted if (text := await difference(cluster, one))]

        async def same() -> bool:
            return not await differences()

        try:
            await eventually(same, "what is rendered", 20)
        except AssertionError:
            raise AssertionError("\n".join(await differences())) from None


async def test_what_is_changed_by_others_is_put_right_and_what_they_add_stays(
    world: World, cluster: KubernetesCluster, namespace: str
) -> None:
    world.apply(iris(), namespace=namespace)
    async with all_goes_well(cluster, namespace):
        await ready(cluster, "iris", namespace)
        name = "iris-predictor-00001"
        added = {
            "metadata": {"annotations": {"example.com/theirs": "1"}, "labels": {"theirs": "1"}},
            "spec": {"minReadySeconds": 1},
        }
        await cluster.patch(DEPLOYMENT, name, added, namespace=namespace)
        drift = {"metadata": {"labels": {"serving.kserve.io/inferenceservice": "iris",
                                         "component": "other"}}}  # fmt: skip
        await cluster.patch(DEPLOYMENT, name, drift, namespace=namespace)
        route = await cluster.get(HTTP_ROUTE, "iris", namespace)
        await cluster.patch(
            HTTP_ROUTE, "iris", {"spec": {"hostnames": ["other.example.com"]}}, namespace=namespace
        )
        await cluster.delete(SERVICE, "iris", namespace)

        async def repaired() -> bool:
            deployment = await cluster.get(DEPLOYMENT, name, namespace)
            now = await cluster.get(HTTP_ROUTE, "iris", namespace)
            service = await find(cluster, SERVICE, "iris", namespace)
            return (
                deployment["metadata"]["labels"].get("component") == "predictor"
                and now["spec"]["hostnames"] == route["spec"]["hostnames"]
                and service is not None
            )

        await eventually(repaired, "repair")
        deployment = await cluster.get(DEPLOYMENT, name, namespace)
        assert deployment["metadata"]["annotations"]["example.com/theirs"] == "1"
        assert deployment["metadata"]["labels"]["theirs"] == "1"
        assert deployment["spec"]["minReadySeconds"] == 1


async def test_what_was_applied_differs_in_nothing_from_what_is_there(
    world: World, cluster: KubernetesCluster, namespace: str
) -> None:
    """What GitOps tools compare: nothing is written into the spec, no field is taken over."""
    world.apply(iris(), namespace=namespace)
    async with all_goes_well(cluster, namespace):
        found = await ready(cluster, "iris", namespace)
    assert found["spec"] == iris()["spec"]
    owners = {
        entry["manager"]: entry["fieldsV1"]
        for entry in found["metadata"]["managedFields"]
        if entry.get("subresource") != "status"
    }
    assert set(owners) == {"kubectl-client-side-apply", "kedge"}
    assert set(owners["kedge"]) == {"f:metadata"}
    assert set(owners["kedge"]["f:metadata"]) == {"f:finalizers"}
    last = found["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
    assert set(found["metadata"]["annotations"]) == {
        "kubectl.kubernetes.io/last-applied-configuration"
    }, last


async def test_pods_are_counted_by_the_autoscaler_alone(
    world: World, cluster: KubernetesCluster, namespace: str
) -> None:
    world.apply(iris(), namespace=namespace)
    async with all_goes_well(cluster, namespace):
        await ready(cluster, "iris", namespace)
        name = "iris-predictor-00001"
        deployment = await cluster.get(DEPLOYMENT, name, namespace)
        owners = [
            entry["manager"]
            for entry in deployment["metadata"]["managedFields"]
            if "f:replicas" in (entry.get("fieldsV1") or {}).get("f:spec", {})
        ]
        assert owners == ["kedge-autoscaler"]
        await cluster.scale(DEPLOYMENT, name, namespace, 3, field_manager="kedge-autoscaler")
        await cluster.patch(
            INFERENCE_SERVICE, "iris", {"metadata": {"labels": {"again": "1"}}},
            namespace=namespace,
        )  # fmt: skip

        async def labelled() -> bool:
            return bool(
                (await cluster.get(DEPLOYMENT, name, namespace))["status"].get("readyReplicas") == 3
            )

        await eventually(labelled, "three pods")
        assert (await cluster.get(DEPLOYMENT, name, namespace))["spec"]["replicas"] == 3


async def test_another_least_count_is_written_to_the_scale(
    world: World, cluster: KubernetesCluster, namespace: str
) -> None:
    (steady,) = load(GOLDEN / "standard-sklearn.in.yaml")
    world.apply(steady, namespace=namespace)
    async with all_goes_well(cluster, namespace):
        await ready(cluster, "iris", namespace)
        more = {"spec": {"predictor": {"minReplicas": 3}}}
        await cluster.patch(INFERENCE_SERVICE, "iris", more, namespace=namespace)

        async def scaled() -> bool:
            found = await cluster.get(DEPLOYMENT, "iris-predictor", namespace)
            return bool(found["spec"]["replicas"] == 3)

        await eventually(scaled, "three pods")


async def test_children_go_with_their_service(
    world: World, cluster: KubernetesCluster, namespace: str
) -> None:
    world.apply(iris(), namespace=namespace)
    async with all_goes_well(cluster, namespace):
        await ready(cluster, "iris", namespace)
        await cluster.delete(INFERENCE_SERVICE, "iris", namespace)

        async def gone() -> bool:
            kinds = (INFERENCE_SERVICE, DEPLOYMENT, SERVICE, HTTP_ROUTE, POD)
            return not [o for k in kinds for o in (await cluster.list(k, namespace)).items]

        await eventually(gone, "an empty namespace")


async def test_a_stopped_service_keeps_nothing_but_itself(
    world: World, cluster: KubernetesCluster, namespace: str
) -> None:
    (steady,) = load(GOLDEN / "hpa.in.yaml")
    world.apply(steady, namespace=namespace)
    async with all_goes_well(cluster, namespace):
        await ready(cluster, "steady", namespace)
        stop = {"metadata": {"annotations": {"serving.kserve.io/stop": "true"}}}
        await cluster.patch(INFERENCE_SERVICE, "steady", stop, namespace=namespace)

        async def gone() -> bool:
            kinds = (DEPLOYMENT, SERVICE, HTTP_ROUTE, HORIZONTAL_POD_AUTOSCALER, POD)
            return not [o for k in kinds for o in (await cluster.list(k, namespace)).items]

        await eventually(gone, "nothing but the service")
    found = await cluster.get(INFERENCE_SERVICE, "steady", namespace)
    assert condition(found, "Stopped")["status"] == "True"


async def test_a_deleted_namespace_goes(
    world: World, cluster: KubernetesCluster, namespace: str
) -> None:
    world.apply(iris(), namespace=namespace)
    async with all_goes_well(cluster, namespace):
        await ready(cluster, "iris", namespace)
        world.api.kubectl("delete", "namespace", namespace, "--wait=true", "--timeout=50s")
    world.api.kubectl("create", "namespace", namespace)


def bind(world: World, pod: Object) -> None:
    """Give a pod to a node, as a scheduler does; it need not be there."""
    metadata = pod["metadata"]
    path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/binding"
    target = {"apiVersion": "v1", "kind": "Node", "name": "nowhere"}
    binding = {
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": metadata["name"]}, "target": target,
    }  # fmt: skip
    world.api.kubectl("create", "--raw", path, "-f", "-", given=json.dumps(binding))


async def test_the_status_says_why_pods_do_not_run(
    world: World, cluster: KubernetesCluster, namespace: str
) -> None:
    world.apply(iris(), namespace=namespace)

    async def first_pod() -> Object | None:
        pods = (await cluster.list(POD, namespace)).items
        return pods[0] if pods else None

    pod = await eventually(first_pod, "a pod")
    assert pod is not None
    bind(world, pod)
    starting = {
        "name": "kserve-container", "ready": False, "restartCount": 0, "image": "x",
        "imageID": "", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    }  # fmt: skip
    status = {**pod_ready(False), "containerStatuses": [starting]}
    await set_status(cluster, POD, pod["metadata"]["name"], namespace, status)

    async def log_is_asked_for() -> bool:
        asked = [one["objectRef"] for one in world.api.audited() if "objectRef" in one]
        return any(
            one.get("subresource") == "log" and one.get("namespace") == namespace for one in asked
        )

    await eventually(log_is_asked_for, "a look into the log")
    waiting = {
        "name": "kserve-container", "ready": False, "restartCount": 3, "image": "x",
        "imageID": "", "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
        "lastState": {"terminated": {
            "exitCode": 1, "reason": "Error",
            "message": "ModelLoadFailed: no model file Fix: put one there"}},
    }  # fmt: skip
    status = {**pod_ready(False), "containerStatuses": [waiting]}
    await set_status(cluster, POD, pod["metadata"]["name"], namespace, status)

    async def told() -> str:
        found = await cluster.get(INFERENCE_SERVICE, "iris", namespace)
        said = condition(found, "PredictorReady").get("message", "")
        return said if "no model file" in said else ""

    assert "put one there" in await eventually(told, "the cause in the status")
    events = world.api.kubectl("get", "events", "-n", namespace, "-o", "wide")
    assert "no model file" in events
